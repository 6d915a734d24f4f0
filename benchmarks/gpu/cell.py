"""A cell, as its step's process sees it: writes the rows of what is measured, or of what went wrong."""

from dataclasses import dataclass
from functools import cache
from time import perf_counter

import torch
import transformers

from benchmarks.gpu.results import TEXT, Results


@cache
def facts(device):
    """What every row says of the machine."""
    name = torch.cuda.get_device_name() if device == "cuda" else "cpu"
    return {"device": name, "torch": torch.__version__, "transformers": transformers.__version__}


@dataclass(frozen=True)
class Cell:
    """A part of a step that succeeds or fails by itself; writes rows."""

    results: Results
    step: str
    name: str
    device: str

    def row(self, what, **figures):
        """Write a row, as `Results.row`."""
        self.results.row(self.step, self.name, what, facts(self.device), **figures)

    def attempt(self, what, measure, **labels):
        """Write the row of the figures that `measure()` returns, or of what its exception said.

        Raises:
            RuntimeError: the exception has left the GPU unusable, so that this process has to end.
        """
        begin = perf_counter()
        try:
            figures = measure()
        except Exception as error:
            figures = {"ok": False, "error_text": f"{type(error).__name__}: {error}"[:TEXT]}
        self.row(what, seconds=perf_counter() - begin, **labels, **figures)
        if self.device == "cuda":
            torch.cuda.synchronize()
