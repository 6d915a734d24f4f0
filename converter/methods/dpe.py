"""DPE: beyond a local window, each group of frequency pairs has a scale of its own (arXiv 2504.18857)."""

from __future__ import annotations

import base64
import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from ropext.converter.errors import Fault, InvalidPreset, Problem

from .base import Baked, Heads, Method, Settings, Suggestion, Wish, parameter_fault

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from ropext.converter.checkpoint.facts import ModelFacts
    from ropext.converter.preset import Preset


def _faults(settings: Settings) -> Iterator[Fault]:
    groups, factors = (settings.parameters.get(key) for key in ("dimension_groups", "scale_factors"))
    if groups:
        yield from group_faults("scale_factors", groups, factors or ())
    name = settings.parameters.get("dimension_scores")
    if name and not (settings.directory / name).is_file():
        message = f"there is no file {settings.directory / name}; put it there or name another"
        yield parameter_fault("dimension_scores", message)


def group_faults(key: str, groups: Sequence[int], factors: Sequence[float]) -> Iterator[Fault]:
    """What is wrong with the borders of groups of pairs, and with how many factors the parameter `key` has for them."""
    if groups[0] != 0:
        yield parameter_fault("dimension_groups", f"starts at {groups[0]}; start it at 0")
    for left, right in pairwise(groups):
        if right <= left:
            yield parameter_fault("dimension_groups", f"must rise strictly; {right} follows {left}")
    if factors and len(factors) != len(groups) - 1:
        wanted = len(groups) - 1
        yield parameter_fault(key, f"has {len(factors)} factors for {wanted} groups; give {wanted}")


def _size_faults(parameters: Mapping[str, Any], heads: Heads) -> Iterator[Fault]:
    groups, top_k = parameters.get("dimension_groups"), parameters.get("top_k")
    if groups and groups[-1] != heads.pairs:
        yield parameter_fault("dimension_groups", f"ends at {groups[-1]}; end it at {heads.half} = {heads.pairs}")
    if top_k and top_k > heads.pairs:
        message = f"is {top_k}, but {heads.size} has {heads.pairs} pairs; choose at most {heads.pairs}"
        yield parameter_fault("top_k", message)


def _suggest(wish: Wish) -> Suggestion:
    for preset in wish.presets:
        if preset.method == "dpe":
            found = f"calibrated on {preset.base_model}" if preset.calibration else "published"
            why = f"the factors of the preset {preset.name}, {found} for up to {preset.target_window} tokens"
            return Suggestion("dpe", dict(preset.parameters), None, why, "; ".join(preset.references))
    why = "factors differ from model to model, and none are published for this one"
    return Suggestion("dpe", None, None, f"{why}; `ropext calibrate dpe` finds them", "arXiv 2504.18857")


def _bake(preset: Preset, facts: ModelFacts, inv_freq: list[float]) -> Baked:
    parameters = {key: value for key, value in preset.parameters.items() if key != "dimension_scores"}
    factors = " ".join(map(str, parameters["scale_factors"]))
    window = parameters["local_window"]
    note = f"distances beyond {window} tokens are divided by {factors}, from high to low frequency"
    if "top_k" not in parameters:
        return Baked(parameters, inv_freq, {}, (note,))
    selected = _select(_read_scores(preset, facts), parameters["top_k"])
    selection = f"{parameters['top_k']} of {facts.rotary_dim // 2} pairs scaled in each layer and query head"
    return Baked(parameters, inv_freq, {"selected_pairs": _pack(selected)}, (note, selection))


# The selection of pairs

_MOST_SCORES = 1 << 24


def _file_problems(preset: Preset, facts: ModelFacts) -> Iterator[Problem]:
    if "dimension_scores" in preset.parameters:
        try:
            _read_scores(preset, facts)
        except InvalidPreset as error:
            yield from error.problems


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


METHOD = Method(
    about=(
        "Up to the local window distances are exact. "
        "Beyond it, [DPE](https://arxiv.org/abs/2504.18857) divides distances by an integer scale, one for each "
        "group of rotary pairs, so that every pair meets distances that it knows from training."
    ),
    reason="With factors that were found on this very model it is ahead of the others on numbers hidden in prose.",
    measured=-3.08,
    suggest=_suggest,
    bake=_bake,
    faults=_faults,
    size_faults=_size_faults,
    file_problems=_file_problems,
    file_parameters=("dimension_scores",),
    within_trained=True,
)
