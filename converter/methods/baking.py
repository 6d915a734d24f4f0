"""From a preset's settings to the numbers that go into `config.json`: frequencies solved, pairs selected."""

from __future__ import annotations

import base64
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ropext.converter.checkpoint.rope import plain_inv_freq
from ropext.converter.errors import InvalidPreset, Problem

from . import frequencies

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from ropext.converter.checkpoint.facts import ModelFacts
    from ropext.converter.preset import Preset

__all__ = ["Baked", "bake", "scores_problem"]


@dataclass(frozen=True)
class Baked:
    """A method made ready for one model; the fields of `rope_ext` in the same names.

    Attributes:
        parameters: the preset's, without what was only needed to get here.
        inv_freq: radians per token, [pairs].
        tables: packed tables; empty where the method has none.
        notes: sentences for the summary.
    """

    parameters: dict[str, Any]
    inv_freq: list[float]
    tables: dict[str, Any]
    notes: tuple[str, ...]


def bake(preset: Preset, facts: ModelFacts, base_inv_freq: Sequence[float]) -> Baked:
    """Compute what a preset leaves to be computed.

    Args:
        preset: one that fits the model.
        facts: the model.
        base_inv_freq: the base's frequencies, its own scaling included, radians per token [pairs].

    Raises:
        InvalidPreset: when the file of dimension scores does not suit the model.
    """
    return _BAKERS.get(preset.method, _bake_as_it_is)(preset, facts, [float(each) for each in base_inv_freq])


def scores_problem(preset: Preset, facts: ModelFacts) -> Problem | None:
    """What keeps the preset's dimension scores from being used for the model, if anything does."""
    try:
        _read_scores(preset, facts)
    except InvalidPreset as error:
        return error.problems[0]
    return None


def _bake_dpe(preset: Preset, facts: ModelFacts, inv_freq: list[float]) -> Baked:
    parameters = {key: value for key, value in preset.parameters.items() if key != "dimension_scores"}
    factors = " ".join(map(str, parameters["scale_factors"]))
    window = parameters["local_window"]
    note = f"distances beyond {window} tokens are divided by {factors}, from high to low frequency"
    if "top_k" not in parameters:
        return Baked(parameters, inv_freq, {}, (note,))
    selected = _select(_read_scores(preset, facts), parameters["top_k"])
    selection = f"{parameters['top_k']} of {facts.rotary_dim // 2} pairs scaled in each layer and query head"
    return Baked(parameters, inv_freq, {"selected_pairs": _pack(selected)}, (note, selection))


def _bake_dprope(preset: Preset, facts: ModelFacts, inv_freq: list[float]) -> Baked:
    factor = _scaling_factor(preset)
    finished: Sequence[float] | None = preset.parameters.get("scaling_factors")
    factors = _solve(preset, inv_freq, factor) if finished is None else list(finished)
    parameters = {**preset.parameters, "scaling_factor": factor, "scaling_factors": factors}
    changed = sum(not math.isclose(each, 1.0) for each in factors)
    note = f"{changed} of {len(factors)} frequency pairs changed, the largest divided by {max(factors):g}"
    return Baked(parameters, [w / s for w, s in zip(inv_freq, factors, strict=True)], {}, (note,))


def _solve(preset: Preset, inv_freq: list[float], factor: float) -> list[float]:
    from .dprope import solve

    solution = solve(
        inv_freq,
        preset.initial_window,
        preset.target_window,
        scaling_factor=factor,
        intervals=preset.parameters["intervals"],
        candidates=preset.parameters["candidates"],
        threshold=preset.parameters["threshold"],
    )
    return [float(each) for each in solution.factors]


def _scaling_factor(preset: Preset) -> float:
    """What the preset says, or how many times longer the target is."""
    return float(preset.parameters.get("scaling_factor", preset.target_window / preset.initial_window))


def _bake_linear(preset: Preset, facts: ModelFacts, inv_freq: list[float]) -> Baked:
    factor = _scaling_factor(preset)
    note = f"every frequency divided by {factor:g}, at every length"
    return Baked({**preset.parameters, "scaling_factor": factor}, frequencies.linear(inv_freq, factor), {}, (note,))


def _bake_ntk(preset: Preset, facts: ModelFacts, inv_freq: list[float]) -> Baked:
    factor = _scaling_factor(preset)
    parameters = {**preset.parameters, "scaling_factor": factor}
    theta = frequencies.ntk_theta(facts.rope_theta, factor, facts.rotary_dim)
    if facts.rope_type == "default":
        note = f"theta raised from {facts.rope_theta:g} to {theta:g}, at every length"
        return Baked(parameters, plain_inv_freq(theta, facts.rotary_dim), {}, (note,))
    note = f"frequencies divided by 1 at the highest to {factor:g} at the lowest, at every length"
    return Baked(parameters, frequencies.ntk(inv_freq, factor), {}, (note,))


def _bake_dynamic_ntk(preset: Preset, facts: ModelFacts, inv_freq: list[float]) -> Baked:
    factor = _scaling_factor(preset)
    note = f"the base up to {preset.initial_window} tokens; beyond, theta grows with the length (factor {factor:g})"
    return Baked({**preset.parameters, "scaling_factor": factor}, inv_freq, {}, (note,))


def _bake_yarn(preset: Preset, facts: ModelFacts, inv_freq: list[float]) -> Baked:
    factor = _scaling_factor(preset)
    attention_factor = float(preset.parameters.get("attention_factor", frequencies.yarn_attention_factor(factor)))
    parameters = {**preset.parameters, "scaling_factor": factor, "attention_factor": attention_factor}
    options = {key: parameters[key] for key in ("beta_fast", "beta_slow", "truncate")}
    scaled = frequencies.yarn(facts.rope_theta, facts.rotary_dim, preset.initial_window, factor, **options)
    kept = sum(new == old for new, old in zip(scaled, inv_freq, strict=True))
    note = f"{kept} of {len(scaled)} frequency pairs kept; queries and keys times {attention_factor:g}, at every length"
    return Baked(parameters, scaled, {}, (note,))


def _bake_gali(preset: Preset, facts: ModelFacts, inv_freq: list[float]) -> Baked:
    parameters = dict(preset.parameters)
    window, initial = parameters["local_window"], preset.initial_window
    group = math.ceil((preset.target_window - window) / (initial - window))
    note = f"{preset.target_window} tokens fit {initial} positions, at most {group} tokens to a position"
    return Baked(parameters, inv_freq, {}, (note,))


def _bake_as_it_is(preset: Preset, facts: ModelFacts, inv_freq: list[float]) -> Baked:
    """For methods whose parameters are all they need."""
    return Baked(dict(preset.parameters), inv_freq, {}, ())


_BAKERS: Mapping[str, Callable[[Preset, ModelFacts, list[float]], Baked]] = {
    "dpe": _bake_dpe,
    "dprope": _bake_dprope,
    "dynamic_ntk": _bake_dynamic_ntk,
    "linear": _bake_linear,
    "ntk": _bake_ntk,
    "yarn": _bake_yarn,
    "gali": _bake_gali,
}


# The selection of pairs

_MOST_SCORES = 1 << 24


def _read_scores(preset: Preset, facts: ModelFacts) -> npt.NDArray[np.floating[Any]]:
    """Contribution of each pair [layers, query heads, pairs]."""
    file = preset.directory / preset.parameters["dimension_scores"]
    shape = (facts.num_hidden_layers, facts.num_attention_heads, facts.rotary_dim // 2)
    try:
        scores = _load_tensor(str(file), "scores")
    except ValueError as error:
        raise _bad_scores(preset, f"{file}: {error}") from None
    if scores.shape != shape:
        message = f"{file}: scores is {list(scores.shape)}; {facts.source} needs {list(shape)}"
        raise _bad_scores(preset, f"{message} (layers, query heads, pairs of dimensions): measure them on this model")
    return scores


def _load_tensor(file: str, name: str) -> npt.NDArray[np.floating[Any]]:
    """Read one finite floating-point tensor.

    Raises:
        ValueError: with what is wrong, when it cannot be had.
    """
    import numpy as np
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="numpy") as tensors:
            if name not in tensors.keys():  # noqa: SIM118 - it is no mapping
                raise ValueError(f"has no tensor {name!r}, only {sorted(tensors.keys())}")
            shape = tensors.get_slice(name).get_shape()
            if math.prod(shape) > _MOST_SCORES:
                raise ValueError(f"{name} is {shape}, more than any model has")
            array = np.asarray(tensors.get_tensor(name))
    except (SafetensorError, TypeError, AttributeError) as error:
        raise ValueError(f"cannot be read ({error}); write {name!r} as float32 safetensors") from None
    if array.dtype.kind != "f":
        raise ValueError(f"{name} is of type {array.dtype}; write it as float32")
    if not np.isfinite(array).all():
        raise ValueError(f"{name} holds NaN or infinity; measure it again")
    return array


def _bad_scores(preset: Preset, message: str) -> InvalidPreset:
    return InvalidPreset([preset.problem(message, "parameters", "dimension_scores")])


def _select(scores: npt.NDArray[np.floating[Any]], top_k: int) -> npt.NDArray[np.bool_]:
    """Mark the k highest scores along the last axis; of equal ones the first."""
    import numpy as np

    selected = np.zeros(scores.shape, dtype=np.bool_)
    best = np.argsort(-scores, axis=-1, kind="stable")[..., :top_k]
    np.put_along_axis(selected, best, True, axis=-1)
    return selected


def _pack(table: npt.NDArray[np.bool_]) -> dict[str, Any]:
    """Booleans in C order, eight to a byte, the first in the lowest bit."""
    import numpy as np

    packed = np.packbits(table, axis=None, bitorder="little").tobytes()
    return {"shape": list(table.shape), "bits": base64.b64encode(packed).decode("ascii")}
