"""What a method costs while a prompt fits the window: perplexity of prose, read in a few short windows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .perplexity import Passage, passages
from .texts import Text

if TYPE_CHECKING:
    from ropext.converter.evaluation.asking import Model

__all__ = ["WINDOWS", "Short", "short_length", "short_passages"]

WINDOWS = 6
"""That are read: Python's documentation of itself has enough prose for so many of the longest."""

_LONGEST = 2048
"""Tokens of a window, at most."""


@dataclass(frozen=True)
class Short:
    """A piece of text that fits the window.

    Attributes:
        passage: the text.
    """

    passage: Passage

    @property
    def key(self) -> str:
        """What tells it from all that a task asks."""
        return f"short {self.passage.key}"

    @property
    def size(self) -> int:
        """How many tokens it has."""
        return self.passage.size

    @property
    def asked(self) -> str:
        """Digest of its tokens."""
        return self.passage.asked

    def measure(self, model: Model) -> dict[str, Any]:
        """Sum the negative log-likelihood, and note whether the method promises to be the base on such a text."""
        promised = model.is_base(len(self.passage.input_ids))
        return {"short": True, "promised": promised, **self.passage.measure(model)}


def short_length(trained: int) -> int:
    """Return how long short prompts are, tokens: half of what the model was trained to read, or 2,048."""
    return max(2, min(trained // 2, _LONGEST))


def short_passages(tokenizer: Any, text: Text, trained: int) -> Iterator[Short]:
    """Windows over a text that all fit what the model was trained to read, tokens."""
    yield from map(Short, passages(tokenizer, text, short_length(trained), WINDOWS))
