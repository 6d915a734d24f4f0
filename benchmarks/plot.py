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

RESULTS = Path(__file__).parent / "results"


def curves(record):
    """Of the base, and of each method: lengths and seconds.

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
    """Of the power law that fits best; None for fewer than three lengths, through which every such law fits."""
    return None if len(lengths) < 3 else np.polyfit(np.log(lengths), np.log(times), 1)[0]


def draw(record, file):
    """Write one plot."""
    import matplotlib

    matplotlib.use("svg")
    # The same figures give the same file, with text that can be searched.
    matplotlib.rcParams.update({"svg.hashsalt": "ropext", "svg.fonttype": "none"})
    from matplotlib import pyplot

    plot, axes = pyplot.subplots(figsize=(8, 5), layout="constrained")
    found = curves(record)
    base = dict(zip(*found["base"], strict=True))
    for number, (name, (lengths, times)) in enumerate(found.items()):
        grows = exponent(lengths, times)
        style = {"marker": "osD^vP*X"[number % 8], "markersize": 5}
        if name == "base":
            style = {"color": "black", "linewidth": 2.5}
        ratios = [time / base[length] for length, time in zip(lengths, times, strict=True)]
        axes.semilogx(lengths, ratios, label=name if grows is None else f"{name}: {grows:.2f}", **style)
    axes.set_xticks(sorted(base), [f"{length:,}\n{base[length]:.3g} s" for length in sorted(base)])
    axes.minorticks_off()
    axes.set_xlabel("tokens, and the base's time")
    axes.set_ylabel("time, as a multiple of the base's")
    axes.set_title(record["title"], fontsize=10)
    axes.grid(alpha=0.3)
    fitted = any(exponent(*of) is not None for of in found.values())
    axes.legend(title="growth exponent" if fitted else None, fontsize=8)
    plot.savefig(file, metadata={"Date": None})
    pyplot.close(plot)


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
