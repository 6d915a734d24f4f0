"""The DPRoPE solver against counting angle by angle, on the same numbers, which must give the same factors.

Two peers: the authors' way, a double loop with tensor operations for each angle; and the same loop in plain Python. The
solver alone goes on to longer targets.
"""

import argparse
import math
import time
from pathlib import Path
from statistics import median
from unittest.mock import patch

import numpy as np
import torch

from benchmarks.models import timed
from benchmarks.report import Report, seconds
from ropext.converter.methods.dprope_solver import solve
from tests.reference import dprope as reference


def tensor_distribution(frequency, length, intervals):
    """The reference's, counted into a tensor, one angle of a tensor at a time."""
    counts = torch.full((intervals,), reference.EMPTY_COUNT, dtype=torch.float64)
    turn = torch.tensor(2 * math.pi, dtype=torch.float32)
    for angle in torch.arange(length, dtype=torch.float32) * torch.tensor(frequency, dtype=torch.float32) % turn:
        counts[(angle.double() / (2 * math.pi) * intervals).long()] += 1
    return (counts / length).tolist()


def looped(distribution, inv_freq, initial, target):
    """Factors and seconds of the reference, by one way of counting."""
    begin = time.perf_counter()
    with patch.object(reference, "distribution", distribution):
        factors = reference.factors(list(inv_freq), initial, target, intervals=360, scale=target / initial)
    return factors, time.perf_counter() - begin


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--initial", type=int, default=4096, help="initial window (tokens)")
    parser.add_argument("--targets", type=int, nargs="+", default=[8192, 16384, 32768, 65536, 131072], help="tokens")
    parser.add_argument("--loop-up-to", type=int, default=16384, help="longest target of the counting loop (tokens)")
    parser.add_argument("--head-dim", type=int, default=128)
    parser.add_argument("--repeats", type=int, default=5, help="of the solver")
    parser.add_argument("--output", type=Path, help="folder for the table and the raw figures")
    options = parser.parse_args(argv)
    report = Report("solver", f"DPRoPE from {options.initial} tokens, {options.head_dim // 2} pairs", options.output)
    inv_freq = 1.0 / 10000.0 ** (np.arange(0, options.head_dim, 2) / options.head_dim)
    rows, loops = [], {"tensors": tensor_distribution, "python": reference.distribution}
    for target in options.targets:
        given = (inv_freq, options.initial, target)
        fast = [timed(lambda given=given: solve(*given), "cpu") for _ in range(options.repeats)]
        row, slow = [target, seconds(fast)], {}
        if target <= options.loop_up_to:
            for name, distribution in loops.items():
                factors, slow[name] = looped(distribution, *given)
                assert list(solve(*given).factors) == factors
                row.append(f"{seconds([slow[name]])}, {slow[name] / median(fast):.0f} times ours")
        report.figure(method="solver", length=target, seconds=fast, peer_seconds=slow)
        rows.append(row + [""] * (4 - len(row)))
    report.table(["target", "solver", "loop over tensors, as published", "loop in plain Python"], rows)
