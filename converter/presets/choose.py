"""The shipped presets, chosen by model, by method, and by what they fit."""

from __future__ import annotations

from pathlib import Path

from ropext.converter.checkpoint.facts import read_facts
from ropext.converter.preset import Preset

from .fit import check_fit
from .load import list_presets
from .suggested import require_method

__all__ = ["presets"]


def presets(
    *, model: str | None = None, method: str | None = None, fits: str | Path | None = None
) -> tuple[Preset, ...]:
    """Return the shipped presets, by name.

    Args:
        model: only those whose name or base model holds this text, in any case.
        method: only those of this method.
        fits: only those that fit this model, a folder or a Hub id; of that only `config.json` is fetched.

    Raises:
        UsageError: there is no such method.
        RopextError: the model cannot be found, or its family cannot be converted.
    """
    if method is not None:
        require_method(method)
    found = [each for each in list_presets() if method in (None, each.method)]
    if model is not None:
        found = [each for each in found if model.lower() in f"{each.name} {each.base_model}".lower()]
    if fits is not None:
        facts = read_facts(str(fits))
        found = [each for each in found if not check_fit(each, facts)]
    return tuple(found)
