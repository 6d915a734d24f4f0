"""One decoding step of a method to one of its base, at several lengths of the cache.

The cache is filled with random keys. Steps of the base and of the method alternate. Some methods move all keys at the
first step after a prefill and keep them: that step is reported by itself, and what is kept counts as cache.
"""

from statistics import median

import torch

from benchmarks.models import REGION_METHODS, Models, arguments, cache_bytes, in_turn, progress, timed
from benchmarks.report import Report, ratios, seconds
from ropext.converter.checkpoint.model_cache import cache_name

WARM_UPS = 3


def stepping(models, model, cache):
    """An action: one more token."""
    token = models.tokens(1)
    return lambda: model(token, use_cache=True, **{cache_name(model): cache})


@torch.no_grad()
def measure(models, name, length, repeats):
    """Figures of one method and its base at one length."""
    pair = models.method(name), models.base()
    caches = [models.filled_cache(model, length) for model in pair]
    step, base_step = (stepping(models, model, cache) for model, cache in zip(pair, caches, strict=True))
    base_step()
    first = timed(step, models.device)
    times, base_times = in_turn([step, base_step], repeats, models.device, WARM_UPS)
    kept, base_kept = map(cache_bytes, caches)
    return {"seconds": times, "base_seconds": base_times, "first": first, "bytes": kept, "base_bytes": base_kept}


def main(argv=None):
    parser = arguments(__doc__, methods=REGION_METHODS, lengths=[8192, 32768], repeats=15)
    options = parser.parse_args(argv)
    models = Models(options)
    title = f"One decoding step: {models.label}"
    report = Report("decode" + models.suffix, title, options.output, models.device, model=models.label)
    report.note(f"Ratios: median (quartiles) of {options.repeats} steps, each to the base's beside it.")
    header = ["method", "step", "base", "ratio", "first step", "KV cache"]
    for length in options.lengths:
        rows, own = [], {}
        for name in options.methods:
            progress(f"{name}, {length} tokens")
            got = own[name] = measure(models, name, length, options.repeats)
            report.figure(method=name, length=length, **got)
            times, base_times = got["seconds"], got["base_seconds"]
            kept = f"{got['bytes'] / got['base_bytes']:.2f}"
            rows.append(
                [name, *map(seconds, (times, base_times)), ratios(times, base_times), seconds([got["first"]]), kept]
            )
        report.note(f"### {length} tokens in the cache")
        report.table(header, rows)
        if {"dpe", "dpe_top_k"} <= own.keys():
            relative = [
                median(own[name]["seconds"]) / median(own[name]["base_seconds"]) for name in ("dpe_top_k", "dpe")
            ]
            report.note(f"DPE with top-k to DPE without: {relative[0] / relative[1]:.2f}.")
    report.save()
