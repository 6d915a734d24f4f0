"""Run one benchmark: `python -m benchmarks NAME [options]`; each has `--help`."""

import sys
from importlib import import_module

MODULES = {
    "prefill": "prefill",
    "decode": "decode",
    "memory": "memory",
    "fit": "fit",
    "published": "published",
    "convert": "convert",
    "import": "importing",
    "solver": "solver",
    "plot": "plot",
    "gpu": "gpu.command",
}

if __name__ == "__main__":
    if len(sys.argv) < 2 or sys.argv[1] not in MODULES:
        sys.exit(f"usage: python -m benchmarks {{{'|'.join(MODULES)}}} [options]")
    name = sys.argv.pop(1)
    import_module(f"benchmarks.{MODULES[name]}").main()
