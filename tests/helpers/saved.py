"""Stock models as they are saved."""

from __future__ import annotations

import warnings
from pathlib import Path
from types import ModuleType

from tests.helpers import zoo


def saved(name: str, place: Path, table: ModuleType = zoo) -> Path:
    """Save a tiny stock model of a table, once, and return its folder."""
    folder = place / name
    if not folder.exists():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            table.build(name).save_pretrained(folder)
    return folder
