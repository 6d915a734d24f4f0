"""Measure the gallery again, from nothing: models, presets, every command, and the folders made of the lines."""

from __future__ import annotations

import argparse
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from shutil import copyfile

from ropext.converter.evaluation.report.submission import write_submission
from ropext.converter.lengths import tokens
from ropext.converter.presets.load import write_preset

from .entries import RESULTS
from .models import INSTALL, check_prose, model, prose
from .plan import Job, plan

WORK = "work"
"""Where models, presets and unfinished lines lie, in the folder of results."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument("--dry-run", action="store_true", help="print the commands and their cost, and measure nothing")
    parser.add_argument("--only", default="", metavar="TEXT", help="files alone whose name has this in it")
    parser.add_argument("--lengths", default="", metavar="TOKENS,...", help="others than were measured, for a trial")
    parser.add_argument(
        "--output", type=Path, default=Path("results-again"), help="folder that is made or gone on with"
    )


def run(options: argparse.Namespace) -> int:
    """Do it, or say what would be done."""
    lengths = [tokens(each) for each in filter(None, options.lengths.split(","))]
    jobs = plan(RESULTS, options.only, lengths)
    if not jobs:
        print(f"nothing is called {options.only!r}")
        return 1
    if options.dry_run:
        _show(jobs, options.output)
        return 0
    for job in jobs:
        _measure(job, options.output)
    for place in sorted({options.output / job.place.parts[0] for job in jobs}):
        write_submission([place], place)
        print(f"made {place / 'README.md'}")
    return 0


def _show(jobs: Sequence[Job], output: Path) -> None:
    work = output / WORK
    for source in dict.fromkeys(job.made_of[0] if job.made_of else job.source for job in jobs):
        print(INSTALL.get(source, f"# {source}: put it into {work / source}"))
    for text in dict.fromkeys(filter(None, (job.text for job in jobs))):
        print(prose(text, work))
    for job in jobs:
        if job.made_of:
            print(f"ropext {shlex.join(_conversion(job, work / job.made_of[0], work))}")
    for job in jobs:
        named = [each if isinstance(each, str) else f"{each['name']}.yaml" for each in job.presets]
        words = job.command(output / WORK / job.source, _folder(job, output), named)
        print(f"\n# {job.place}: {job.hours:.1f} hours\nropext {shlex.join(words)}")
    total = sum(job.hours for job in jobs)
    print(f"\n# {total:.0f} hours in all, by the seconds that the lines record (two cores of a server, often busy)")


def _folder(job: Job, output: Path) -> Path:
    return output / WORK / job.place.with_suffix("").as_posix().replace("/", "-")


def _conversion(job: Job, base: Path, work: Path) -> list[str]:
    return ["convert", str(base), "--preset", job.made_of[1], "--output", str(work / job.source)]


def _model(job: Job, work: Path) -> Path:
    """The model's folder, which is written or converted where it is missing."""
    if not job.made_of:
        return model(job.source, work)
    if not (work / job.source).exists():
        base = model(job.made_of[0], work)
        subprocess.run([sys.executable, "-m", "ropext", *_conversion(job, base, work)], check=True)
    return work / job.source


def _measure(job: Job, output: Path) -> None:
    if job.text:
        check_prose(job.text, output / WORK)
    where = _model(job, output / WORK)
    folder = _folder(job, output)
    named = [each if isinstance(each, str) else str(_written(each, folder)) for each in job.presets]
    words = job.command(where, folder, named)
    print(f"ropext {shlex.join(words)}", flush=True)
    subprocess.run([sys.executable, "-m", "ropext", *words], check=True)
    (output / job.place).parent.mkdir(parents=True, exist_ok=True)
    copyfile(folder / job.source / f"{job.words[0]}.jsonl", output / job.place)


def _written(data: Mapping[str, object], folder: Path) -> Path:
    file = folder / f"{data['name']}.yaml"
    if not file.exists():
        folder.mkdir(parents=True, exist_ok=True)
        write_preset(file, data)
    return file
