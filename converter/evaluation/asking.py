"""What is asked of a model, and what is learnt of one question."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from ropext.converter.preset import Preset

__all__ = ["Answer", "Item", "Model", "Prompt", "Question", "beginning", "digest", "prompt_ids"]


@dataclass(frozen=True)
class Answer:
    """How well a model knew an answer.

    Attributes:
        log_probability: of the right answer's tokens, the sum, natural logarithm.
        exact: the model's own choice, token by token, is the right answer.
    """

    log_probability: float
    exact: bool


@dataclass(frozen=True)
class Question:
    """One question about a prompt's text.

    Attributes:
        input_ids: the question's tokens, to follow the text's.
        answer_ids: the right answer's.
        answer: as text.
        depth: where the needle stands: 0 at the start of the text, 1 at its end.
        distance: tokens from the needle's end to the end of the text.
        kind: of question, where a text is asked several.
    """

    input_ids: tuple[int, ...]
    answer_ids: tuple[int, ...]
    answer: str
    depth: float
    distance: int
    kind: str = ""


@dataclass(frozen=True)
class Prompt:
    """A text and the questions about it.

    Attributes:
        input_ids: the text's tokens.
        questions: one for each needle, from the start of the text to its end.
        length: that it was made for, tokens; question and answer included.
        seed: that it was made with.
    """

    input_ids: tuple[int, ...]
    questions: tuple[Question, ...]
    length: int
    seed: int

    @property
    def key(self) -> str:
        """What tells it from the others of a task."""
        return f"{self.length} {self.seed}"

    @property
    def size(self) -> int:
        """Tokens of its text."""
        return len(self.input_ids)

    @property
    def asked(self) -> str:
        """Digest of its text and questions, as tokens."""
        questions = [token for asked in self.questions for token in (*asked.input_ids, *asked.answer_ids)]
        return digest(self.input_ids, questions)

    def measure(self, model: Model) -> dict[str, Any]:
        """Ask a model; what is written down of it."""
        answers = zip(self.questions, model.answers(self), strict=True)
        return {
            "length": self.length,
            "tokens": len(self.input_ids),
            "seed": self.seed,
            "asked": self.asked,
            "answers": [
                {"depth": asked.depth, "distance": asked.distance, **asdict(answer)} for asked, answer in answers
            ],
        }


def digest(*asked: str | Sequence[int]) -> str:
    """Return twelve digits by which results tell whether two models were asked the same.

    Args:
        asked: texts, or tokens.
    """
    parts = [part if isinstance(part, str) else list(part) for part in asked]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:12]


def beginning(tokenizer: Any) -> list[int]:
    """Return the tokens that a text begins with, as the model was trained: one, or none.

    What a tokenizer puts at the end, as those of embedding models do, would end the text before it is asked about.
    """
    for probe in ("a", "The"):
        plain = list(tokenizer(probe, add_special_tokens=False).input_ids)
        whole = list(tokenizer(probe).input_ids)
        for start in range(len(whole) - len(plain) + 1) if plain else ():
            if whole[start : start + len(plain)] == plain:
                return whole[:start]
    return list(tokenizer("").input_ids)


def prompt_ids(tokenizer: Any, text: str, *, special_tokens: bool = True) -> list[int]:
    """Return a text as tokens, for a model to continue.

    Args:
        tokenizer: of the model.
        text: a prompt.
        special_tokens: begin it as the tokenizer does; not where a chat template has done so.
    """
    start = beginning(tokenizer) if special_tokens else []
    return [*start, *tokenizer(text, add_special_tokens=False).input_ids]


class Model(Protocol):
    """What can be asked."""

    tokenizer: Any

    def use(self, preset: Preset | None) -> None:
        """Read by a preset from now on; by None, as the model is."""

    def is_base(self, tokens: int) -> bool:
        """Whether the method promises the base's output on a text of this length, bit for bit."""

    def keeping(self, kv_dtype: str) -> AbstractContextManager[None]:
        """Keep keys and values of texts in a type of fewer bits, until this ends."""

    def answers(self, prompt: Prompt) -> list[Answer]:
        """Answer the questions about a text, each as if it were the only one."""

    def losses_and_answers(self, prompt: Prompt, pieces: int) -> tuple[list[float], list[Answer]]:
        """The mean loss of a token (nats) in each equal piece of a text; and `answers`."""

    def negative_log_likelihood(self, input_ids: Sequence[int], counted: int) -> float:
        """The sum over a text's last `counted` tokens, nats."""

    def attention(
        self,
        input_ids: Sequence[int],
        cells: int,
        layers: Sequence[int] | None = None,
        heads: Sequence[int] | None = None,
    ) -> dict[str, Any]:
        """Attention to a text: logits and weights, averaged over layers and heads, on a grid and by distance."""

    def continuation(self, text: str, new_tokens: int, *, special_tokens: bool = True) -> str:
        """What the model writes after a text, greedily."""


class Item(Protocol):
    """Something to ask."""

    @property
    def key(self) -> str:
        """What tells it from the others."""

    @property
    def size(self) -> int:
        """Tokens that a model reads for it, but for questions."""

    @property
    def asked(self) -> str:
        """Digest of what is asked, which a measurement holds as `asked`."""

    def measure(self, model: Model) -> dict[str, Any]:
        """Ask a model; what is written down of it, as JSON values."""
