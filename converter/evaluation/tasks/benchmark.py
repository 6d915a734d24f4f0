"""What benchmarks that are files have in common: a chat template around a question, cuts, and one question.

A benchmark is a module of data beside this one: its files (read by `benchmark_files`), the words around a question, how
long an answer may be, and a score.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from jinja2 import TemplateError

from ropext.converter.errors import RopextError, UsageError
from ropext.converter.evaluation.asking import digest, prompt_ids

if TYPE_CHECKING:
    from ropext.converter.evaluation.asking import Model

__all__ = ["FileRun", "Wording", "chat_prompt", "cut_end", "cut_middle", "is_chat"]


_BEGUN = re.compile(r"<((?:\w+:)?(?:think|thinking|thought|reasoning))>\s*$")
"""The thought that a prompt begins, of a template that lets the model think whatever it is told."""


def is_chat(tokenizer: Any) -> bool:
    """Whether a tokenizer has a chat template."""
    return bool(getattr(tokenizer, "chat_template", None))


def chat_prompt(tokenizer: Any, user: str, system: str = "", *, thinks: bool = False) -> str:
    """Put a user's turn by a tokenizer's chat template, so that the answer comes next.

    A template that can let the model think is told not to. A thought that it begins all the same is ended at once.

    Args:
        tokenizer: has a chat template.
        user: what the user says.
        system: what a chat begins with; put before the user's words where the template knows no system.
        thinks: let the model think, where the template can.

    Raises:
        RopextError: the template refuses it.
    """
    asked = [{"role": "user", "content": user}]
    ways = [asked]
    if system:
        ways = [[{"role": "system", "content": system}, *asked], [{"role": "user", "content": system + user}]]
    why = ""
    for messages in ways:  # some templates know no system
        try:
            text: str = tokenizer.apply_chat_template(
                messages, tokenize=False, add_generation_prompt=True, enable_thinking=thinks
            )
        except TemplateError as error:
            why = str(error)
        else:
            if not system or system.strip() in text:  # and some leave it out without a word
                return text if thinks else _BEGUN.sub(r"<\1>\n\n</\1>\n\n", text)
    raise RopextError(f"the tokenizer's chat template cannot put a question: {why}")


@dataclass(frozen=True)
class Wording:
    """How a text is put to a model.

    Attributes:
        tokenizer: of the model.
        chat: by its chat template.
        system: what a chat begins with.
    """

    tokenizer: Any
    chat: bool
    system: str = ""

    @classmethod
    def of(cls, tokenizer: Any, chat: bool | None, system: str = "") -> Wording:
        """Return the way that is asked for.

        Args:
            tokenizer: of the model.
            chat: by its chat template; None: where it has one.
            system: what a chat begins with.

        Raises:
            UsageError: it has none.
        """
        if chat and not is_chat(tokenizer):
            raise UsageError("--chat: the tokenizer has no chat template; leave it out, or give an instruct model")
        return cls(tokenizer, is_chat(tokenizer) if chat is None else chat, system)

    def put(self, text: str) -> str:
        """What the model is given to continue."""
        return chat_prompt(self.tokenizer, text, self.system) if self.chat else text

    def count(self, text: str) -> int:
        """Tokens of that."""
        return len(prompt_ids(self.tokenizer, self.put(text), special_tokens=not self.chat))


def cut_middle(wording: Wording, text: str, most: int, *, around: str) -> str:
    """Cut a text in its middle, as published: its first and its last tokens are kept, as many of each.

    Args:
        wording: how it will be put.
        text: what is to be put: a document and the words around it.
        most: tokens that the prompt may have.
        around: these words without the document; none of them is cut off.

    Returns:
        The text, or what is kept of it; empty where the words around it need more than half the room.
    """
    ids = wording.tokenizer(text, add_special_tokens=False).input_ids
    if len(ids) <= most and wording.count(text) <= most:  # a novel is read as tokens once
        return text
    if 2 * wording.count(around) > most:
        return ""
    kept = min(len(ids), most - wording.count(""))
    while True:  # the seam may take a token more than its two sides
        half = max(0, kept) // 2
        cut: str = wording.tokenizer.decode(ids[:half] + ids[len(ids) - half :], skip_special_tokens=True)
        over = wording.count(cut) - most
        if over <= 0:
            return cut
        kept -= over


def cut_end(wording: Wording, put: Callable[[str], str], text: str, most: int) -> str:
    """Cut a text at its end: as many tokens as the prompt has too many.

    Args:
        wording: how it will be put.
        put: the words around a text, put around it.
        text: what is cut.
        most: tokens that the prompt may have.

    Returns:
        The text, or what is kept of it; empty where nothing can be.
    """
    kept = text
    while kept and (over := wording.count(put(kept)) - most) > 0:
        kept = _without_end(wording.tokenizer, kept, over)
    return kept


def _without_end(tokenizer: Any, text: str, tokens: int) -> str:
    if not tokenizer.is_fast:  # it does not say where its tokens stand
        ids = tokenizer(text, add_special_tokens=False).input_ids
        return str(tokenizer.decode(ids[:-tokens], skip_special_tokens=True))
    found = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
    return text[: found[-tokens][0]] if tokens < len(found) else ""


# A question


@dataclass(frozen=True)
class FileRun:
    """One question.

    Attributes:
        task: the part of the benchmark that it belongs to.
        length: that prompt and answer may have together (tokens).
        number: of the question, in its file.
        document: number of the first question about the same text.
        prompt: what the model is given to continue.
        answers: the right ones, for the results.
        new_tokens: that an answer may have.
        score: what an answer is worth, from 0 to 1.
        special_tokens: the tokenizer's begin the prompt; not where a chat template has put them.
        tokens: of the prompt.
        groups: parts of the benchmark that are averaged too.
        before: what stands before the answer where it is scored: words that the prompt ends with.
        one_line: the answer ends with its first line.
        file_sha256: of the files that it is from, where the settings do not say it.
    """

    task: str
    length: int
    number: int
    document: int
    prompt: str
    answers: tuple[str, ...]
    new_tokens: int
    score: Callable[[str], float]
    special_tokens: bool
    tokens: int
    groups: tuple[str, ...] = ()
    before: str = ""
    one_line: bool = False
    file_sha256: str = ""

    @property
    def key(self) -> str:
        """What tells it from the others."""
        return f"{self.task} {self.length} {self.number}"

    @property
    def size(self) -> int:
        """Tokens of the prompt."""
        return self.tokens

    @property
    def asked(self) -> str:
        """Digest of the prompt."""
        return digest(self.prompt)

    def answer(self, model: Model) -> tuple[str, dict[str, Any]]:
        """Let a model answer; what it writes, and what else is written down of it."""
        return model.continuation(self.prompt, self.new_tokens, special_tokens=self.special_tokens), {}

    def measure(self, model: Model) -> dict[str, Any]:
        """Ask a model; what is written down of it."""
        prediction, about = self.answer(model)
        if self.one_line:
            prediction = prediction.split("\n")[0]
        return {
            "length": self.length,
            "tokens": self.tokens,
            "seed": self.number,
            "asked": self.asked,
            "task": self.task,
            **({"groups": list(self.groups)} if self.groups else {}),
            "document": self.document,
            "score": float(self.score(self.before + prediction)),
            "prediction": prediction,
            "answers": list(self.answers),
            **({"file_sha256": self.file_sha256} if self.file_sha256 else {}),
            **about,
        }
