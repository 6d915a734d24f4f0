"""What a stock model does to queries and keys before attention, found by running it.

A token that stands alone attends to itself alone, so nothing in the model depends on its position but the rotation:
three forwards of one token at different positions show, layer by layer, which dimensions turn, in which pairs and how
fast. The model's own tables of frequencies are candidates; one is taken if it explains what is seen.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface

POSITIONS = (0, 1, 977)
NAME = "ropext_probe"
TOLERANCE = 1e-4
"""Of the difference to what is seen, over the size of queries. Tables are float32, so it is 1e-6 where right."""

_seen: list[Call] = []


@dataclass(frozen=True)
class Call:
    """One call of the attention function: what a layer hands over."""

    module: Any
    query: Tensor
    key: Tensor
    arguments: dict[str, Any]

    @property
    def slides(self) -> bool:
        """Whether the layer says that it sees a window only."""
        return self.arguments.get("sliding_window") is not None


@dataclass(frozen=True)
class Turns:
    """How one layer turns its queries and keys."""

    layout: str
    first: int
    sign: int
    inv_freq: tuple[float, ...]
    head_dim: int


@torch.no_grad()
def turning_layers(model: Any, norms_after: Sequence[str] = (), *, sliding: bool = False) -> dict[int, Turns]:
    """Find the layers with rotary positions and full attention, and how they turn.

    Args:
        model: a stock model.
        norms_after: the names of norms with weights between rotation and attention: the query's, the key's.
        sliding: find those that slide instead.

    Returns:
        How each turns, by the index of the layer.

    Raises:
        AssertionError: a layer turns in a way that no candidate explains.
    """
    decoder = model.get_decoder()
    calls = [_record(decoder, position) for position in POSITIONS]
    tables = list(_tables(decoder))
    found = {}
    for still, *moved in zip(*calls, strict=True):
        if still.slides is sliding and any(_differs(still, each) for each in moved):
            found[still.module.layer_idx] = _explain(still, moved, tables, norms_after)
    return found


def _record(decoder: Any, position: int) -> list[Call]:
    before = decoder.config._attn_implementation
    decoder.config._attn_implementation = NAME
    _seen.clear()
    try:
        decoder(torch.tensor([[3]]), position_ids=torch.tensor([[position]]), use_cache=False)
    finally:
        decoder.config._attn_implementation = before
    return list(_seen)


def _attention(
    module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Any, **arguments: Any
) -> tuple[Tensor, None]:
    _seen.append(Call(module, query.double(), key.double(), arguments))
    return value.repeat_interleave(query.shape[1] // value.shape[1], dim=1).transpose(1, 2), None


AttentionInterface.register(NAME, _attention)


def _tables(decoder: Any) -> Iterator[Tensor]:
    """Frequencies that the model has, those of layers that are not attended to included."""
    for module in decoder.modules():
        for name, value in [*module.named_buffers(recurse=False), *vars(module).items()]:
            if isinstance(value, Tensor) and name.endswith("inv_freq") and "original" not in name:
                yield value.detach().reshape(-1)


def _differs(one: Call, other: Call) -> bool:
    return bool((one.key - other.key).abs().max() > 1e-6)


def _explain(still: Call, moved: Sequence[Call], tables: Sequence[Tensor], norms_after: Sequence[str]) -> Turns:
    gains = [getattr(still.module, name).weight.double() for name in norms_after] or [torch.ones(1)] * 2
    width = still.query.shape[-1]
    candidates = [
        Turns(layout, first, sign, tuple(table.tolist()), width)
        for table in tables
        if 2 * len(table) <= width
        for first in {0, width - 2 * len(table)}
        for layout in ("halves", "neighbours")
        for sign in (1, -1)
    ]
    errors = [_error(candidate, still, moved, gains) for candidate in candidates]
    best = min(range(len(errors)), key=errors.__getitem__)
    assert errors[best] < TOLERANCE, f"layer {still.module.layer_idx}: not explained: {errors[best]:.1e}"
    return candidates[best]


def _error(turns: Turns, still: Call, moved: Sequence[Call], gains: Sequence[Tensor]) -> float:
    """The largest difference to what was seen, over the size of what is turned."""
    errors = []
    for position, call in zip(POSITIONS[1:], moved, strict=True):
        for one, other, gain in ((still.query, call.query, gains[0]), (still.key, call.key, gains[1])):
            start, end = one / gain, other / gain
            end = end * (start.norm() / end.norm())  # Ministral 3's queries grow with their position
            errors.append(float((turn(start, position, turns) - end).abs().max() / start.abs().max()))
    return max(errors)


def turn(x: Tensor, position: int, turns: Turns) -> Tensor:
    """Turn x [..., head_dim] on by a number of positions."""
    angle = turns.sign * position * torch.tensor(turns.inv_freq, dtype=torch.float64)
    cos, sin = angle.cos(), angle.sin()
    pairs = len(turns.inv_freq)
    left, turned, right = x.tensor_split((turns.first, turns.first + 2 * pairs), dim=-1)
    if turns.layout == "halves":
        u, v = turned.chunk(2, dim=-1)
        out = torch.cat((u * cos - v * sin, v * cos + u * sin), dim=-1)
    else:
        u, v = turned[..., 0::2], turned[..., 1::2]
        out = torch.stack((u * cos - v * sin, v * cos + u * sin), dim=-1).flatten(-2)
    return torch.cat((left, out, right), dim=-1)
