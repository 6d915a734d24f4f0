"""The steps in order of worth, and how long each may take."""

from dataclasses import dataclass


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
    """

    name: str
    title: str
    seconds: int
    cell_seconds: int

    @property
    def module(self):
        """Its full name."""
        return f"benchmarks.gpu.{self.name}"


STEPS = (
    Step("kernels", "Attention primitives against the plain formula", 40, 40),
    Step("paged", "Near and far attention over vLLM's paged cache", 60, 40),
    Step("methods", "Methods against the dense formula in float32", 150, 40),
    Step("speed", "Prefill, decoding and memory to the base", 185, 120),
    Step("host", "One decoding step: what the host and the GPU do", 40, 40),
    Step("compiled", "Compiled", 55, 55),
)
