"""Perplexity of a text, by the length of what is read of it at once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ropext.converter.evaluation.asking import beginning, digest

from .texts import Text

if TYPE_CHECKING:
    from ropext.converter.evaluation.asking import Model

__all__ = ["Passage", "passages", "whole_windows"]


@dataclass(frozen=True)
class Passage:
    """A piece of text.

    Attributes:
        input_ids: its tokens.
        counted: how many of the last ones are predicted; those before are read only.
        length: that it was made for, tokens.
        seed: its number among those of this length.
    """

    input_ids: tuple[int, ...]
    counted: int
    length: int
    seed: int

    @property
    def key(self) -> str:
        """What tells it from the others of a task."""
        return f"{self.length} {self.counted} {self.seed}"

    @property
    def size(self) -> int:
        """How many tokens it has."""
        return len(self.input_ids)

    @property
    def asked(self) -> str:
        """Digest of its tokens."""
        return digest(self.input_ids)

    def measure(self, model: Model) -> dict[str, Any]:
        """Sum the negative log-likelihood (nats) of the tokens that count."""
        nll = model.negative_log_likelihood(self.input_ids, self.counted)
        return {
            "length": self.length,
            "tokens": len(self.input_ids),
            "seed": self.seed,
            "asked": self.asked,
            "nll": nll,
            "counted": self.counted,
        }


def whole_windows(tokenizer: Any, text: Text, length: int, stride: int | None = None) -> int:
    """Return how many windows a text fills before it is read anew from its start."""
    count = sum(len(tokenizer(f"{each} ", add_special_tokens=False).input_ids) for each in text.sentences)
    return max(0, (count - length) // (stride or length) + 1)


def passages(tokenizer: Any, text: Text, length: int, samples: int, stride: int | None = None) -> Iterator[Passage]:
    """Windows of one length over a text, from its start.

    Args:
        tokenizer: of the model.
        text: read anew from its start where it is too short.
        length: of a window, tokens.
        samples: how many windows.
        stride: from one window to the next, tokens; the last so many of each count, all of the first. By default the
            windows do not overlap, and all but the first token of each count.
    """
    step = stride or length
    ids: list[int] = []
    start = beginning(tokenizer)  # a token for the beginning, where the model has one
    sentences = text.without_end()
    for sample in range(samples):
        begin = sample * step
        while len(ids) < begin + length:
            ids += tokenizer(f"{next(sentences)} ", add_special_tokens=False).input_ids
        window = (start + ids[begin : begin + length])[:length]
        counted = length - 1 if sample == 0 or stride is None else min(stride, length - 1)
        yield Passage(tuple(window), counted, length, sample)
