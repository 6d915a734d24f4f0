"""Prefill, decoding and peak memory of a large model, by each method and by its base, in turn in one process."""

from functools import cache

import torch

from benchmarks.gpu import large
from benchmarks.gpu.timing import peak, profiled, reset_peak, synchronisations, timed

FIRST, OTHERS = ("dpe", "self_extend"), ("dpe_top_k", "gali", "dca", "jet_long", "string", "rerope", "yarn")
ROUNDS = {8192: 3, 32768: 2, 131072: 1}
"""Prefills of each model by length."""
LONGEST_WARM_UP = 32768
STEPS = 12


def cells(setting):
    """A model and a length, those of most worth first; the kernels of a prefill."""
    short, long, longest = ROUNDS
    names = [f"dpe {short}", f"kernels {short}", f"self_extend {short}"]
    names += [f"{name} {long}" for name in (*FIRST, *OTHERS)]
    names += [f"{name} {longest}" for name in FIRST]
    names += [f"flex {short}", f"flex {long}"]
    names += [f"{name} {short}" for name in OTHERS]
    return setting.pick(names, ["dpe 150", "kernels 150", "dpe_top_k 150", "flex 150"])


@torch.no_grad()
def run(cell, setting):
    """One model beside its base."""
    name, length = cell.name.split()
    length, device = int(length), cell.device
    labels = {"dtype": "bfloat16", "length": length, "layers": large.shape(device).layers}
    if device == "cpu":
        torch.compiler.set_stance("force_eager")  # flex_attention would be compiled for most of a minute
    if name == "kernels":
        for each in ("base", *FIRST):
            cell.attempt("heaviest kernels", lambda each=each: heaviest(each, length, device), model=each, **labels)
    else:
        cell.attempt("to the base", lambda: compared(name, length, device), model=name, **labels)


def compared(name, length, device):
    """Figures of a model, and of its base by the same names with `base_` before them; one of each for each round."""
    for each in ("base", name):
        warm(each, min(length, LONGEST_WARM_UP), device)
    readers = {"": large.Reader(name, 1, length, device), "base_": large.Reader("base", 1, length, device)}
    figures = {}
    for _ in range(ROUNDS.get(length, 1)):
        for prefix, reader in readers.items():
            for figure, found in sweep(reader, device).items():
                figures.setdefault(prefix + figure, []).append(found)
    return {"ok": None} | figures


@cache
def warm(name, length, device):
    """What a process does at its first texts of a length."""
    sweep(large.Reader(name, 1, length, device), device)


def sweep(reader, device):
    """A prefill and some steps: seconds, memory (MiB) and how often a step waits for the GPU."""
    before = reset_peak(device)
    found = {"before": before, "prefill": timed(reader.prefill, device), "peak": peak(device)}
    found["first_step"] = timed(reader.step, device)
    found["steps"] = [timed(reader.step, device) for _ in range(STEPS)]
    found["waits"] = synchronisations(reader.step, device)
    reader.forget()
    return found


def heaviest(name, length, device):
    """The kernels that a prefill spends its time in."""
    reader = large.Reader(name, 1, length, device)
    reader.prefill()
    seen = profiled(reader.prefill, device)
    return {"ok": None, "kernels_ms": seen.kernels_ms, "launches": seen.launches, "heaviest": seen.heaviest}
