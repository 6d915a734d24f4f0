"""Native exports of every type of the zoo: written, loaded by stock classes, and held to the formula by running them.

What counts is what the layers do to queries and keys, so that a key that nobody reads is found.
"""

from __future__ import annotations

import copy
import inspect
import json
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText

from ropext.converter.checkpoint.description import Description, base_inv_freq, describe
from ropext.converter.checkpoint.facts import facts_of
from ropext.converter.checkpoint.families import FAMILIES
from ropext.converter.convert.native import native_config, native_notes
from ropext.converter.errors import RopextError
from ropext.converter.methods.registry import bake
from ropext.converter.presets.fit import check_fit
from ropext.converter.presets.load import make_preset

from . import probe, zoo, zoo_composites

WINDOW, TARGET, FAR = 512, 2048, 977
TOLERANCE = 1e-4
"""Of the difference to a query that is turned by the formula, over its size; float32 tables give 1e-6."""

PLAIN, YARN, LLAMA3, LINEAR, MSCALE = "plain", "yarn", "llama3", "linear", "yarn with mscale"
SCALINGS: Mapping[str, dict[str, Any]] = {
    YARN: {"rope_type": "yarn", **zoo.YARN},
    LLAMA3: {"rope_type": "llama3", **zoo.LLAMA_3},
    LINEAR: {"rope_type": "linear", "factor": 4.0},
    MSCALE: {"rope_type": "yarn", **zoo.YARN, "mscale": 1.0, "mscale_all_dim": 0.7},
}
CASES = (
    *((PLAIN, method) for method in ("linear", "ntk", "dynamic_ntk", "yarn", "dprope", "profile")),
    *((YARN, "yarn"), (YARN, "linear"), (LLAMA3, "yarn"), (LLAMA3, "linear"), (LINEAR, "yarn"), (LINEAR, "linear")),
    (MSCALE, "yarn"),
)
"""What a base is scaled by, and the method."""


def names() -> list[str]:
    """The types of the zoo that the installed transformers has, and those of the composites that are not in it."""
    found = [name for name in zoo.ROWS if zoo.available(name)]
    return found + [name for name in zoo_composites.TEXT if zoo_composites.available(name)]


def base(name: str) -> dict[str, Any]:
    """The `config.json` of a type's tiny base, as the installed transformers saves it."""
    made = (zoo_composites if name in zoo_composites.TEXT else zoo).config(name)
    found: dict[str, Any] = json.loads(made.to_json_string())
    if name == "ministral3":
        found["rope_parameters"] = copy.deepcopy(zoo_composites.MINISTRAL3["rope_parameters"])
    stem = FAMILIES[found["model_type"]].stock_class if found["model_type"] in FAMILIES else ""
    return {**found, "architectures": [stem]}


def scaled(config: Mapping[str, Any], scaling: str) -> dict[str, Any] | None:
    """Scale a base; None where it is scaled by itself, or the scaling is none of its family's."""
    found = copy.deepcopy(dict(config))
    if scaling == PLAIN:
        return found
    text = found.get("text_config", found)
    family = FAMILIES.get(text.get("model_type"))
    if family is None or (scaling == MSCALE and not family.latent):
        return None
    parameters = text.get("rope_parameters") or {}
    parameters = parameters.get("full_attention", parameters)
    if not parameters or parameters.get("rope_type") != "default":
        return None
    parameters.update(SCALINGS[scaling])
    return found


@dataclass(frozen=True)
class Export:
    """A native export.

    Attributes:
        config: its `config.json`.
        base: the description of its base.
        method: the method.
        inv_freq: what the formula gives for full layers, radians per token [pairs].
        attention: what queries and keys are multiplied by, each.
        scale: what the scale of attention is multiplied by beside.
        notes: what the user is told of single versions.
    """

    config: dict[str, Any]
    base: Description
    method: str
    inv_freq: tuple[float, ...]
    attention: float
    scale: float = 1.0
    notes: tuple[str, ...] = ()


def export(config: Mapping[str, Any], method: str) -> Export:
    """Write a native export of a base.

    Raises:
        RopextError: it is refused.
    """
    given, found = dict(config), describe(config)
    facts = facts_of(given, "tiny")
    pairs = len(found.inv_freq)
    divisors = [1.0 + pair % 4 for pair in range(pairs)]
    parameters = {"dprope": {"scaling_factors": divisors}, "profile": {"shape": "uniform"}}.get(method, {})
    preset = make_preset(
        {
            "name": "tiny",
            "description": "tiny",
            "base_model": "tiny",
            "initial_window": WINDOW,
            "target_window": TARGET,
            "method": method,
            "parameters": parameters,
        }
    )
    if problems := check_fit(preset, facts):
        raise RopextError("; ".join(str(problem) for problem in problems))
    baked = bake(preset, facts, base_inv_freq(given))
    written = json.loads(json.dumps(native_config(given, facts, preset, baked)))
    by = facts.attention_factor * baked.parameters.get("attention_factor", 1.0)
    scale = _scale(facts.rope_scaling, method) if FAMILIES[found.text_model_type].latent else 1.0
    return Export(written, found, method, tuple(baked.inv_freq), by, scale, native_notes(given))


def _scale(scaling: Mapping[str, Any], method: str) -> float:
    """DeepSeek's: (0.1 m ln s + 1)^2, by the factor that the method makes."""
    weight = scaling.get("mscale_all_dim")
    if not weight:
        return 1.0
    factor = TARGET / float(scaling["original_max_position_embeddings"]) if method == "yarn" else scaling["factor"]
    return float(0.1 * weight * torch.log(torch.tensor(factor, dtype=torch.float64)) + 1) ** 2


# Loading


def load(config: Mapping[str, Any]) -> Any:
    """Load a configuration as a user does, into a stock model with seeded weights."""
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        (Path(folder) / "config.json").write_text(json.dumps(config))
        read = AutoConfig.from_pretrained(folder)
        auto = AutoModelForImageTextToText if "text_config" in config else AutoModelForCausalLM
        torch.manual_seed(0)
        return auto.from_config(read).eval()


def unscaled(config: Mapping[str, Any]) -> dict[str, Any]:
    """The same model with RoPE's own frequencies."""
    found = copy.deepcopy(dict(config))
    text = found.get("text_config", found)
    plain = ("rope_theta", "partial_rotary_factor", "mrope_section", "mrope_interleaved", "llama_4_scaling_beta")
    old, new = text.get("rope_scaling"), text["rope_parameters"]
    nested = {kind: entry for kind, entry in new.items() if isinstance(entry, dict)}
    for entry in nested.values() or [new]:
        own = (*plain, "original_max_position_embeddings") if "llama_4_scaling_beta" in entry else plain
        kept = {key: value for key, value in entry.items() if key in own}
        entry.clear()
        entry.update(kept, rope_type="default")
    if old:
        text["rope_scaling"] = {"rope_type": "default", **new} if "mrope_section" in old else None
    return found


# Running


class NotWatched(Exception):
    """What an attention of its own does cannot be seen."""


def differences(made: Export) -> Iterator[str]:
    """Say where a stock model does something else than the formula says.

    Raises:
        NotWatched: its attention is code of its own.
        Exception: the stock class refuses the configuration, or cannot run.
    """
    with torch.no_grad():
        model, reference = (decoder_of(load(config)) for config in (made.config, unscaled(made.config)))
        still, one, far = (_record(model, position) for position in (0, 1, FAR))
        plain, plain_far = (_record(reference, position) for position in (0, FAR))
        for calls in zip(still, one, far, plain, plain_far, strict=True):
            yield from _of_layer(made, *calls)
        yield from _of_axes(made, model, still)
        if made.method != "dynamic_ntk":
            yield from _of_tables(made, model, by_attribute=not still)
        elif not still:
            raise NotWatched("its attention asks for no attention function, so what grows with the length is not seen")


def decoder_of(model: Any) -> Any:
    """The text model; older versions of some classes do not say which it is."""
    if hasattr(model, "get_decoder"):
        return model.get_decoder()
    return getattr(model.base_model, "text_model", model.base_model)


def _of_layer(
    made: Export, still: probe.Call, one: probe.Call, far: probe.Call, plain: probe.Call, plain_far: probe.Call
) -> Iterator[str]:
    layer, of = still.module.layer_idx, made.base
    turns, turned = probe._differs(still, far), probe._differs(plain, plain_far)
    if turns != turned:
        yield f"layer {layer}: {'turns' if turns else 'does not turn'}"
    if not turns:
        return
    acted = layer in of.layers or not of.per_type
    near = made.inv_freq
    expected = near if made.method != "dynamic_ntk" else grown(made)
    if acted:
        for name, call, frequencies, position in (("near", one, near, 1), ("far", far, expected, FAR)):
            error = _error(of, still, call, frequencies, position)
            if error > TOLERANCE:
                yield f"layer {layer}, {name}: {error:.1e} from the formula"
    elif (off := float((far.key - plain_far.key).abs().max())) > TOLERANCE:
        yield f"layer {layer}, which slides, was changed: {off:.1e}"
    yield from _of_factor(made, layer, still, plain, made.attention if acted else 1.0)
    scales = [call.arguments.get("scaling") for call in (still, plain)]
    if None not in scales and abs(scales[0] / scales[1] - made.scale) > 1e-5:
        yield f"layer {layer}: scale of attention times {scales[0] / scales[1]:.5f}, not {made.scale:.5f}"


def _of_factor(made: Export, layer: int, still: probe.Call, plain: probe.Call, by: float) -> Iterator[str]:
    """Compare what turned dimensions are multiplied by; norms after the rotation take it out again."""
    of = made.base
    width = slice(of.first, of.first + 2 * len(of.inv_freq))
    found = float(still.key[..., width].norm() / plain.key[..., width].norm())
    normed = of.norms_after or of.model_type == "nanochat"
    if abs(found - (1.0 if normed else by)) > (1e-3 if normed else 1e-5):
        yield f"layer {layer}: queries and keys times {found:.5f}, not {by:.5f}"


def _error(of: Description, still: probe.Call, moved: probe.Call, inv_freq: tuple[float, ...], position: int) -> float:
    turns = probe.Turns(of.layout, of.first, of.sign, inv_freq, of.head_dim)
    gains = [getattr(still.module, name).weight.double() for name in of.norms_after] or [torch.ones(1)] * 2
    errors = []
    for start, end, gain in ((still.query, moved.query, gains[0]), (still.key, moved.key, gains[1])):
        begun, ended = start / gain, end / gain
        ended = ended * (begun.norm() / ended.norm())  # Ministral 3's queries grow with their position
        errors.append(float((probe.turn(begun, position, turns) - ended).abs().max() / begun.abs().max()))
    return max(errors)


def grown(made: Export) -> tuple[float, ...]:
    """Dynamic NTK's frequencies for as many tokens as the far position needs (arXiv 2309.00071, section 3.3)."""
    dim, length, factor = 2 * len(made.inv_freq), FAR + 1, TARGET / WINDOW
    theta = made.base.rope.theta * (factor * length / WINDOW - (factor - 1)) ** (dim / (dim - 2))
    return tuple(theta ** (-2 * pair / dim) for pair in range(dim // 2))


def _of_axes(made: Export, model: Any, still: list[probe.Call]) -> Iterator[str]:
    """Move a token along one axis alone: the pairs of that axis turn."""
    if not made.base.axes or made.method == "dynamic_ntk":
        return
    for axis in range(3):
        positions = torch.zeros(3, 1, 1, dtype=torch.long)
        positions[axis] = FAR
        moved = _record(model, positions)
        frequencies = tuple(w if of == axis else 0.0 for w, of in zip(made.inv_freq, made.base.axes, strict=True))
        for before, after in zip(still, moved, strict=True):
            error = _error(made.base, before, after, frequencies, FAR)
            if error > TOLERANCE:
                yield f"layer {before.module.layer_idx}, axis {axis}: {error:.1e} from the formula"


def _record(decoder: Any, positions: int | Tensor) -> list[probe.Call]:
    """Run one token at a position, or at one for each axis [3, 1, 1]."""
    at = positions if isinstance(positions, Tensor) else torch.tensor([[positions]])
    # Old versions of Phi MoE make as many rotations as this says.
    known = "cache_position" in inspect.signature(decoder.forward).parameters and at.dim() == 2
    before = decoder.config._attn_implementation
    decoder.config._attn_implementation = probe.NAME
    probe._seen.clear()
    try:
        given = {"cache_position": at[0]} if known else {}
        decoder(torch.tensor([[3]]), position_ids=at, use_cache=False, **given)
    finally:
        decoder.config._attn_implementation = before
    return list(probe._seen)


def _of_tables(made: Export, model: Any, *, by_attribute: bool) -> Iterator[str]:
    """Look for the formula's numbers, to seven digits, among the model's tables."""
    wanted = torch.tensor(made.inv_freq)
    found = [(table, 1.0) for table in probe._tables(model)] + list(_computed_tables(model))
    tables = [table for table, _ in found if table.shape == wanted.shape]
    if not any(torch.allclose(table.cpu(), wanted, rtol=1e-6, atol=0) for table in tables):
        yield "no table has the formula's frequencies to seven digits"
    factors = [factor for _, factor in _computed_tables(model)]
    factors += [getattr(module, "attention_scaling", 1.0) for module in model.modules() if hasattr(module, "inv_freq")]
    if by_attribute and not any(abs(factor - made.attention) < 1e-5 for factor in factors):
        yield f"queries and keys times {factors}, not {made.attention:.5f}"


def _computed_tables(model: Any) -> Iterator[tuple[Tensor, float]]:
    """Frequencies and factors of modules that compute them anew for each prompt, as Phi MoE's did."""
    for module in model.modules():
        if hasattr(module, "rope_init_fn") and not any(name.endswith("inv_freq") for name in vars(module)["_buffers"]):
            table, factor = module.rope_init_fn(module.config, torch.device("cpu"), FAR + 1)
            yield table, getattr(module, "short_mscale", None) or factor


# All of it


def outcome(config: Mapping[str, Any], scaling: str, method: str) -> str:
    """Say what comes of one case: `ok`, `refused: …`, `stock …` or `differs: …`; empty where it is none."""
    given = scaled(config, scaling)
    if given is None:
        return ""
    try:
        made = export(given, method)
    except RopextError as error:
        return f"refused: {' '.join(str(error).split())}"
    try:
        found = list(differences(made))
    except NotWatched as error:
        return f"not watched: {error}"
    except Exception as error:
        return _raised(made, error)
    if found and made.notes:
        return f"noted: {made.notes[0]}"
    return f"differs: {'; '.join(found[:3])}" if found else "ok"


def _raised(made: Export, error: Exception) -> str:
    """What to say of an export that a stock class refuses: whether it refuses one without scaling too."""
    said = f"{type(error).__name__}: {' '.join(str(error).split())[:120]}"
    try:
        with torch.no_grad():
            _record(decoder_of(load(unscaled(made.config))), 0)
    except Exception:
        return f"stock cannot run the base either: {said}"
    return f"stock raises: {said}"
