"""Peak memory of a prefill by each method to its base's.

On a CPU each model is measured in a process of its own: the peak resident set, weights and libraries included, and what
the prefill added to the loaded model. On a GPU: the peak of what torch allocated.
"""

from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import torch

from benchmarks.models import REGION_METHODS, Models, arguments, progress, timed
from benchmarks.report import Report, ratio

MEBIBYTE = 2**20


def peak(device):
    """The most memory that was held so far (MiB)."""
    if device == "cuda":
        return torch.cuda.max_memory_allocated() / MEBIBYTE
    # Not `ru_maxrss`, which a process inherits from the one that started it.
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) / 1024 for line in status if line.startswith("VmHWM"))


@torch.no_grad()
def prefill(model, ids, device):
    """Figures of one model that is loaded."""
    model(ids[:, :64], logits_to_keep=1)
    if device == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    loaded = peak(device)
    seconds = timed(lambda: model(ids, use_cache=True, logits_to_keep=1), device)
    return {"loaded": loaded, "peak": peak(device), "seconds": [seconds]}


def loaded(options, name):
    """The model of a name, `base` among them."""
    models = Models(options)
    return models.base() if name == "base" else models.method(name), models


def _in_this_process(options, load, name, length):
    model, models = load(options, name)
    return prefill(model, models.tokens(length), models.device)


def measure(options, load, name, length):
    """Figures of the model that `load(options, name)` returns, with its `Models`, in a process of its own."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
        return process.submit(_in_this_process, options, load, name, length).result()


def main(argv=None):
    parser = arguments(__doc__, methods=REGION_METHODS, lengths=[4096], repeats=1)
    options = parser.parse_args(argv)
    models = Models(options)
    report = Report(
        "memory" + models.suffix, f"Peak memory of a prefill: {models.label}", options.output, models.device
    )
    header = ["model", "peak, MiB", "ratio", "added by the prefill, MiB", "ratio", "seconds"]
    for length in options.lengths:
        rows, floor = [], None
        for name in ["base", *options.methods]:
            progress(f"{name}, {length} tokens")
            got = measure(options, loaded, name, length)
            report.figure(method=name, length=length, **got)
            floor = floor or got
            added, floor_added = (figures["peak"] - figures["loaded"] for figures in (got, floor))
            peaks = f"{got['peak']:.0f}", ratio(got["peak"], floor["peak"])
            rows.append([name, *peaks, f"{added:.0f}", ratio(added, floor_added), f"{got['seconds'][0]:.1f}"])
        report.note(f"### {length} tokens")
        report.table(header, rows)
