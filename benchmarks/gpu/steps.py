"""The steps in order of worth, and how long each may take."""

from dataclasses import dataclass
from importlib.util import find_spec


@dataclass(frozen=True)
class Step:
    """A module, run in a process of its own.

    It has `cells(setting)`, the names of its cells, and `run(cell, setting)`. A process that ends before its
    step does is started again for the cells that are left.

    Attributes:
        name: of the module in this package.
        title: of its table.
        seconds: how long it may take, beside what the steps before it left.
        cell_seconds: how long one cell may take.
        package: without which it is left out; empty: it needs none.
        rehearsed: whether its rehearsal needs no package.
    """

    name: str
    title: str
    seconds: int
    cell_seconds: int
    package: str = ""
    rehearsed: bool = True

    @property
    def module(self):
        """The full name of its module."""
        return f"benchmarks.gpu.{self.name}"

    def missing(self, device):
        """The package for lack of which it cannot run on a device; empty where it can."""
        needed = self.package and not (device == "cpu" and self.rehearsed)
        return self.package if needed and find_spec(self.package) is None else ""


STEPS = (
    Step("kernels", "Attention primitives against the plain formula", 45, 40),
    Step("paged", "Near and far attention over vLLM's paged cache", 30, 30, "vllm"),
    Step("methods", "Methods against the dense formula in float32", 120, 40),
    Step("speed", "Prefill, decoding and memory to the base", 180, 120),
    Step("host", "One decoding step: what the host and the GPU do", 45, 45),
    Step("served", "Converted checkpoints in vLLM against transformers", 80, 80, "vllm", rehearsed=False),
    Step("compiled", "Compiled", 60, 90),
)
QUALITY = Step("quality", "SmolLM2-135M-Instruct beyond its trained length", 480, 400)
"""A command of its own: it takes as long as it is given."""
