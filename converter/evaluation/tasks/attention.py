"""Attention maps of prose: what a model looks at, by the length of what it reads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ropext.converter.errors import UsageError
from ropext.converter.evaluation.asking import digest

if TYPE_CHECKING:
    from ropext.converter.evaluation.asking import Model

__all__ = ["Seen", "indices"]


@dataclass(frozen=True)
class Seen:
    """A text of which attention is drawn.

    Attributes:
        input_ids: its tokens.
        cells: rows and columns of the grid.
        layers: over which is averaged; None for all that methods act on.
        heads: the query heads over which is averaged; None for all.
        length: that it was made for, tokens.
        seed: its number among those of this length.
    """

    input_ids: tuple[int, ...]
    cells: int
    layers: tuple[int, ...] | None
    heads: tuple[int, ...] | None
    length: int
    seed: int

    @property
    def key(self) -> str:
        """What tells it from the others of a task."""
        return f"{self.length} {self.seed}"

    @property
    def size(self) -> int:
        """How many tokens it has."""
        return len(self.input_ids)

    @property
    def asked(self) -> str:
        """Digest of its tokens."""
        return digest(self.input_ids)

    def measure(self, model: Model) -> dict[str, Any]:
        """Average logits and weights."""
        found = model.attention(self.input_ids, self.cells, self.layers, self.heads)
        about = {"length": self.length, "tokens": len(self.input_ids), "seed": self.seed}
        return {**about, "asked": self.asked, **found}


def indices(text: str, name: str) -> tuple[int, ...]:
    """Read indices such as `0,4,8-11`, from 0 on; each once, in order.

    Raises:
        UsageError: they are something else.
    """
    found: set[int] = set()
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        numbers = all(each.isascii() and each.isdigit() and len(each) < 5 for each in (first, last or first))
        if not numbers or (dash and not last) or int(last or first) < int(first):
            raise UsageError(f"--{name} {text}: give indices from 0 on, such as 0,4,8-11")
        found |= {*range(int(first), int(last or first) + 1)}
    return tuple(sorted(found))
