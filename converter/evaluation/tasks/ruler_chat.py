"""RULER by a model's chat template, and with a thought of limited length before each answer."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ropext.converter.errors import UsageError

from .benchmark import chat_prompt, is_chat

if TYPE_CHECKING:
    from ropext.converter.evaluation.asking import Model

__all__ = ["Chat", "chat_of"]

_TASK = "{task}"
_EMPTY_THOUGHT = re.compile(r"<([\w:]+)>\s*(</\1>\s*)$")
"""What such a template ends with where the model is not to think."""


@dataclass(frozen=True)
class Chat:
    """How a task is put.

    Attributes:
        template: what the model wants around a task, with `{task}` in it.
        thinking: tokens of a thought, at most; 0: none.
        end: what ends a thought.
        before: tokens that a thought and its end take before the answer, at most.
    """

    template: str
    thinking: int = 0
    end: str = ""
    before: int = 0

    def continuation(self, model: Model, prompt: str, new_tokens: int) -> tuple[str, dict[str, Any]]:
        """Let a model think, where it is to, and continue a prompt; and what is written down of the thought.

        A thought that is too long ends where its tokens do. The beginning of the answer, which RULER gives, follows it.
        """
        if not self.thinking:
            return model.continuation(prompt, new_tokens, special_tokens=False), {}
        around = self.template.partition(_TASK)[2]
        asked, _, begun = prompt.rpartition(around)
        thought, ended, _ = model.continuation(asked + around, self.thinking, special_tokens=False).partition(
            self.end.strip()
        )
        whole = f"{asked}{around}{thought}{self.end}{begun.lstrip()}"
        about = {"thought": thought, "thought_ended": bool(ended)}
        return model.continuation(whole, new_tokens, special_tokens=False), about


def chat_of(tokenizer: Any, thinking: int = 0) -> Chat:
    """Return how a tokenizer's chat template puts a task.

    Args:
        tokenizer: of the model.
        thinking: tokens of a thought, at most; 0: the model is told not to think, where its template knows how.

    Raises:
        UsageError: it has no chat template, or none that lets the model think.
    """
    if not is_chat(tokenizer):
        raise UsageError("--chat: the tokenizer has no chat template; leave it out, or give an instruct model")
    off = chat_prompt(tokenizer, _TASK)
    if not thinking:
        return Chat(off)
    on = chat_prompt(tokenizer, _TASK, thinks=True)
    empty = _EMPTY_THOUGHT.search(off)
    if on == off or not empty:
        raise UsageError("--thinking: the chat template does not show how a thought ends; use --chat")
    if empty[2].strip() in tokenizer.all_special_tokens:
        raise UsageError(f"--thinking: {empty[2].strip()} is a special token, which is not seen in what a model writes")
    end = tokenizer(empty[2], add_special_tokens=False).input_ids
    return Chat(on, thinking, empty[2], thinking + len(end))
