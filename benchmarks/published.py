"""Our methods to the same methods as their papers describe them: prefill, its memory, and decoding steps.

The papers' forms are dense, so lengths are short, and the model is taken for one that was trained to a shorter length.
"""

import torch

from benchmarks.decode import stepping
from benchmarks.memory import loaded, measure
from benchmarks.models import Models, arguments, in_turn, progress
from benchmarks.peers import PUBLISHED
from benchmarks.report import Report, ratio, ratios, seconds

INITIAL_WINDOW = 1024


@torch.no_grad()
def times(models, name, length, repeats):
    """Seconds of a prefill and of a decoding step: of the published form, and of ours."""
    pair, ids = (models.published(name), models.method(name)), models.tokens(length)
    prefills = [lambda of=of: of(ids, use_cache=True, logits_to_keep=1) for of in pair]
    steps = [stepping(models, of, models.filled_cache(of, length)) for of in pair]
    prefill = in_turn(prefills, repeats, models.device)
    return prefill, in_turn(steps, 5 * repeats, models.device, warm_ups=3)


def loaded_published(options, name):
    """The published form of a method, for `measure`."""
    models = Models(options)
    return models.published(name), models


def added(options, load, name, length):
    """Memory that a prefill adds to the loaded model (MiB)."""
    got = measure(options, load, name, length)
    return got["peak"] - got["loaded"]


def main(argv=None):
    parser = arguments(__doc__, methods=PUBLISHED, lengths=[2048, 4096], repeats=3)
    parser.set_defaults(initial_window=INITIAL_WINDOW)
    parser.add_argument("--no-memory", action="store_true", help="measure times only")
    options = parser.parse_args(argv)
    models = Models(options)
    title = f"As published, to ours: {models.label}, initial window {models.window}"
    report = Report("published" + models.suffix, title, options.output, models.device, model=models.label)
    report.note(
        "Slower, larger: how many times the published form takes what ours does; median (quartiles). The published "
        "form is the paper's formula by dense logits; on a GPU, the programs of DPE and DCA prefill by flash kernels."
    )
    header = ["method", "prefill, published", "ours", "slower", "adds, MiB", "ours", "larger"]
    header += ["step, published", "ours", "slower"]
    for length in options.lengths:
        rows = []
        for name in options.methods:
            progress(f"{name}, {length} tokens")
            prefill, steps = times(models, name, length, options.repeats)
            memory = []
            if not options.no_memory:
                memory = [added(options, load, name, length) for load in (loaded_published, loaded)]
            report.figure(method=name, length=length, prefill=prefill, steps=steps, memory=memory)
            larger = [*(f"{mib:.0f}" for mib in memory), ratio(*memory)] if memory else [""] * 3
            rows.append([name, *map(seconds, prefill), ratios(*prefill), *larger, *map(seconds, steps), ratios(*steps)])
        report.note(f"### {length} tokens")
        report.table(header, rows)
