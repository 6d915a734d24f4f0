"""What is suggested for a model and a length: every method's parameters, the best first, and a preset of one."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ropext
from ropext.converter.checkpoint.trained import Trained
from ropext.converter.checkpoint.wanted import Wanted, want
from ropext.converter.errors import RopextError, UsageError
from ropext.converter.lengths import length_text
from ropext.converter.memory.api import cache_at
from ropext.converter.methods.schemas import METHODS
from ropext.converter.preset import Preset
from ropext.converter.text import did_you_mean

from .load import LONGEST_NAME, found_preset, load_preset, make_preset
from .portable import folder_name

if TYPE_CHECKING:
    from ropext.converter.methods.base import Suggestion

__all__ = [
    "Suggestions",
    "preset_data",
    "preset_for",
    "require_method",
    "suggest",
]


@dataclass(frozen=True)
class Suggestions:
    """What is suggested for a model and a length.

    Attributes:
        source: the model, as it was named.
        model_type: its family.
        trained: the trained length that was taken, why, and what may be wrong with it.
        target: the length to reach, tokens.
        methods: every method that was asked for, the recommended one first.
        recommended: the name of the first method that can do it; None where none can.
        why: why that one.
        presets: shipped presets that fit the model and reach the length, by method, the best first.
        kv_cache: bytes of the base's keys and values for that length, in 16 bits.
    """

    source: str
    model_type: str
    trained: Trained
    target: int
    methods: tuple[Suggestion, ...]
    recommended: str | None
    why: str
    presets: tuple[Preset, ...]
    kv_cache: int

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {
            "source": self.source,
            "model_type": self.model_type,
            "trained": self.trained._asdict(),
            "target": self.target,
            "recommended": self.recommended,
            "why": self.why,
            "methods": [vars(each) for each in self.methods],
            "presets": [each.name for each in self.presets],
            "kv_cache": self.kv_cache,
        }


def suggest(
    source: str | Path, target: str | int, *, method: str | None = None, initial_window: str | int | None = None
) -> Suggestions:
    """Suggest parameters for a model and a length. Only the model's configuration is read.

    Args:
        source: a base: a folder or a Hub id.
        target: the length to read in the end, such as `"128k"` or 131072.
        method: this method only.
        initial_window: the length to trust; by default the trained length, as far as the configuration tells.

    Returns:
        Every method's parameters, the recommended method first.

    Raises:
        UsageError: there is no such method, or the lengths make no sense.
        RopextError: the model cannot be found, or its family cannot be converted.
    """
    if method is not None:
        require_method(method)
    wanted = want(source, target, initial_window)
    found = [each for each in _all(wanted) if method in (None, each.method)]
    best = next((each for each in found if each.parameters is not None), None)
    return Suggestions(
        source=str(source),
        model_type=wanted.facts.model_type,
        trained=wanted.trained,
        target=wanted.target,
        methods=tuple(found),
        recommended=best.method if best else None,
        why=best.reason if best else "no method reaches this length on this model",
        presets=tuple(load_preset(name) for each in found for name in each.presets),
        kv_cache=cache_at(wanted.config, wanted.target),
    )


def preset_for(wanted: Wanted, method: str, *, overrides: Sequence[str] = ()) -> Preset:
    """Make a preset, named by model, method and length, of the parameters that are suggested for them.

    Args:
        wanted: the model and the length.
        method: the method.
        overrides: `KEY=VALUE` each, as for `load_preset`.

    Raises:
        InvalidPreset: an override makes it invalid.
        RopextError: nothing can be suggested.
    """
    data = preset_data(wanted, method, _name(wanted.facts.source, method, wanted.target))
    folder = Path(wanted.facts.source).expanduser()
    if folder.is_dir():  # the record may be published, and where a machine keeps its models is nobody's business
        data["base_model"] = folder_name(folder)
    return make_preset(data, Path(), overrides)


def preset_data(wanted: Wanted, method: str, name: str) -> dict[str, Any]:
    """Return the keys of a preset with what is suggested for one method.

    Raises:
        RopextError: nothing is; the message says why.
    """
    found = _suggestion_for(wanted, method)
    data = found_preset(Path(name), wanted.facts, wanted.trained.tokens, wanted.target, method)
    references = [found.source, f"Suggested by ropext {ropext.__version__}: {found.why}"]
    return {**data, "parameters": dict(found.parameters or {}), "references": references}


def _suggestion_for(wanted: Wanted, method: str) -> Suggestion:
    """Return what is suggested for one method.

    Raises:
        RopextError: nothing is; the message says why.
    """
    found = next((each for each in _all(wanted) if each.method == method), None)
    if found is None or found.parameters is None:
        why = found.why if found else "it is the base, and has no parameters"
        raise RopextError(f"{method}: nothing to suggest for this model and length: {why}")
    return found


def require_method(method: str) -> None:
    """Refuse a name that is no method.

    Raises:
        UsageError: it names the nearest one, and all there are.
    """
    if method not in METHODS:
        near = did_you_mean(method, METHODS) or ";"
        raise UsageError(f"unknown method {method!r}{near} there are {', '.join(METHODS)}")


def _all(wanted: Wanted) -> list[Suggestion]:
    from .recommend import recommend  # and with it numpy

    return recommend(wanted.facts, wanted.inv_freq, wanted.target, wanted.trained.tokens)


def _name(source: str, method: str, target: int) -> str:
    model = re.sub(r"[^a-z0-9_-]+", "-", Path(source).expanduser().absolute().name.lower()).strip("-_")
    ending = f"-{method}-{length_text(target)}"
    return f"{model[: LONGEST_NAME - len(ending)] or 'model'}{ending}"
