"""What only a GPU can tell, in one command of a few minutes: `python -m benchmarks gpu`.

It needs a checkout, torch and transformers, and nothing else.
"""

import sys
from importlib import import_module
from pathlib import Path

ROOT = Path(__file__).parents[2]

try:
    import_module("ropext.modeling")
except ModuleNotFoundError:  # not installed: by the links that type checkers use
    sys.path.insert(0, str(ROOT / ".typecheck"))
