"""Make the gallery of results again: pages, tables, pictures, README; or measure its raw lines again."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from shutil import copyfile, copytree

from ropext.converter.evaluation.report.submission import write_submission

from .drawing import picture
from .entries import RESULTS, ROOT, entries, times
from .kinds import few
from .measure import add_options, run
from .pages import page
from .pictures import PLACE, draw
from .plan import plan
from .readme import PICTURE, shown, with_block

README = ROOT / "README.md"
DESCRIPTION = """\
Make the pages, tables and pictures of docs/results, docs/pictures and README again, of raw lines and presets.
`measure` makes the raw lines themselves: `python -m tools.gallery measure --dry-run` says how, and for how long."""


def make(folder: Path, readme: Path) -> None:
    """Write all pages, indexes and pictures of a folder of folders, and README's part."""
    for place in sorted(each for each in folder.iterdir() if each.is_dir()):
        for picture_before in place.glob("mixed-*.svg"):
            picture_before.unlink()
        write_submission([place], place)
    found = entries(folder)
    for entry in found:
        for experiment, rows, file in entry.mixed():
            _write(entry.place / file, picture(experiment, rows, f"{experiment.source} at {times(experiment)}"))
    experiment, rows = shown(found)
    _write(folder / PICTURE, picture(experiment, few(rows), f"{experiment.source} at {times(experiment)}"))
    _write(folder / "README.md", page(found, sum(job.hours for job in plan(folder))))
    _write(readme, with_block(readme.read_text(encoding="utf-8"), found))


def _write(file: Path, text: str) -> None:
    file.write_text(text, encoding="utf-8")


def changed(folder: Path, readme: Path) -> list[str]:
    """The files that would be written otherwise than they are."""
    with tempfile.TemporaryDirectory() as temp:
        copy = Path(temp) / "results"
        copytree(folder, copy)
        copyfile(readme, Path(temp) / readme.name)
        make(copy, Path(temp) / readme.name)
        now, then = contents(copy), contents(folder)
        other = [readme.name] if (Path(temp) / readme.name).read_bytes() != readme.read_bytes() else []
    places = sorted(place for place in {*now, *then} if now.get(place) != then.get(place))
    return [*other, *(f"{folder.name}/{place}" for place in places)]


def contents(folder: Path) -> dict[Path, bytes]:
    """Every file of a folder."""
    return {file.relative_to(folder): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m tools.gallery", description=DESCRIPTION)
    parser.add_argument("--check", action="store_true", help="change nothing, and fail where a page would change")
    again = parser.add_subparsers(dest="what").add_parser("measure", help="make the raw lines again, from nothing")
    add_options(again)
    options = parser.parse_args(argv)
    if options.what:
        return run(options)
    found = changed(RESULTS, README)
    if not options.check:
        make(RESULTS, README)
        before = contents(PLACE)
        draw(PLACE)
        found += [f"{PLACE.name}/{file}" for file, drawn in contents(PLACE).items() if drawn != before.get(file)]
    print("\n".join(found) or "nothing to change")
    return 1 if options.check and found else 0


if __name__ == "__main__":
    sys.exit(main())
