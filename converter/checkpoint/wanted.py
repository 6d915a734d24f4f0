"""A base and the length that it is to read in the end, checked: what suggestions and calibrations begin with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ropext.converter.errors import RopextError, UsageError
from ropext.converter.hub import client as hub

from .description import base_inv_freq
from .facts import ModelFacts, facts_of, read_config
from .trained import Trained, trained_length

__all__ = ["Wanted", "want", "want_of"]


@dataclass(frozen=True)
class Wanted:
    """A base, and a length for it.

    Attributes:
        facts: what the base is.
        inv_freq: its frequencies, its own scaling included, radians per token [pairs].
        trained: the length to begin with, and why that one.
        target: the length to reach, tokens.
    """

    facts: ModelFacts
    inv_freq: list[float]
    trained: Trained
    target: int


def want(source: str, target: int, initial_window: int | None = None, revision: str | None = None) -> Wanted:
    """Read a base's configuration, and hold a target length against it.

    Args:
        source: a folder or a Hub id; of that only `config.json` is fetched.
        target: the length to reach, tokens.
        initial_window: the length to trust; by default what `trained_length` finds.
        revision: branch, tag or commit of a Hub id.

    Raises:
        UsageError: the lengths make no sense for it.
        RopextError: it cannot be found, or is no base model.
    """
    folder = hub.resolve(source, revision, only=("config.json",)).folder
    return want_of(read_config(folder)[0], source, target, initial_window)


def want_of(config: Mapping[str, Any], source: str, target: int, initial_window: int | None = None) -> Wanted:
    """Hold a target length against a configuration; see `want`."""
    if "rope_ext" in config:
        raise RopextError(f"{source}: is converted already; give its base")
    facts = facts_of(config, source)
    trained = Trained(initial_window, "--initial-window") if initial_window else trained_length(config)
    if trained.tokens > facts.seen_length:
        seen = "saw no farther than its sliding window of" if facts.window else "was trained to"
        raise UsageError(f"--initial-window {trained.tokens}: {source} {seen} {facts.seen_length} tokens")
    if target <= trained.tokens:
        reads = f"the {trained.tokens} tokens that the model reads already"
        hint = f" ({trained.why}. {trained.doubt})" if trained.doubt else ""
        raise UsageError(f"--target {target}: must be more than {reads}{hint}")
    return Wanted(facts, base_inv_freq(config), trained, target)
