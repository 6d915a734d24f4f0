"""A method in a family, as `tests/modeling/test_everywhere.py` uses it."""

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from packaging.version import Version
from torch import Tensor

from ropext.converter.methods.registry import FREQUENCY_METHODS
from tests.helpers import families, tiny
from tests.helpers.oracle import oracle
from tests.reference import dynamic_ntk
from tests.reference.rope import logit

TRANSFORMERS = Version(transformers.__version__)
BACKENDS = ("eager", "sdpa")
LENGTH = 76  # of most inputs: beyond the 64 trained tokens
WITHIN = 40  # every case that depends on how its input is cut is the base up to here
TOLERANCE = {"atol": 3e-4, "rtol": 0}


@dataclass(frozen=True)
class Subject:
    """A case in a family, and a folder for what a use writes."""

    family: str
    name: str
    folder: Path

    @property
    def case(self) -> tiny.Case:
        return tiny.CASES[self.name]

    @property
    def length(self) -> int:
        """Of an input that may be cut in any way."""
        return LENGTH if self.case.feeding else WITHIN

    def model(self, attn: str = "sdpa", dtype: torch.dtype = torch.float32) -> Any:
        """Shared: for uses that change nothing."""
        return _model(self.family, self.name, attn, dtype)

    def base(self, attn: str = "sdpa", dtype: torch.dtype = torch.float32) -> Any:
        """Shared, as `model`."""
        return _base(self.family, attn, dtype)

    def fresh(self, attn: str = "sdpa", **parameters: Any) -> Any:
        """One of its own, the case's parameters changed."""
        changed = copy.deepcopy(self.case.parameters)
        for each in tiny.sets(changed):
            each |= parameters
        return families.converted(self.family, replace(self.case, parameters=changed), attn)

    def oracle(self) -> Callable[..., Any]:
        """The naive logit, for an input of `LENGTH` tokens."""
        case, parameters = self.case, self.case.parameters
        if case.method == "dynamic_ntk":
            return dynamic_ntk.pair_logit(10000.0, 16, LENGTH, initial_window=tiny.INITIAL_WINDOW, **parameters)
        if case.method not in FREQUENCY_METHODS:
            return oracle(self.name, LENGTH)
        inv_freq, factor = np.array(case.inv_freq), parameters.get("attention_factor", 1.0)

        def of(layer: int, query: Any, key: Any, i: int, j: int) -> Any:
            scale = np.where(np.arange(query.shape[-1]) < 2 * len(inv_freq), factor, 1.0)  # of what is turned
            return logit(query * scale, key * scale, float(i - j), inv_freq)

        return of


@lru_cache(maxsize=8)
def _model(family: str, name: str, attn: str, dtype: torch.dtype) -> Any:
    return families.converted(family, name, attn, dtype)


@lru_cache(maxsize=4)
def _base(family: str, attn: str, dtype: torch.dtype) -> Any:
    return families.base(family, attn, dtype)


def close(actual: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(actual, expected, **TOLERANCE)


def fed(model: Any, ids: Tensor, pieces: list[int], mask: Tensor | None = None) -> Tensor:
    """Logits of `ids` given in pieces, as `generate` gives them."""
    whole = torch.ones_like(ids) if mask is None else mask
    positions = (whole.cumsum(-1) - 1).clamp(min=0)
    logits, start, cache = [], 0, None
    for piece in pieces:
        stop = start + piece
        given = {"position_ids": positions[:, start:stop], tiny.CACHE: cache, "use_cache": True}
        if Version("5.10") > TRANSFORMERS:
            given["cache_position"] = torch.arange(start, stop)
        if mask is not None:
            given["attention_mask"] = mask[:, :stop]
        out = model(ids[:, start:stop], **given)
        cache, start = out[tiny.CACHE], stop
        logits.append(out.logits)
    return torch.cat(logits, 1)
