"""The DPRoPE solver against the paper's counting loop, on the same numbers, which must give the same factors.

The solver alone goes on to longer targets.
"""

import argparse
import time
from pathlib import Path
from statistics import median

import numpy as np

from benchmarks.models import timed
from benchmarks.report import Report, seconds
from ropext.converter.dprope import solve
from tests.reference import dprope as reference


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
    rows = []
    for target in options.targets:
        scale, given = target / options.initial, (options.initial, target)
        fast = [timed(lambda given=given: solve(inv_freq, *given), "cpu") for _ in range(options.repeats)]
        row, slow = [target, seconds(fast), "", ""], []
        if target <= options.loop_up_to:
            begin = time.perf_counter()
            looped = reference.factors(list(inv_freq), *given, intervals=360, scale=scale)
            slow = [time.perf_counter() - begin]
            assert list(solve(inv_freq, *given).factors) == looped
            row[2:] = seconds(slow), f"{slow[0] / median(fast):.0f}"
        report.figure(method="solver", length=target, seconds=fast, peer_seconds=slow)
        rows.append(row)
    report.table(["target", "solver", "counting loop", "ratio"], rows)
