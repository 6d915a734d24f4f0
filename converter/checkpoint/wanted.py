"""A base and the length that it is to read in the end, checked: what suggestions and calibrations begin with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ropext.converter.errors import RopextError, UsageError
from ropext.converter.hub import client as hub
from ropext.converter.lengths import tokens

from .description import base_inv_freq
from .facts import ModelFacts, extended_class, facts_of, read_config
from .trained import Trained, trained_length

__all__ = ["Wanted", "trusted_length", "want", "want_of"]


@dataclass(frozen=True)
class Wanted:
    """A base, and a length for it.

    Attributes:
        facts: what the base is.
        inv_freq: its frequencies, its own scaling included, radians per token [pairs].
        trained: the length to begin with, and why that one.
        target: the length to reach, tokens.
        config: the base's `config.json`.
    """

    facts: ModelFacts
    inv_freq: list[float]
    trained: Trained
    target: int
    config: Mapping[str, Any] = field(repr=False)

    @property
    def notes(self) -> tuple[str, ...]:
        """What the user should check."""
        trained = self.trained
        return (
            (f"taken as trained to {trained.tokens} tokens ({trained.why}): {trained.doubt}",) if trained.doubt else ()
        )


def want(
    source: str | Path, target: str | int, initial_window: str | int | None = None, revision: str | None = None
) -> Wanted:
    """Read a base's configuration, and hold a target length against it.

    Args:
        source: a folder or a Hub id; of that only `config.json` is fetched.
        target: the length to reach, such as `128k` or 131072.
        initial_window: the length to trust; by default what `trained_length` finds.
        revision: branch, tag or commit of a Hub id.

    Raises:
        UsageError: the lengths make no sense for it.
        RopextError: it cannot be found, or is no base that can be converted.
    """
    target = tokens(target, "--target")  # before anything is asked of the Hub
    window = None if initial_window is None else tokens(initial_window, "--initial-window")
    folder = hub.resolve(str(source), revision, only=("config.json",)).folder
    found = want_of(read_config(folder)[0], str(source), target, window)
    extended_class(found.facts)  # or it cannot be converted
    return found


def want_of(
    config: Mapping[str, Any], source: str, target: str | int, initial_window: str | int | None = None
) -> Wanted:
    """Hold a target length against a configuration; see `want`."""
    length = tokens(target, "--target")
    if "rope_ext" in config:
        raise RopextError(f"{source}: is converted already; give its base")
    facts = facts_of(config, source)
    trained = trusted_length(config, facts, initial_window)
    if length <= trained.tokens:
        reads = f"the {trained.tokens} tokens that the model reads already"
        hint = f" ({trained.why}. {trained.doubt})" if trained.doubt else ""
        raise UsageError(f"--target {length}: must be more than {reads}{hint}")
    return Wanted(facts, base_inv_freq(config), trained, length, config)


def trusted_length(config: Mapping[str, Any], facts: ModelFacts, initial_window: str | int | None) -> Trained:
    """Return the length that somebody says to trust, or else what `trained_length` finds.

    Raises:
        UsageError: the model saw no such distances in training.
    """
    if initial_window is None:
        return trained_length(config)
    window = tokens(initial_window, "--initial-window")
    if window > facts.seen_length:
        seen = "saw no farther than its sliding window of" if facts.window else "was trained to"
        raise UsageError(f"--initial-window {window}: {facts.source} {seen} {facts.seen_length} tokens")
    return Trained(window, "--initial-window")
