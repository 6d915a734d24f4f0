"""What lies in a folder and is not ropext's own: what is replaced is only what its record lists, as it was written."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ropext.converter.errors import RopextError
from ropext.converter.names import PROVENANCE

from .json_object import read_object

__all__ = ["foreign"]

_LEFTOVER = re.compile(
    r"\.config\.json\.before-upgrade|\.[^/]+\.ropext-[0-9a-f]{8}(\.[^/]+)?|(.*/)?__pycache__/[^/]+\.pyc"
)
"""What an upgrade that was killed leaves, and what Python writes beside code."""


def foreign(folder: Path) -> Iterator[str]:
    """Yield what ropext did not write: names of files and folders, and of its own files that were changed since.

    Weights are known again by their size.
    """
    record = _recorded(folder)
    strange: dict[str, None] = {}
    for where, folders, names in os.walk(folder):
        links = [name for name in folders if os.path.islink(os.path.join(where, name))]
        for name in sorted([*names, *links]):
            file = Path(where, name)
            path = file.relative_to(folder).as_posix()
            if (path == PROVENANCE and record is not None) or _LEFTOVER.fullmatch(path):
                continue
            if record is None or path not in record:
                strange[path.split("/")[0]] = None
            elif not _is_as_written(file, record[path]):
                strange[f"{path} (changed)"] = None
    yield from strange


def _recorded(folder: Path) -> Mapping[str, Any] | None:
    """What the folder's record lists; None where there is none."""
    file = folder / PROVENANCE
    try:
        files = None if file.is_symlink() else read_object(file, PROVENANCE).get("files")
    except (OSError, RopextError):
        return None
    return files if isinstance(files, dict) else None


def _is_as_written(file: Path, entry: Any) -> bool:
    if not isinstance(entry, dict) or (file.is_symlink() and file.suffix != ".safetensors"):
        return False
    if not file.is_file() or file.suffix == ".safetensors":
        return file.is_symlink() or file.stat().st_size == entry.get("bytes")
    return hashlib.sha256(file.read_bytes()).hexdigest() == entry.get("sha256")
