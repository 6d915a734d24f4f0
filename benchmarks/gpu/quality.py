"""SmolLM2-135M-Instruct, as it is and by its presets, on the tasks of `ropext eval`; and calibrations of it.

Results are the ordinary files of `ropext eval`, written line by line. A job whose time is up is gone on with later.
"""

import os
import shutil
import sys
from contextlib import contextmanager
from pathlib import Path
from time import time

from benchmarks.gpu import ROOT
from benchmarks.gpu.jobs import FULL, PREFIX, PRESETS, REHEARSED
from benchmarks.gpu.weights import checkpoint
from ropext.converter.calibration.run import Wish, calibrate_grid, calibrate_profile
from ropext.converter.checkpoint.wanted import want
from ropext.converter.demo import BASE_NAME
from ropext.converter.evaluation.run.evaluate import evaluate
from ropext.converter.evaluation.tasks import ruler
from ropext.converter.lengths import tokens
from ropext.converter.presets.load import make_preset

RESULTS, FOUND, MODEL = "results", "found", "model"
"""Folders of the output: lines of `ropext eval`, calibrated presets, the checkpoint."""
GROUPS = 8
"""Of frequency pairs, that a calibrated profile moves."""
TARGET = 16384


class TimeUp(Exception):
    """A job has had its time."""


def plan(setting):
    """All jobs by their names."""
    return {job.name: job for job in setting.pick(FULL, REHEARSED)}


def cells(setting):
    """The jobs that are not done."""
    return [name for name in plan(setting) if name not in setting.options["done"]]


def run(cell, setting):
    """One job."""
    job, ends = plan(setting)[cell.name], setting.options["ends"]

    def hear(*seen):
        if time() > ends:
            raise TimeUp

    def measure():
        nonlocal ends
        try:
            hear()
            base = base_of(setting)
            ends = min(ends, time() + job.seconds * setting.options["patience"])
            (calibrated if job.method else evaluated)(job, base, setting, cell, hear)
        except TimeUp:
            return {"ok": None, "complete": False}
        return {"ok": True, "complete": True}

    cell.attempt("job", measure, length=tokens(job.lengths[-1]))


def base_of(setting):
    """The model's folder."""
    folder = Path(setting.options["output"]) / MODEL
    if not setting.rehearsal:
        return checkpoint(list(map(Path, setting.options["weights"])), folder)
    if not folder.exists():
        from tests.helpers.asked import with_tokenizer

        shutil.copytree(ROOT / "tests" / "data" / "tiny-llama", folder / "tiny-llama")
        with_tokenizer(folder / "tiny-llama")
    return folder / "tiny-llama"


def presets_of(job, setting):
    """The presets that a job measures beside the base."""
    found = sorted((Path(setting.options["output"]) / FOUND).glob("*.yaml"))
    shipped = setting.pick([f"{PREFIX}{name}" for name in PRESETS], tiny_presets())
    return shipped[: job.presets] + (found if job.presets is None else [])


def tiny_presets():
    """Two for the tiny model."""
    about = {"description": "tiny", "base_model": "tiny-llama", "initial_window": 64, "target_window": 256}
    settings = {"self_extend": {"group_size": 8, "local_window": 16}, "yarn": {}}
    named = [{"name": f"tiny-{method}", "method": method, "parameters": settings[method]} for method in settings]
    return [make_preset(about | each) for each in named]


def evaluated(job, base, setting, cell, hear):
    """A piece of an evaluation."""
    settings = dict(job.settings)
    if job.task == "ruler":
        settings |= ruler_settings(job, setting, cell)
    presets = presets_of(job, setting)
    how = {"presets": presets, "output": Path(setting.options["output"]) / RESULTS, "resume": True}
    how |= {"lengths": job.lengths, "samples": job.samples, "short": job.task == "mixed"}
    how |= {"device": setting.device, "dtype": setting.pick("bfloat16", "float32"), "progress": hear}
    with typed(job, setting, settings):
        evaluate(job.task, base, **how, **settings)


def ruler_settings(job, setting, cell):
    """Tasks and files of RULER; a row names each task that cannot be asked here."""
    files = {name: Path(setting.options[name]) if name in setting.options else None for name in ("squad", "hotpotqa")}
    wanted = job.settings.get("tasks", tuple(ruler.TASKS))
    lacks = {task: why for task in wanted if (why := ruler.missing(task, **files))}
    for task, why in lacks.items():
        cell.row(task, ok=None, note=f"not asked: {why}")
    return {"tasks": [task for task in wanted if task not in lacks], **files}


@contextmanager
def typed(job, setting, settings):
    """Let results say by which command they can be had at once, all of their jobs together."""
    largest = [each for each in plan(setting).values() if each.task == job.task][-1]
    words = ["ropext", "eval", job.task, setting.pick(BASE_NAME, "tiny-llama")]
    for preset in presets_of(largest, setting):
        words += ["--preset", getattr(preset, "name", str(preset))]
    words += ["--lengths", ",".join(largest.lengths), "--dtype", setting.pick("bfloat16", "float32")]
    words += ["--samples", str(largest.samples)] if largest.samples else []
    for key, value in settings.items():
        words += [f"--{key}", ",".join(value) if isinstance(value, list | tuple) else str(value)] if value else []
    words += [] if job.task == "mixed" else ["--no-short"]
    before, sys.argv = sys.argv, words
    try:
        yield
    finally:
        sys.argv = before


def calibrated(job, base, setting, cell, hear):
    """A calibration; a preset that is there is done."""
    folder = Path(setting.options["output"]) / FOUND
    file = folder / f"{setting.pick(PREFIX, 'tiny-')}found-{job.method}.yaml"
    if file.exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    with inside(base.parent):  # so that what is written down names the model alone
        search(base.name, file, job, setting, hear)


def search(name, file, job, setting, hear):
    """Calibrate the model of a name for a preset's file."""
    known = want(name, setting.pick(TARGET, 256))
    asked = {"lengths": tuple(map(tokens, job.lengths)), "samples": job.samples, "questions": job.settings["questions"]}
    asked |= {"purpose": "balanced", "seed": 0, "texts": (), "resume": True}
    asked |= {"device": setting.device, "dtype": setting.pick("bfloat16", "float32")}
    wish = Wish(name, file, known.facts, known.inv_freq, known.trained.tokens, known.target, asked, hear)
    if job.method == "profile":
        calibrate_profile(wish, job.method, None, job.settings.get("groups", GROUPS))
    else:
        calibrate_grid(wish, job.method)


@contextmanager
def inside(folder):
    """Be in a folder."""
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)
