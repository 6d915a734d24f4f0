"""What `ropext memory` estimates for transformers, against the peak resident set of a prefill on a CPU.

Each model is measured in a process of its own, from which the resident set after the imports is subtracted. glibc is
told to return every freed tensor to the system: what it keeps otherwise is no part of the estimate.
"""

import os
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import torch

from benchmarks.memory import MEBIBYTE
from benchmarks.models import Models, arguments, progress
from benchmarks.report import Report
from ropext.converter.memory.api import Question, fit

THRESHOLD = "MALLOC_MMAP_THRESHOLD_"


def status(key):
    """A line of what Linux says of this process's memory (MiB)."""
    with open("/proc/self/status") as lines:
        return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(key))


@torch.no_grad()
def in_this_process(options, name, length):
    """The peak of loading a model and reading a text, and what was there before (MiB)."""
    before = status("VmRSS")
    models = Models(options)
    model = models.base() if name == "base" else models.method(name)
    model(models.tokens(length), use_cache=True, logits_to_keep=1)
    return status("VmHWM") - before


def measured(options, name, length):
    """Measure in a new process."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
        return process.submit(in_this_process, options, name, length).result()


def estimated(models, options, name, length):
    """What the command says (MiB)."""
    method = None if name == "base" else name.removesuffix("_top_k")
    question = Question(
        str(models.folder),
        length,
        dtype=options.dtype or "float32",
        method=method,
        parameters={"top_k": 1} if name.endswith("_top_k") else {},
        runtime="transformers",
    )
    return fit(question).needs[0].total / MEBIBYTE


def main(argv=None):
    parser = arguments(__doc__, methods=["rerope"], lengths=[2048, 8192, 16384], repeats=1)
    options = parser.parse_args(argv)
    os.environ.setdefault(THRESHOLD, "1048576")
    models = Models(options)
    report = Report("fit" + models.suffix, f"Estimated and measured memory: {models.label}", options.output, "cpu")
    report.note(f"{THRESHOLD}={os.environ[THRESHOLD]}")
    rows = []
    for length in options.lengths:
        for name in ["base", *options.methods]:
            progress(f"{name}, {length} tokens")
            guess, got = estimated(models, options, name, length), measured(options, name, length)
            report.figure(method=name, length=length, estimated=guess, measured=got)
            rows.append([name, f"{length:,}", f"{guess:.0f}", f"{got:.0f}", f"{100 * (guess / got - 1):+.1f} %"])
    report.table(["model", "tokens", "estimated, MiB", "measured, MiB", "difference"], rows)
