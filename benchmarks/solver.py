"""The DPRoPE solver against the paper's counting loop, on the same numbers, which must give the same factors."""

import argparse
import time

import numpy as np

from benchmarks.report import show
from ropext.converter.dprope import solve
from tests.reference import dprope as reference


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--initial", type=int, default=4096)
    parser.add_argument("--target", type=int, default=16384)
    parser.add_argument("--head-dim", type=int, default=128)
    options = parser.parse_args()
    inv_freq = 1.0 / 10000.0 ** (np.arange(0, options.head_dim, 2) / options.head_dim)
    begin = time.perf_counter()
    solved = solve(inv_freq, options.initial, options.target)
    middle = time.perf_counter()
    scale = options.target / options.initial
    looped = reference.factors(list(inv_freq), options.initial, options.target, intervals=360, scale=scale)
    end = time.perf_counter()
    assert list(solved.factors) == list(looped)
    fast, slow = middle - begin, end - middle
    rows = [["vectorised", f"{fast:.3f}", f"{slow / fast:.0f}x"], ["counting loop", f"{slow:.1f}", "1x"]]
    show(f"DPRoPE, {options.initial} to {options.target} tokens", ["solver", "seconds", "speed"], rows)
