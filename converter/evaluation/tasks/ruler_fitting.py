"""How long RULER's prompts become: as many units of haystack as fit, counted by the model's own tokenizer.

The search is the published one: up from one step, by steps, until a prompt is too long; then every example takes that
many units, and fewer steps where its own words have more tokens. Each trial draws its random numbers as it does there,
so that the same seed gives the published generator's prompts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

__all__ = ["Draft", "NoRoom", "Setting", "fill", "fit"]


class NoRoom(Exception):
    """The length is too short for the task."""


@dataclass(frozen=True)
class Draft:
    """A prompt, answer prefix included, and what it asks for."""

    prompt: str
    answers: tuple[str, ...]


@dataclass(frozen=True)
class Setting:
    """What a prompt is made for.

    Attributes:
        tokenizer: of the model to be asked.
        length: of prompt and answer together (tokens).
        new_tokens: of the answer.
        seed: of everything random.
        template: what the model wants around a task, `{task}` in it.
    """

    tokenizer: Any
    length: int
    new_tokens: int
    seed: int
    template: str = "{task}"

    @property
    def room(self) -> int:
        """Room for the prompt, tokens."""
        return self.length - self.new_tokens

    def count(self, text: str) -> int:
        """Tokens of a text, without those for its beginning and end, as RULER counts."""
        return len(self.tokenizer(text, add_special_tokens=False).input_ids)

    def wrap(self, task: str, answer_prefix: str) -> str:
        """The prompt: the answer prefix comes after what the model wants around the task."""
        return self.template.replace("{task}", task) + answer_prefix


def fit(make: Callable[[int], str], setting: Setting, step: int, room: int, most: int | None = None) -> int:
    """How many units of haystack fit.

    Args:
        make: the text to count, for a number of units.
        setting: whose tokenizer counts.
        step: units from trial to trial.
        room: the most tokens that the text may have.
        most: units that there are; without end by default.
    """
    units, tokens, known, rate = step, 0, 0, 0.0
    while tokens < room:
        text = make(units)
        # Long texts take long to count: one that is at nine tenths of the room, by its letters, is not.
        if len(text) >= 2 * known or len(text) * rate >= 0.9 * room:
            tokens = setting.count(text)
            known, rate = len(text), tokens / max(1, len(text))
        if tokens > room:
            return units - step
        units += step
        if most is not None and units > most:
            return most
    return units


def fill(make: Callable[[int], Draft], setting: Setting, units: int, step: int, room: int, least: int) -> Draft:
    """An example that fits: with so many units, or `step` fewer as often as it takes, and `least` at the last.

    Raises:
        NoRoom: even the last is too long.
    """
    while True:
        draft = make(units)
        if setting.count(draft.prompt) <= room:
            return draft
        if units <= least:
            raise NoRoom
        units = max(least, units - step)
