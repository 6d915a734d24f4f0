"""One decoding step: how long the host takes to ask for it, the GPU to do it, and how often they wait."""

from statistics import median

import torch

from benchmarks.gpu import large
from benchmarks.gpu.timing import by_events, profiled, synchronisations

MODELS = ("base", "dpe", "self_extend", "gali", "dca", "jet_long", "dpe_top_k")
BATCHES = (1, 8)
LENGTH = 9216
"""Beyond the trained length, up to which some methods are the base."""
WARM_UPS, STEPS, PROFILED = 3, 20, 3


def cells(setting):
    """A model and a batch size; each model once before any of them again."""
    models = setting.pick(MODELS, MODELS[:2])
    return [f"{name} {batch}" for batch in BATCHES for name in models]


@torch.no_grad()
def run(cell, setting):
    """One model at one batch size."""
    name, batch = cell.name.split()
    length = setting.pick(LENGTH, 100)
    labels = {"dtype": "bfloat16", "length": length, "layers": large.shape(cell.device).layers}

    def measure():
        return step_of(large.Reader(name, int(batch), length, cell.device), setting)

    cell.attempt("step", measure, model=name, batch=int(batch), **labels)


def step_of(reader, setting):
    """Figures of a step; those of the profiler are for one step too."""
    device = setting.device
    reader.prefill()
    for _ in range(WARM_UPS):
        reader.step()
    host, whole = zip(*(by_events(reader.step, device) for _ in range(setting.pick(STEPS, 3))), strict=True)
    waits = synchronisations(reader.step, device)
    seen = profiled(lambda: [reader.step() for _ in range(PROFILED)], device)
    return {
        "ok": None,
        "host_ms": median(host),
        "step_ms": median(whole),
        "waits": waits,
        "kernels_ms": seen.kernels_ms / PROFILED,
        "launches": seen.launches / PROFILED,
        "stream_waits": seen.waits / PROFILED,
    }
