"""What was measured, written down as it comes, so that nothing is measured twice.

A process that is alone appends to the file. Of several each appends to a part beside it (`passkey.part0.jsonl`, …), and
the last one to end puts the parts into the file. Whoever reads it later reads the parts too, so that it does not matter
which process was killed, or when, or how many go on.
"""

from __future__ import annotations

import errno
import glob
import json
import os
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from io import FileIO
from pathlib import Path
from typing import Any

from ropext.converter.errors import RopextError, UsageError

from .shares import ALONE, Share

__all__ = ["Records"]

_PATIENCE = 5.0
"""Seconds to wait for a file's lock: so long a run that was killed, or that puts parts together, may still have it."""


class Records:
    """Measurements by their keys, in a file of JSON lines; the first line says under which settings."""

    def __init__(
        self,
        file: Path,
        settings: Mapping[str, Any],
        *,
        resume: bool,
        about: Mapping[str, Any] | None = None,
        share: Share = ALONE,
    ) -> None:
        """Open a file, or start it.

        Args:
            file: where; its folder is made.
            settings: what the measurements depend on, beside their keys.
            resume: go on with the file if it is there.
            about: what else the first line says. Its `model`, which weights were measured and how, has to stay the same
                where the file says it.
            share: which of several processes this is.

        Raises:
            UsageError: it is there and `resume` is not asked for, its settings are others, or another run writes it.
            RopextError: it holds something else, or cannot be written.
        """
        self._file = file
        self._settings: dict[str, Any] = json.loads(json.dumps(dict(settings)))
        self._first: dict[str, Any] = {"settings": {**settings, **(about or {})}}
        self._part = file.with_name(f"{file.stem}.part{share.rank}.jsonl")
        if not resume:
            self._refuse_earlier(share)
        file.parent.mkdir(parents=True, exist_ok=True)
        self._main = _opened(file, shared=share.count > 1)
        self._own: FileIO | None = None
        try:
            if not resume and share.count == 1:
                self._refuse_earlier(share)  # what was written before this run had the file to itself
                self._main.truncate(0)  # the settings of a run that measured nothing
            self._values = self._read(file)
            parts = self._parts() if resume else []
            for part in parts:
                self._values.update(self._read(part))
            if share.count == 1 and not parts:
                self._own = self._main
                self._prepare(file, self._own)
        except BaseException:
            self.close()
            raise

    def _parts(self) -> list[Path]:
        return sorted(self._file.parent.glob(f"{glob.escape(self._file.stem)}.part[0-9]*.jsonl"))

    def _refuse_earlier(self, share: Share) -> None:
        """Each process looks for what none that was started with it can have written."""
        beside = {self._file.with_name(f"{self._file.stem}.part{rank}.jsonl") for rank in range(share.count)}
        earlier = [self._part] if share.rank else [self._file, self._part, *sorted({*self._parts()} - beside)]
        for file in earlier:
            # Several processes open the file itself at once.
            if file.exists() and file.stat().st_size and not (share.count == 1 and _measured_nothing(file)):
                raise UsageError(f"{file} exists: go on with it by --resume, or remove it")

    def _read(self, file: Path) -> dict[str, Any]:
        """The values of a file; a line that was being written when a run was killed is no line."""
        text = file.read_bytes()
        if b"\n" not in text:
            return {}
        try:
            first, *rest = (json.loads(line) for line in text[: text.rfind(b"\n")].split(b"\n"))
            before = first["settings"]
            values = {each["key"]: each["value"] for each in rest}
        except (ValueError, TypeError, KeyError):
            raise RopextError(f"{file}: is not a file of measurements; name another") from None
        other = sorted(key for key, now in self._settings.items() if before.get(key) != now)
        if other:
            changed = ", ".join(f"{key} ({before.get(key)} then, {self._settings[key]} now)" for key in other)
            raise UsageError(f"{file}: was measured with other settings: {changed}; name another file")
        then, now = before.get("model"), self._first["settings"].get("model")
        if then and now and then != now:
            raise UsageError(
                f"{file}: another model of this name was measured, or by another number type ({_said(then)} then, "
                f"{_said(now)} now); measure anew into another folder, by --output"
            )
        return values

    def check(self, value: Mapping[str, Any], asked: str) -> None:
        """Refuse a measurement that was made on something else than is asked now.

        Args:
            value: a measurement; one without `asked` is taken as it is.
            asked: digest of what is asked now.

        Raises:
            UsageError: the digests differ.
        """
        if value.get("asked", asked) != asked:
            raise UsageError(
                f"{self._file}: was measured on other texts than are made now: its tokenizer, or the files that texts "
                "are made of, have changed; measure anew into another folder, by --output"
            )

    def __len__(self) -> int:
        """How many measurements there are."""
        return len(self._values)

    def get(self, key: str) -> Any:
        """The value of a key; None if it has not been measured."""
        return self._values.get(key)

    def put(self, key: str, value: Any) -> None:
        """Keep a value, in the file too, on the disk, before this returns.

        Raises:
            UsageError: another run writes the same part.
            RopextError: the file cannot be written.
        """
        if self._own is None:
            self._own = _opened(self._part, shared=False)
            self._prepare(self._part, self._own)
        self._values[key] = value
        _append(self._own, [{"key": key, "value": value}])

    def _prepare(self, file: Path, stream: FileIO) -> None:
        """Make a file fit to be appended to: nothing torn at its end, the settings at its start."""
        text = file.read_bytes()
        whole = text.rfind(b"\n") + 1
        stream.truncate(whole)
        if not whole:
            _append(stream, [self._first])

    def merge(self, keys: Sequence[str]) -> bool:
        """Put the parts into the file, if these measurements are all there and no process is at work any more.

        Args:
            keys: of what was to be measured, by all processes, in the order in which one alone does it.

        Returns:
            Whether the file is whole now. If not, the process that ends last makes it so, or a later run.
        """
        if self._own is self._main:
            return True
        if self._own:
            self._own.close()
        if not _locked(self._main, shared=False):
            return False
        parts, held = self._parts(), self._read(self._file)
        found = {key: value for part in parts for key, value in self._read(part).items() if key not in held}
        if not all(key in held or key in found for key in keys):
            return False
        self._prepare(self._file, self._main)
        order = {key: None for key in (*keys, *found) if key in found}
        _append(self._main, [{"key": key, "value": found[key]} for key in order])
        for part in parts:
            part.unlink(missing_ok=True)
        return True

    def close(self) -> None:
        """Close the file."""
        for stream in (self._own, self._main):
            if stream:
                stream.close()


def _said(model: Mapping[str, Any]) -> str:
    return ", ".join(map(str, model.values()))


def _measured_nothing(file: Path) -> bool:
    """Whether a file holds settings and nothing else."""
    text = file.read_bytes()
    return text.startswith(b'{"settings": ') and text.find(b"\n") == len(text) - 1


def _opened(file: Path, *, shared: bool) -> FileIO:
    """A file to read and to append to, made where there is none, and locked until it is closed or the process ends."""
    stream = FileIO(file, "a+")
    begin = time.monotonic()
    while not _locked(stream, shared=shared):
        if time.monotonic() - begin > _PATIENCE:
            stream.close()
            raise UsageError(f"{file}: another run is writing it; wait for its end, or name another")
        time.sleep(0.05)
    return stream


def _locked(stream: FileIO, *, shared: bool) -> bool:
    """Lock a file anew; false if somebody else has it, true too where there are no such locks."""
    if sys.platform == "win32":
        return True
    import fcntl

    try:
        fcntl.flock(stream, fcntl.LOCK_UN)  # at last one process finds nobody else, if each lets go before it looks
        fcntl.flock(stream, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno not in (errno.EWOULDBLOCK, errno.EACCES)
    return True


def _append(stream: FileIO, lines: Iterable[Mapping[str, Any]]) -> None:
    """Write lines, and see them on the disk."""
    rest = b"".join(json.dumps(line, ensure_ascii=False).encode() + b"\n" for line in lines)
    try:
        while rest:
            rest = rest[stream.write(rest) :]
        os.fsync(stream.fileno())
    except OSError as error:
        raise RopextError(
            f"{stream.name}: {error.strerror}; what was measured before is kept: see to that, and go on by --resume"
        ) from None
