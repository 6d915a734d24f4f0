"""What is published of a conversion: the files of a folder, or those that a plan would write."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ropext.converter.checkpoint.roles import is_within
from ropext.converter.convert.card import with_repository, with_tag
from ropext.converter.convert.config import dump_json
from ropext.converter.convert.plan import Plan
from ropext.converter.convert.record import Entry, Record, WrittenFile
from ropext.converter.converted.read import read_converted
from ropext.converter.errors import RopextError, UsageError
from ropext.converter.files.contents import Outgoing, Reading, matches, outgoing, paths_in
from ropext.converter.hub.types import Repository
from ropext.converter.model_code import sha256
from ropext.converter.names import CARD, CONFIG, PROVENANCE

__all__ = ["Contents", "contents_of", "for_repository", "read_folder"]

_PICKLES = ("*.bin", "*.pt", "*.pth", "*.pkl", "*.pickle", "*.ckpt")


@dataclass(frozen=True)
class Contents:
    """A converted checkpoint, ready to be published.

    Attributes:
        name: what to call it.
        files: all of it.
        base: the Hub repository that it was made from, if it was.
        revision: the commit of that.
        summary: the method and its lengths, in a few words.
        notes: what the user should know.
        origin: that repository, where it has been looked up already.
        tag: that the card's snippet loads, if it does.
    """

    name: str
    files: tuple[Outgoing, ...]
    base: str | None
    revision: str | None
    summary: str
    notes: tuple[str, ...] = ()
    origin: Repository | None = None
    tag: str | None = None


def read_folder(folder: Path, reading: Reading | None = None) -> Contents:
    """Find what a converted folder holds.

    Args:
        folder: as `ropext convert` wrote it.
        reading: told of bytes as they are read to be compared.

    Raises:
        UsageError: it is no converted checkpoint.
        RopextError: a file that it lists is missing.
    """
    if not (folder / CONFIG).is_file() or not (folder / PROVENANCE).is_file():
        raise UsageError(f"{folder}: is no folder that ropext converted: it needs {CONFIG} and {PROVENANCE}.")
    converted = read_converted(folder)
    source, listed = converted.record.source, converted.record.files
    missing = [path for path in listed if not (is_within(folder, path) and (folder / path).is_file())]
    if missing:
        raise RopextError(f"{folder}: {missing[0]} is missing, which {PROVENANCE} lists; convert again.")
    found: list[str] = []
    left_out: list[str] = []
    for path in sorted(paths_in(folder)):
        link = (folder / path).is_symlink()
        kept = not matches(path, _PICKLES) and (not link or (path in listed and path.endswith(".safetensors")))
        (found if kept else left_out).append(path)
    return Contents(
        name=str(folder),
        files=tuple(outgoing(path, (folder / path).resolve(), None, reading) for path in found),
        base=source.repo_id,
        revision=source.revision,
        summary=_summary(converted.block),
        notes=(f"left out, being pickles or links: {', '.join(left_out)}",) if left_out else (),
    )


def contents_of(
    plan: Plan, origin: Repository | None = None, absent: Sequence[str] = (), reading: Reading | None = None
) -> Contents:
    """Find what a planned conversion would write, without writing it.

    Args:
        plan: the conversion.
        origin: the base's repository.
        absent: weights that were not downloaded from there.
        reading: told of bytes as they are read to be compared.
    """
    files, written = [], []
    for file in plan.files:
        if file.path in (CONFIG, PROVENANCE):
            continue
        if origin and file.path in absent:
            held = origin.files[file.path]
            files.append(Outgoing(file.path, held.size, None, held.sha256))
        elif file.source:
            files.append(outgoing(file.path, file.source, file.sha256, reading))
        else:
            files.append(outgoing(file.path, file.content or b""))
        # As a written folder has it: weights that lie here are not read for their digest.
        known = files[-1].known if file.action == "link" else files[-1].sha256
        written.append(WrittenFile(file.path, "hub" if file.action == "link" else "generate", files[-1].size, known))
    config = dump_json(plan.config)
    written.append(WrittenFile(CONFIG, "generate", len(config), sha256(config)))
    files += [outgoing(PROVENANCE, plan.record_of(written).dump()), outgoing(CONFIG, config)]
    return Contents(
        name=plan.preset,
        files=tuple(sorted(files, key=lambda file: file.path)),
        base=plan.record.source.repo_id,
        revision=plan.record.source.revision,
        summary=_summary(plan.config["rope_ext"]),
        notes=plan.notes,
        origin=origin,
    )


def for_repository(contents: Contents, repo_id: str, *, tagged: bool = True) -> Contents:
    """Fit a checkpoint to the repository that it goes to.

    The card's snippet names the repository and a tag, which is called after all that is published but the tag itself;
    `ropext.json` has the card's digest, and those of weights that were linked unread.

    Args:
        contents: as it lies here.
        repo_id: where it goes.
        tagged: whether there is to be a tag.
    """
    plain = _with_card(contents, lambda text: with_tag(with_repository(text, repo_id), None))
    if not tagged:
        return plain
    digests = {file.path: file.sha256 for file in sorted(plain.files, key=lambda file: file.path)}
    tag = f"ropext-{sha256(dump_json(digests))[:10]}"
    pinned = _with_card(plain, lambda text: with_tag(text, tag))
    return plain if _card(pinned) == _card(plain) else replace(pinned, tag=tag)


def _card(contents: Contents) -> bytes | None:
    return next((file.read() for file in contents.files if file.path == CARD), None)


def _with_card(contents: Contents, edit: Callable[[str], str]) -> Contents:
    """Edit the card, and bring `ropext.json` up to date."""
    files = {file.path: file for file in contents.files}
    if CARD in files:
        with suppress(UnicodeDecodeError):
            files[CARD] = outgoing(CARD, edit(files[CARD].read().decode()).encode())
    record = Record.parse(files[PROVENANCE].read(), contents.name)
    renewed = [path for path, entry in record.files.items() if path == CARD or entry.sha256 is None]
    record = record.with_files({path: Entry(files[path].sha256, files[path].size) for path in renewed})
    files[PROVENANCE] = outgoing(PROVENANCE, record.dump())
    return replace(contents, files=tuple(files.values()))


def _summary(block: Mapping[str, Any]) -> str:
    return f"{block.get('method')}, {block.get('initial_window')} to {block.get('target_window')} tokens"
