"""Run one benchmark: `python -m benchmarks memory|convert|solver [options]`."""

import sys
from importlib import import_module

NAMES = ("memory", "convert", "solver")

if __name__ == "__main__":
    if len(sys.argv) < 2 or sys.argv[1] not in NAMES:
        sys.exit(f"usage: python -m benchmarks {{{'|'.join(NAMES)}}} [options]")
    name = sys.argv.pop(1)
    import_module(f"benchmarks.{name}").main()
