"""RULER's examples as things to ask a model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ropext.converter.evaluation.asking import digest

from .ruler import TASKS, Example, match
from .ruler_chat import Chat

if TYPE_CHECKING:
    from ropext.converter.evaluation.asking import Model

__all__ = ["RulerRun"]


@dataclass(frozen=True)
class RulerRun:
    """One example.

    Attributes:
        example: what to continue, and what should be in it.
        length: that it was made for, tokens.
        seed: its number among those of its task and length.
        chat: how a chat template puts it; None where none does.
    """

    example: Example
    length: int
    seed: int
    chat: Chat | None = None

    @property
    def key(self) -> str:
        """What tells it from the others."""
        return f"{self.example.task} {self.length} {self.seed}"

    @property
    def size(self) -> int:
        """Tokens of the prompt."""
        return self.example.tokens

    @property
    def asked(self) -> str:
        """Digest of the prompt."""
        return digest(self.example.prompt)

    def measure(self, model: Model) -> dict[str, Any]:
        """Let a model continue, and look for the answers."""
        example = self.example
        new_tokens, about = TASKS[example.task].new_tokens, dict[str, Any]()
        if self.chat:
            prediction, about = self.chat.continuation(model, example.prompt, new_tokens)
        else:
            prediction = model.continuation(example.prompt, new_tokens)
        return {
            "length": self.length,
            "tokens": example.tokens,
            "seed": self.seed,
            "asked": self.asked,
            "task": example.task,
            "score": match(example.task, prediction, example.answers),
            "prediction": prediction,
            "answers": list(example.answers),
            **about,
        }
