"""What was measured, written down as it comes, so that nothing is measured twice."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ropext.converter.errors import RopextError, UsageError

__all__ = ["Records"]


class Records:
    """Measurements by their keys, in a file of JSON lines; the first line says under which settings."""

    def __init__(
        self, file: Path, settings: Mapping[str, Any], *, resume: bool, about: Mapping[str, Any] | None = None
    ) -> None:
        """Open a file, or start it.

        Args:
            file: where; its folder is made.
            settings: what the measurements depend on, beside their keys.
            resume: go on with the file if it is there.
            about: what else the first line says.

        Raises:
            UsageError: it is there and `resume` is not asked for, or its settings are others.
            RopextError: it holds something else.
        """
        self._file = file
        self._values: dict[str, Any] = {}
        if file.exists() and not resume:
            raise UsageError(f"{file} exists: go on with it by --resume, or remove it")
        text = file.read_bytes() if file.exists() else b""
        whole = text[: text.rfind(b"\n") + 1]  # a line that was being written when the run was killed is no line
        if whole:
            self._read(whole, settings)
        file.parent.mkdir(parents=True, exist_ok=True)
        self._stream = file.open("r+b" if text else "xb")
        self._stream.truncate(len(whole))
        self._stream.seek(0, os.SEEK_END)
        if not whole:
            self._write({"settings": {**settings, **(about or {})}})

    def _read(self, text: bytes, settings: Mapping[str, Any]) -> None:
        try:
            first, *rest = (json.loads(line) for line in text.splitlines())
            before = first["settings"]
            self._values = {each["key"]: each["value"] for each in rest}
        except (ValueError, TypeError, KeyError):
            raise RopextError(f"{self._file}: is not a file of measurements; name another") from None
        now = json.loads(json.dumps(dict(settings)))
        other = sorted(key for key in now if before.get(key) != now[key])
        if other:
            changed = ", ".join(f"{key} ({before.get(key)} then, {now[key]} now)" for key in other)
            raise UsageError(f"{self._file}: was measured with other settings: {changed}; name another file")

    def get(self, key: str) -> Any:
        """The value of a key; None if it has not been measured."""
        return self._values.get(key)

    def put(self, key: str, value: Any) -> None:
        """Keep a value, in the file too before this returns."""
        self._values[key] = value
        self._write({"key": key, "value": value})

    def _write(self, line: Mapping[str, Any]) -> None:
        self._stream.write(json.dumps(line, ensure_ascii=False).encode() + b"\n")
        self._stream.flush()

    def close(self) -> None:
        """Close the file."""
        self._stream.close()
