"""A use of a model on the device, held against the same use on the CPU in float32."""

from contextlib import suppress
from functools import lru_cache
from importlib.util import find_spec

import torch

from benchmarks.gpu import subjects, uses
from benchmarks.gpu.budget import error_of, judged
from benchmarks.gpu.setting import SHAPES

PACKAGED = find_spec("flash_attn") is not None


def backends(dtype):
    """Attention implementations that can run in a type, the dense formula first."""
    return ["eager", "sdpa"] + ["flash_attention_2"] * (PACKAGED and dtype != "float32")


_weights = lru_cache(maxsize=1)(subjects.weights)


class Comparison:
    """One case in one shape and type.

    The truth is what the dense formula gives on the CPU in float32, from weights that are rounded to the type. The
    budget of a use is the error of the dense formula in the type, in the same use on the device; that of the dense
    formula itself is its error on the CPU, in the use that this one has to equal.
    """

    def __init__(self, cell, case, shape, dtype, length):
        self.cell, self.dtype = cell, dtype
        self.shape = SHAPES[shape]
        self.case = subjects.checked_cases(self.shape)[case]
        self.given = uses.Given(self.shape, length, getattr(torch, dtype))
        self.state = {name: weight.to(self.given.dtype).float() for name, weight in _weights(self.shape).items()}
        self.labels = {"case": case, "shape": shape, "dtype": dtype, "length": length}
        self._truths, self._errors = {}, {}

    def judge(self, use, attn, plain_use=None):
        """Write the row of a use by a backend.

        Args:
            use: one of `uses`.
            attn: the backend.
            plain_use: the use whose error by the dense formula is the budget, where it is another.
        """

        def measure():
            error = self.error(use, self.cell.device, attn)
            return judged(error, self._plain(plain_use or use, attn), self.dtype)

        self.cell.attempt(use.__name__, measure, backend=attn, **self.labels)

    def error(self, use, device, attn):
        """The `Error` of a use in the type."""
        key = use, device, attn
        if key not in self._errors:
            dtype = torch.float32 if use is uses.autocast else self.given.dtype
            self._errors[key] = error_of(self._logits(use, dtype, device, attn), self._truth(use))
        return self._errors[key]

    def _truth(self, use):
        use = uses.REFERENCES.get(use, use)
        if use not in self._truths:
            self._truths[use] = self._logits(use, torch.float32, "cpu", "eager")
        return self._truths[use]

    def _plain(self, use, attn):
        """The error of the dense formula that is the budget; that on the CPU too where the one on the device fails."""
        if attn != "eager":
            with suppress(Exception):
                return self.error(use, self.cell.device, "eager")
        return self.error(uses.REFERENCES.get(use, use), "cpu", "eager")

    @torch.no_grad()
    def _logits(self, use, dtype, device, attn):
        model = subjects.build(self.case, self.shape, dtype=dtype, device=device, attn=attn, state=self.state)
        return use(model, self.given)
