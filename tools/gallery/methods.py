"""Which method a measured preset has: raw lines say it in their keys."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ropext.converter.evaluation.report.lines import read_runs

Methods = Mapping[str, str]
"""Methods by the names of presets."""


def methods_of(places: Sequence[Path]) -> Methods:
    """The methods of all presets in files of measurements, or in folders of such."""
    runs, _ = read_runs(places)
    found = {}
    for run in runs:
        for key, value in run.measurements():
            said = setting(key)
            if value["preset"] and said:
                found[str(value["preset"])] = str(said[0])
    return found


def setting(key: object) -> list[Any]:
    """Method, initial window, target window and parameters, as the key of a line begins; empty for a base's."""
    text = str(key)
    if not text.startswith("["):
        return []
    found, _ = json.JSONDecoder().raw_decode(text)
    return found if isinstance(found, list) else []
