"""What was learnt of one question."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Answer"]


@dataclass(frozen=True)
class Answer:
    """How well a model knew an answer.

    Attributes:
        log_probability: of the right answer's tokens, the sum, natural logarithm.
        exact: the model's own choice, token by token, is the right answer.
    """

    log_probability: float
    exact: bool
