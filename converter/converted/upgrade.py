"""A converted checkpoint, brought up to date in its place: code, configuration and card; weights are not touched.

All that is new is first written under other names. Then `config.json`, without which nothing can be loaded, goes out of
the way, the new files take their places, and the new `config.json` comes last. Whatever interrupts it, no half is
ever loadable, and running it again completes it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ropext.converter import __version__, model_code
from ropext.converter.checkpoint.roles import inside, is_within
from ropext.converter.convert.card import Kept, Published, kept_of_card, make_card, published
from ropext.converter.convert.config import changes, dump_json
from ropext.converter.convert.record import Entry, Record
from ropext.converter.errors import RopextError, UsageError
from ropext.converter.files.atomic_folder import terminated_as_exception
from ropext.converter.files.json_object import read_bounded
from ropext.converter.files.model_card import require_valid
from ropext.converter.files.replace import beside, replace_file
from ropext.converter.hub import client as hub
from ropext.converter.names import CARD, CODE_LICENSE, CONFIG, PROVENANCE

from .read import read_converted, rebuild

__all__ = ["Upgraded", "rewrite_card", "upgrade"]

_BEFORE = f".{CONFIG}.before-upgrade"


@dataclass(frozen=True)
class Upgraded:
    """A finished upgrade.

    Attributes:
        folder: which.
        before: the version of ropext that made it.
        written: the files that were replaced or added.
        removed: the files that went.
        config_changes: top-level changes of `config.json`, as (key, before, after).
    """

    folder: Path
    before: str
    written: tuple[str, ...]
    removed: tuple[str, ...]
    config_changes: tuple[tuple[str, Any, Any], ...]

    def to_json(self) -> dict[str, Any]:
        """Return the result as JSON values."""
        return {
            "folder": str(self.folder),
            "before": self.before,
            "after": __version__,
            "written": list(self.written),
            "removed": list(self.removed),
            "config_changes": [{"key": key, "before": old, "after": new} for key, old, new in self.config_changes],
        }


def upgrade(folder: Path) -> Upgraded:
    """Give a converted folder this ropext's code and configuration block.

    Args:
        folder: as an older ropext wrote it.

    Raises:
        UsageError: it is no such folder.
        RopextError: it is damaged, a newer ropext made it, or the disk refuses.
    """
    _require_own(folder)
    interrupted = not (folder / CONFIG).is_file() and (folder / _BEFORE).is_file()
    converted = read_converted(folder, _BEFORE if interrupted else CONFIG)
    version = converted.record.ropext_version
    if _number(version) > _number(__version__):
        newer = f"was made by ropext {version}, which is newer than this one, {__version__}"
        raise RopextError(f"{folder}: {newer}; upgrade ropext first.")
    rebuilt = rebuild(converted)
    code = {} if converted.native else model_code.code(converted.family, rebuilt.preset.method)
    ordered = _in_order_of(converted.config, rebuilt.config)
    config = dump_json({**ordered, "rope_ext": rebuilt.config["rope_ext"]})
    shipped = {**code, CODE_LICENSE: model_code.license_text()} if code else {}
    record = _renewed(converted.record, shipped, config).dump()
    wanted = {**shipped, PROVENANCE: record, CONFIG: config}
    written = [path for path, data in wanted.items() if not _holds(folder / path, data)]
    removed = [path for path in converted.record.code if path not in code]
    removed = [path for path in removed if is_within(folder, path) and (folder / path).is_file()]
    if written or removed:
        _replace_all(folder, {path: wanted[path] for path in dict.fromkeys([*written, CONFIG])}, removed)
    (folder / _BEFORE).unlink(missing_ok=True)
    changed = changes(converted.config, rebuilt.config)
    return Upgraded(folder, version, tuple(written), tuple(removed), changed)


def rewrite_card(
    folder: Path, repo_id: str | None = None, revision: str | None = None, checked: Sequence[str] = ()
) -> str:
    """Write the model card of a converted folder anew.

    The base's card, foreign sections and metadata of the present one stay. So does the repository that its snippet
    names, unless another is given.

    Args:
        folder: as `ropext convert` wrote it.
        repo_id: where it is published.
        revision: the commit that the snippet is to load.
        checked: what `ropext verify` found, line by line.

    Returns:
        The card.

    Raises:
        UsageError: it is no such folder.
        RopextError: it is damaged, the card is no text or has metadata that is not valid, or the disk refuses.
    """
    _require_own(folder)
    converted = read_converted(folder)
    rebuilt = rebuild(converted)
    before = _text(folder / CARD)
    at = Published(repo_id, revision)
    if repo_id is None:
        found = published(before)
        at = Published(found.repo_id, revision or found.revision)
    text = make_card(
        rebuilt.facts,
        kept_of_card(before) if before else Kept({}, ""),
        rebuilt.preset,
        rebuilt.baked,
        converted.record.source,
        native=converted.native,
        at=at,
        checked=checked,
    )
    require_valid(text, str(folder / CARD))
    record = converted.record.with_files({CARD: Entry.of(text.encode())})
    with _explained(folder):
        replace_file(folder / CARD, text.encode())
        replace_file(folder / PROVENANCE, record.dump())
    return text


def _require_own(folder: Path) -> None:
    if not folder.is_dir():
        raise UsageError(f"{folder}: there is no such folder.")
    if hub.is_snapshot(folder):
        raise UsageError(f"{folder}: is in the Hub's cache, which is not to be changed; copy the folder first.")


def _number(version: str) -> list[int]:
    return [int(part) for part in re.findall(r"\d+", version)[:3]]


def _renewed(record: Record, shipped: Mapping[str, bytes], config: bytes) -> Record:
    """Return the record with the new code and configuration, in the order of a new conversion."""
    new = {path: Entry.of(data) for path, data in shipped.items()}
    files: dict[str, Entry] = {}
    for path, entry in record.files.items():
        files |= new if path.endswith(".py") else {path: entry}
    files[CONFIG] = Entry.of(config)
    return replace(record, ropext_version=__version__, files=files).sealed()


def _in_order_of(old: Any, new: Any) -> Any:
    """The new value, its keys in the order of the old one's."""
    if not (isinstance(old, Mapping) and isinstance(new, Mapping)):
        return new
    keys = dict.fromkeys([*(key for key in old if key in new), *new])
    return {key: _in_order_of(old.get(key), new[key]) for key in keys}


# Files


def _text(file: Path) -> str:
    try:
        return read_bounded(inside(file.parent, file.name), str(file)).decode() if file.exists() else ""
    except UnicodeDecodeError as error:
        raise RopextError(f"{file}: not UTF-8: {error}.") from None


def _holds(file: Path, data: bytes) -> bool:
    whole = file.is_file() and not file.is_symlink() and file.stat().st_size == len(data)
    return whole and file.read_bytes() == data


def _replace_all(folder: Path, files: Mapping[str, bytes], removed: Sequence[str]) -> None:
    with terminated_as_exception(), _explained(folder), ExitStack() as written:
        # They take their places in the opposite order, so that `config.json` comes last.
        for path in sorted(files, key=lambda path: path != CONFIG):
            written.enter_context(beside(folder / path)).write_bytes(files[path])
        if (folder / CONFIG).is_file():
            os.replace(folder / CONFIG, folder / _BEFORE)
        for path in removed:
            (folder / path).unlink(missing_ok=True)


@contextmanager
def _explained(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise RopextError(f"{folder}: not done: {error.strerror or error}; run the same command again.") from None
