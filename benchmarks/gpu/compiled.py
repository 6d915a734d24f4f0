"""A few methods compiled: the steps of `generate` with a static cache, and the whole model with a dynamic one."""

import torch
from torch._dynamo.utils import counters

from benchmarks.gpu import uses
from benchmarks.gpu.comparison import Comparison
from benchmarks.gpu.methods import LENGTHS

STEPS_OF = ("dpe", "self_extend", "dprope", "gali", "dca", "dpe_top_k", "jet_long")
WHOLE = ("dpe", "original")


def cells(setting):
    """A case and the use."""
    steps, whole = setting.pick((STEPS_OF, WHOLE), (STEPS_OF[:1], WHOLE[1:]))
    return [f"{case} generate_compiled" for case in steps] + [f"{case} compiled" for case in whole]


def run(cell, setting):
    """One compiled use; how many graphs it took."""
    case, name = cell.name.split()
    use, shape = getattr(uses, name), setting.pick("head_dim_128", "tiny")
    torch._dynamo.reset()
    counters.clear()
    comparison = Comparison(cell, case, shape, "bfloat16", LENGTHS[shape])
    comparison.judge(use, "sdpa", plain_use=uses.REFERENCES[use])
    graphs = counters["stats"]["unique_graphs"]
    breaks = dict(counters["graph_break"])
    cell.row("graphs", ok=graphs > 0, dtype="bfloat16", length=LENGTHS[shape], case=case, graphs=graphs, breaks=breaks)
