"""What a benchmark prints and keeps: the machine, Markdown tables, and the raw figures as JSON."""

import json
import os
import platform
from datetime import date
from importlib.metadata import version
from pathlib import Path
from statistics import median, quantiles

from ropext.converter.evaluation.run.origin import processor


def machine(device="cpu"):
    """Date, processor and versions, as one line."""
    packages = ", ".join(f"{name} {version(name)}" for name in ("torch", "transformers", "ropext"))
    where = processor()
    if "OMP_NUM_THREADS" in os.environ:
        where += f" (OMP_NUM_THREADS={os.environ['OMP_NUM_THREADS']})"
    if device == "cuda":
        import torch

        where = f"{torch.cuda.get_device_name()}, {where}"
    return f"{date.today()}, {where}, Python {platform.python_version()}, {packages}"


class Report:
    """Tables under one title, printed as they come, and kept in `output` as Markdown and JSON where that is given."""

    def __init__(self, name, title, output=None, device="cpu", **facts):
        self.name, self.output = name, output
        self.record = {"benchmark": name, "title": title, "machine": machine(device), **facts, "figures": []}
        self.text = ""
        self._print(f"## {title}\n\n{self.record['machine']}")

    def _print(self, text):
        print(f"{text}\n", flush=True)
        self.text += f"{text}\n\n"

    def note(self, text):
        """A paragraph."""
        self._print(text)

    def figure(self, **figure):
        """Keep one measurement for the JSON."""
        self.record["figures"].append(figure)
        self.save()

    def table(self, header, rows):
        """Print a table."""
        lines = ("| " + " | ".join(map(str, row)) + " |" for row in (header, ["---"] * len(header), *rows))
        self._print("\n".join(lines))
        self.save()

    def save(self):
        """Write what there is so far."""
        if self.output:
            folder = Path(self.output)
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"{self.name}.md").write_text(self.text.rstrip() + "\n")
            (folder / f"{self.name}.json").write_text(json.dumps(self.record, indent=1) + "\n")


def ratio(figure, peer):
    """One measurement to the peer's; nothing where the peer's was too small to be measured."""
    return f"{figure / peer:.2f}" if peer > 0 else "–"


def ratios(figures, peers):
    """Median and quartiles of the ratios of measurements taken in turn, each to the peer's before it."""
    each = [figure / peer for figure, peer in zip(figures, peers, strict=True)]
    low, high = (each[0], each[0]) if len(each) == 1 else quantiles(each, n=4, method="inclusive")[::2]
    return f"{median(each):.2f} ({low:.2f}–{high:.2f})"


def seconds(times):
    """The median, with a unit that suits it."""
    time = median(times)
    return f"{time * 1000:.1f} ms" if time < 1 else f"{time:.1f} s"
