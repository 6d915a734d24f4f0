"""What the frequency methods share: attention is the base's own, only the angle per token of each pair is another.

One contact with transformers: a torch hook on the rotary modules, which lets their own forward compute its tables once
more, from the method's inverse frequencies.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from .rope_ext_model import inverse_frequencies, positions_of, rotary_modules, same_frequencies

_OF_WINDOWS = re.compile("sliding|local|chunked")
"""In the names of tables that only layers with a window or a chunk read."""


class FrequencyMethod:
    """Inverse frequencies of the method's own, fixed when a model is converted.

    Attributes:
        attention_factor: on cosine and sine, hence on queries and keys alike.
        by_row: each row has frequencies of its own.
    """

    by_row = False

    @contextmanager
    def made_small(self) -> Iterator[None]:
        """Nothing: the method acts on every token but the first."""
        yield

    def __init__(self, block: dict[str, Any]) -> None:
        # No buffer: loading would cast it to the model's type, or leave it unset.
        self.inv_freq = torch.tensor(block["inv_freq"], dtype=torch.float32, device="cpu")
        base = block.get("pairs", {}).get("inv_freq")
        self.base = None if base is None else torch.tensor(base, dtype=torch.float32, device="cpu")
        self.attention_factor: float = block["parameters"].get("attention_factor", 1.0)

    def place(self, device: torch.device) -> None:
        """Keep the table on a device: copied in each forward, it would keep CUDA graphs from being recorded."""
        self.inv_freq = self.inv_freq.to(device)

    def frequencies(self, lengths: Tensor | None) -> Tensor:
        """Radians per token: [P], or [B, P] where each row, by its number of tokens [B], has its own."""
        return self.inv_freq


class Attachment:
    """A frequency method on a decoder: the tables of its rotary modules are the method's."""

    norms_after: list[str] | None = None
    others: dict[int, Any] = {}  # noqa: RUF012  there is one table for all layers

    def __init__(self, decoder: Any, method: FrequencyMethod, layers: list[int] | None = None) -> None:
        self.method = method
        self._mask: Tensor | None = None
        self._counts_columns = False
        self._tables: dict[Any, list[str]] = {}
        self._places = {module: name for name, module in decoder.named_modules()}
        self._handles = [m.register_forward_hook(self._retuned, with_kwargs=True) for m in rotary_modules(decoder)]
        self._handles.append(decoder.register_forward_pre_hook(self._before_decoder, with_kwargs=True))
        for rotary in rotary_modules(decoder):
            if not any(table.is_meta for _, table in inverse_frequencies(rotary)):
                self._names(rotary)  # now, and not within a compiled graph

    @property
    def methods(self) -> tuple[FrequencyMethod, ...]:
        """The only one."""
        return (self.method,)

    def detach(self) -> None:
        """Take the method off."""
        for handle in self._handles:
            handle.remove()

    def check_rotation(self, decoder: Any) -> None:
        """Nothing more: where the layers get their rotation from is the base's own affair."""

    def _names(self, rotary: Any) -> list[str]:
        """The tables that are the method's: those that were the base's, of the layers that it acts on.

        Layers with a window have a table of their own in some families, whose frequencies may be the same.
        """
        if rotary not in self._tables:
            self._tables[rotary] = [
                name
                for name, table in inverse_frequencies(rotary)
                if not _OF_WINDOWS.search(f"{self._places[rotary]}.{name}")
                and (self.method.base is None or same_frequencies(table, self.method.base))
            ]
        return self._tables[rotary]

    def _before_decoder(self, module: Any, args: Any, kwargs: Any) -> None:
        self._mask = kwargs.get("attention_mask")
        self._counts_columns = kwargs.get("position_ids") is None

    def _retuned(self, rotary: Any, args: Any, kwargs: Any, output: Any) -> Any:
        names = self._names(rotary)
        if not names:
            return None
        positions = positions_of(rotary, args, kwargs)
        if not torch.compiler.is_compiling():
            self.method.place(positions.device)
        table = self.method.frequencies(self._lengths(positions) if self.method.by_row else None).to(positions.device)
        factor = self.method.attention_factor
        if table.dim() == 1:
            return _computed(rotary, names, table, factor, args, kwargs)
        rows = []
        for row, own in enumerate(table):
            given = [_of_row(value, row, len(table)) for value in args]
            named = {name: _of_row(value, row, len(table)) for name, value in kwargs.items()}
            rows.append(_computed(rotary, names, own, factor, given, named))
        if isinstance(output, Tensor):
            return torch.cat(rows)
        return tuple(torch.cat(parts) for parts in zip(*rows, strict=True))

    def _lengths(self, positions: Tensor) -> Tensor:
        """[B]: tokens of each row so far, without padding."""
        mask = self._mask
        if self._counts_columns and isinstance(mask, Tensor) and mask.dim() == 2:
            return mask.sum(-1)
        longest = positions.amax(-1)
        return (longest if longest.dim() == 1 else longest.amax(0)) + 1


class _Retuned:
    """A rotary module with other tables."""

    def __init__(self, rotary: Any, changes: dict[str, Any]) -> None:
        vars(self).update(changes, rope_ext_rotary=rotary)

    def __getattr__(self, name: str) -> Any:
        return getattr(vars(self)["rope_ext_rotary"], name)


def _of_row(value: Any, row: int, rows: int) -> Any:
    """One row of hidden states or positions, [B or 1, T] or [A, B or 1, T]; anything else as it is."""
    if not isinstance(value, Tensor):
        return value
    if value.is_floating_point():
        return value[row : row + 1]
    return value.expand(*value.shape[:-2], rows, -1)[..., row : row + 1, :]


def _computed(rotary: Any, names: list[str], table: Tensor, factor: float, args: Any, kwargs: Any) -> Any:
    """What a rotary module's own forward computes from another table."""
    changes: dict[str, Any] = dict.fromkeys(names, table)
    if factor != 1.0:
        scalings = [name.replace("inv_freq", "attention_scaling") for name in names]
        changes |= {name: getattr(rotary, name) * factor for name in scalings}
    if hasattr(rotary, "rope_type"):  # by any other, some versions put the base's table back
        kinds = rotary.rope_type
        changes["rope_type"] = dict.fromkeys(kinds, "default") if isinstance(kinds, dict) else "default"
    if names == ["inv_freq"]:  # which PhiMoE computes anew in each forward
        scaling = getattr(rotary, "attention_scaling", 1.0) * factor
        changes["rope_init_fn"] = lambda *args, **kwargs: (table, scaling)
    return type(rotary).forward(_Retuned(rotary, changes), *args, **kwargs)
