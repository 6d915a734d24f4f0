"""Plots of growth from the raw figures of `prefill` and `decode`: time as a multiple of the base's against length.

Each curve's exponent, fitted by least squares to three lengths or more, stands in the legend: 2 means four times the
time for twice the length.
Lengths at which a method is the base by design are left out of its curve, and figures of one length altogether. Needs
matplotlib, the extra `bench`.
"""

import argparse
import json
from pathlib import Path
from statistics import median

import numpy as np

from ropext.converter.evaluation.report.drawing import Picture, heading, legend, line_style, save

RESULTS = Path(__file__).parent / "results"


def curves(record):
    """Lengths and seconds of the base, and of each method.

    The base's are medians; a method's are its ratio to the base beside it times those, free of the machine's drift.
    """
    base, points = {}, {}
    for figure in record["figures"]:
        base.setdefault(figure["length"], []).extend(figure["base_seconds"])
    base = {length: median(times) for length, times in base.items()}
    for figure in record["figures"]:
        if not figure.get("exact"):
            pairs = zip(figure["seconds"], figure["base_seconds"], strict=True)
            ratio = median(own / peer for own, peer in pairs)
            points.setdefault(figure["method"], {})[figure["length"]] = ratio * base[figure["length"]]
    return {name: (sorted(of), [of[length] for length in sorted(of)]) for name, of in {"base": base, **points}.items()}


def exponent(lengths, times):
    """The exponent of the best power law; None for fewer than three lengths, which any power law fits."""
    return None if len(lengths) < 3 else np.polyfit(np.log(lengths), np.log(times), 1)[0]


def draw(record, file):
    """Write one plot."""
    found = curves(record)
    base = dict(zip(*found["base"], strict=True))
    grows = {name: exponent(*of) for name, of in found.items()}
    what = "time, as a multiple of the base's; after names: the growth exponent"
    title = record["title"] if any(grows.values()) else f"{record['title']}: time, as a multiple of the base's"

    def fill(part):
        axes = part.subplots()
        for number, (name, (lengths, times)) in enumerate(found.items()):
            ratios = [time / base[length] for length, time in zip(lengths, times, strict=True)]
            label = name if grows[name] is None else f"{name}: {grows[name]:.2f}"
            axes.semilogx(lengths, ratios, label=label, **line_style(number - 1, base=name == "base"))
        axes.set_xticks(sorted(base), [f"{length:,}\n{base[length]:.3g} s" for length in sorted(base)])
        axes.minorticks_off()
        axes.set_xlabel("tokens, and the base's time")
        axes.set_ylabel("time, as a multiple of the base's")
        axes.grid(alpha=0.3)
        heading(part, title, what if any(grows.values()) else "")
        legend(part, axes)

    save([Picture(title, title, 3.6, fill)], file)


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("figures", type=Path, nargs="*", help="JSON files; by default all of prefill and decode")
    parser.add_argument("--output", type=Path, default=RESULTS, help="folder of the plots")
    options = parser.parse_args(argv)
    options.output.mkdir(parents=True, exist_ok=True)
    files = options.figures or sorted([*RESULTS.glob("prefill*.json"), *RESULTS.glob("decode*.json")])
    for figures in files:
        record = json.loads(figures.read_text())
        if len({figure["length"] for figure in record["figures"]}) < 2:
            continue  # nothing grows
        file = options.output / f"{figures.stem}.svg"
        draw(record, file)
        print(file)
