"""The time of a prefill by each method to its base's, at several lengths.

Of the whole model; or with `--attention-only` of the attention of one layer, rotations included. Runs of the base and
of the method alternate. At lengths at which a method is the base by design the table says so.
"""

import torch

from benchmarks.attention import Layer
from benchmarks.models import REGION_METHODS, Models, arguments, in_turn, progress
from benchmarks.report import Report, ratios, seconds

LENGTHS, ATTENTION_LENGTHS = [2048, 4096, 8192, 16384], [2048, 4096, 8192, 16384, 32768]


@torch.no_grad()
def of_attention(models, name, length, repeats):
    """Figures of one layer's attention."""
    layer = Layer(models, length)
    attend, exact = layer.of(models.method_config(name))
    times, base_times = in_turn([attend, layer.base], repeats, models.device)
    return {"seconds": times, "base_seconds": base_times, "exact": exact}


@torch.no_grad()
def of_model(models, name, length, repeats):
    """Figures of the whole model, logits of the last token only."""
    model, base, ids = models.method(name), models.base(), models.tokens(length)
    runs = [lambda of=of: of(ids, use_cache=True, logits_to_keep=1) for of in (model, base)]
    for of in (model, base):
        of(ids[:, :64], logits_to_keep=1)
    times, base_times = in_turn(runs, repeats, models.device, warm_ups=0)
    method = model.model.rope_ext_attachment.method
    exact = name in REGION_METHODS and method.is_base(length)
    return {"seconds": times, "base_seconds": base_times, "exact": exact}


def main(argv=None):
    parser = arguments(__doc__, methods=REGION_METHODS, lengths=None, repeats=3)
    parser.add_argument("--attention-only", action="store_true", help="one layer's attention in place of the model")
    options = parser.parse_args(argv)
    options.lengths = options.lengths or (ATTENTION_LENGTHS if options.attention_only else LENGTHS)
    models = Models(options)
    measure, name, what = of_model, "prefill", "Prefill"
    if options.attention_only:
        measure, name, what = of_attention, "prefill-attention", "Attention of one layer in a prefill"
    report = Report(name + models.suffix, f"{what}: {models.label}", options.output, models.device, model=models.label)
    report.note(f"Ratios: median (quartiles) of {options.repeats} runs, each to the base's beside it.")
    rows = {method: [] for method in ("base, time", *options.methods)}
    for length in options.lengths:
        base_times = []
        for method in options.methods:
            progress(f"{method}, {length} tokens")
            got = measure(models, method, length, options.repeats)
            report.figure(method=method, length=length, **got)
            base_times += got["base_seconds"]
            ratio = ratios(got["seconds"], got["base_seconds"])
            rows[method].append(f"{ratio}, the base" if got["exact"] else ratio)
        rows["base, time"].append(seconds(base_times))
    report.table(["method", *options.lengths], [[method, *cells] for method, cells in rows.items()])
