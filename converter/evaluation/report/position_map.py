"""Which distance a preset lets each frequency pair see, read off the code that a checkpoint ships.

A method with attention of its own is given keys, and a query of which each head looks at one pair alone, at a frequency
so low that no angle is half a turn: the angle between the two, over that frequency, is the distance that was seen. Of a
frequency method it is the distance times the new frequency over the old one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ropext.converter.checkpoint.description import base_inv_freq
from ropext.converter.checkpoint.facts import facts_of, read_config
from ropext.converter.errors import InvalidPreset, UsageError
from ropext.converter.methods.base import Baked
from ropext.converter.methods.registry import bake
from ropext.converter.preset import Preset
from ropext.converter.presets.fit import check_fit

if TYPE_CHECKING:
    from ropext.modeling.rope_ext_method import Method

__all__ = ["Group", "PositionMap", "Target", "name_of", "position_map", "target_of"]

_RADIANS = 3.0
"""The widest angle that the probe lets occur: less than half a turn."""
_TOLERANCE = 0.25
"""Tokens by which the probe may err at its longest."""
_MOST = 6
"""So many groups are told apart; of more, as many that are spread over them."""

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Target:
    """What a preset is looked at on.

    Attributes:
        preset: it.
        baked: its numbers for the model.
        inv_freq: the base's, radians per token [pairs].
        theta: of the base's RoPE.
    """

    preset: Preset
    baked: Baked
    inv_freq: Sequence[float]
    theta: float


@dataclass(frozen=True)
class Group:
    """Frequency pairs that see the same distances.

    Attributes:
        pairs: their numbers, from high to low frequency.
        name: for readers.
        seen: what they see at each of the map's distances, tokens.
        every: whether these are all pairs.
    """

    pairs: tuple[int, ...]
    name: str
    seen: Array


@dataclass(frozen=True)
class PositionMap:
    """What the last token of a text sees.

    Attributes:
        length: of the text, tokens.
        distances: from the last token to each other one, from near to far.
        groups: what pairs see of them.
        chosen: whether there are more groups than these.
    """

    length: int
    distances: Array
    groups: tuple[Group, ...]
    chosen: bool


def target_of(preset: Preset, model: str | None = None) -> Target:
    """Bake a preset for a model, or for the one that it requires.

    Args:
        preset: what to bake.
        model: a folder or a Hub id, of which the configuration is read.

    Raises:
        UsageError: the preset does not say enough of its model, and none is named.
        InvalidPreset: it does not fit the model.
    """
    if model:
        from ropext.converter.hub import client as hub

        config: Mapping[str, Any] = read_config(hub.resolve(model, only=("config.json",)).folder)[0]
    else:
        config = _required(preset)
    facts = facts_of(config, model or preset.base_model)
    problems = check_fit(preset, facts) if model else []
    if problems:
        raise InvalidPreset(problems)
    inv_freq = base_inv_freq(config)
    # The pairs that a head selects are its own; the map is that of selected pairs.
    parameters = {key: value for key, value in preset.parameters.items() if key not in ("top_k", "dimension_scores")}
    plain = replace(preset, parameters=parameters)
    return Target(preset, bake(plain, facts, inv_freq), inv_freq, facts.rope_theta)


def _required(preset: Preset) -> dict[str, Any]:
    """A configuration as the preset requires it."""
    needed = ("head_dim", "rope_theta", "rope_type")
    absent = [key for key in needed if key not in preset.requires]
    if absent:
        raise UsageError(
            f"{preset.name}: does not say what {', '.join(absent)} of its model are; name the model by --model"
        )
    from ropext.converter.methods.registry import FREQUENCY_METHODS

    head_dim, rope_type = preset.requires["head_dim"], preset.requires["rope_type"]
    if rope_type != "default" and preset.method in FREQUENCY_METHODS:
        raise UsageError(f"{preset.name}: its model's frequencies are scaled ({rope_type}); name the model by --model")
    return {
        "model_type": preset.requires.get("model_type", "llama"),
        "architectures": ["LlamaForCausalLM"],
        "head_dim": head_dim,
        "hidden_size": head_dim,
        "num_hidden_layers": 1,
        "num_attention_heads": 1,
        "num_key_value_heads": 1,
        "rope_theta": preset.requires["rope_theta"],
        "max_position_embeddings": preset.initial_window,
        **{key: preset.requires[key] for key in ("partial_rotary_factor",) if key in preset.requires},
    }


def position_map(target: Target, length: int | None = None) -> PositionMap:
    """What pairs see from the last token of a text.

    Args:
        target: the preset on its model.
        length: of the text; the preset's target window by default (tokens).
    """
    from ropext.converter.model_classes import parts_of
    from ropext.modeling.rope_ext_frequencies import FrequencyMethod

    length = length or target.preset.target_window
    block = _block(target)
    method = parts_of(target.preset.method)[0]
    distances = np.arange(length, dtype=np.float64)
    if not issubclass(method, FrequencyMethod):
        pairs, low = len(target.inv_freq), _RADIANS / length
        seen = _probe(method({**block, "inv_freq": [low] * pairs}), pairs, low, length)
    else:
        import torch

        frequencies = method(block).frequencies(torch.tensor([length]))
        new = frequencies.reshape(-1).double().numpy()
        seen = distances[:, None] * (new / np.asarray(target.inv_freq))
    groups = _groups(seen)
    spread = np.linspace(0, len(groups) - 1, _MOST).round().astype(int)
    shown = groups if len(groups) <= _MOST else [groups[each] for each in spread]
    made = tuple(Group(pairs, name_of(pairs, seen.shape[1]), seen[:, pairs[0]]) for pairs in shown)
    return PositionMap(length, distances, made, len(groups) > len(shown))


def _block(target: Target) -> dict[str, Any]:
    """The configuration's `rope_ext` block, without noise, which is on logits and moves nothing."""
    parameters = dict(target.baked.parameters)
    if "noise" in parameters:
        parameters["noise"] = {**parameters["noise"], "distribution": "none"}
    return {
        "initial_window": target.preset.initial_window,
        "target_window": target.preset.target_window,
        "parameters": parameters,
        "inv_freq": list(target.baked.inv_freq),
        "tables": {},
        "base": {"rope_theta": target.theta},
    }


def _probe(method: Method, pairs: int, frequency: float, length: int) -> Array:
    """The distances that a method's own logits show, [length, pairs], from near to far."""
    import torch

    from ropext.modeling.rope_ext_method import Tokens
    from ropext.modeling.rope_ext_positions import Geometry

    # Head p asks for the cosine of pair p's angle, head pairs + p for its sine; every pair of every key is (1, 0).
    query = torch.zeros(1, 2 * pairs, 1, 2 * pairs)
    for pair in range(pairs):
        query[0, pair, 0, pair] = 1.0
        query[0, pairs + pair, 0, pairs + pair] = 1.0
    key = torch.cat((torch.ones(1, 1, length, pairs), torch.zeros(1, 1, length, pairs)), dim=-1)
    with torch.no_grad():
        every, last = torch.arange(length)[None], torch.tensor([[length - 1]])
        tokens = Tokens(
            layer=0,
            query=method.pairs.rotate(query, method.table(torch.zeros_like(last), last)),
            key=method.pairs.rotate(key, method.table(torch.zeros_like(every), every)),
            value=key[..., :1],
            geometry=Geometry(last, length - 1, length),
            pairs=method.pairs,
            scale=1.0,
        )
        logits = method.exact_logits(tokens) if method.is_base(length) else method.logits(tokens)
    cosine, sine = logits[0, :, 0].double().chunk(2)
    angle = torch.atan2(-sine, cosine).clamp(min=0)  # below it is rounding
    seen: Array = (angle / frequency).flip(-1).T.numpy()
    return seen


def _groups(seen: Array) -> list[tuple[int, ...]]:
    """Pairs that see the same, to within what the probe may err."""
    groups: list[list[int]] = []
    for pair in range(seen.shape[1]):
        same = (group for group in groups if np.abs(seen[:, group[0]] - seen[:, pair]).max() <= _TOLERANCE)
        group = next(same, None)
        if group is None:
            groups.append([pair])
        else:
            group.append(pair)
    return [tuple(group) for group in groups]


def name_of(pairs: Sequence[int], count: int) -> str:
    """Pairs 0–3, 8–11."""
    if len(pairs) == count:
        return "all pairs"
    runs: list[list[int]] = []
    for pair in pairs:
        if runs and pair == runs[-1][1] + 1:
            runs[-1][1] = pair
        else:
            runs.append([pair, pair])
    texts = [str(first) if first == last else f"{first}–{last}" for first, last in runs]
    return f"pair{'s' if len(pairs) > 1 else ''} {', '.join(texts)}"
