"""The check that this transformers still calls the shipped code as the versions do on which it was tested.

A change of transformers shows in decoding: the last of a few tokens, read with a cache, has to equal itself without.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from os import getenv
from typing import Any

import torch
import transformers
from packaging.version import Version
from torch import Tensor
from transformers import Cache

TESTED = ("4.55.4", "5.24.0")
"""The oldest and the newest transformers on which this code was tested."""

TOKENS = 7
TOLERANCE = 1e-3
"""The largest difference over the largest number, float32; it is 1e-6 where all is right."""
HALF_TOLERANCE = 0.05
"""The same in 16 bits, where it is up to 0.02."""


def is_due() -> bool:
    """Whether the self-test has to run: on an untested transformers, or if `ROPEXT_SELF_TEST=1` asks for it."""
    oldest, newest = map(Version, TESTED)
    version = Version(Version(transformers.__version__).base_version)
    return getenv("ROPEXT_SELF_TEST") == "1" or not oldest <= version <= newest


@torch.no_grad()
def self_test(decoder: Any, small: Callable[[], AbstractContextManager[Any]] = nullcontext) -> float:
    """Compare the last of 7 tokens after a cache (5 + 1 + 1) with itself without one.

    Args:
        decoder: the model without its head.
        small: makes the method act on so few tokens, for the time of the test.

    Returns:
        The largest difference, over the largest number.

    Raises:
        RuntimeError: they differ, or this transformers returns no cache.
    """
    training = decoder.training
    decoder.eval()
    try:
        with small():
            whole = decoder(input_ids=_ids(decoder), use_cache=False)[0][:, -1]
            last = _after_cache(decoder)
    finally:
        decoder.train(training)
    half = whole.dtype in (torch.bfloat16, torch.float16)
    off = float((last.float() - whole.float()).abs().max() / whole.float().abs().max())
    if not off <= (HALF_TOLERANCE if half else TOLERANCE):
        raise RuntimeError(_refusal(f"a token read after a cache differs from itself without one, by {off:.2g}"))
    return off


def _ids(decoder: Any) -> Tensor:
    embedding = decoder.get_input_embeddings()
    ids: Tensor = torch.arange(TOKENS, device=embedding.weight.device)[None] * 7 % min(50, embedding.num_embeddings)
    return ids


def _after_cache(decoder: Any) -> Tensor:
    ids = _ids(decoder)
    out = decoder(input_ids=ids[:, : TOKENS - 2], use_cache=True)
    for column in (TOKENS - 2, TOKENS - 1):
        caches = {name: value for name, value in out.items() if isinstance(value, Cache)}
        if len(caches) != 1:
            raise RuntimeError(_refusal(f"a forward returned {len(caches)} caches, and 1 was expected"))
        out = decoder(input_ids=ids[:, column : column + 1], use_cache=True, **caches)
    last: Tensor = out[0][:, -1]
    return last


def _refusal(what: str) -> str:
    return (
        f"ropext: this checkpoint's code does not work with transformers {transformers.__version__}: {what}. Install a "
        f"transformers from {TESTED[0]} to {TESTED[1]}, or let a newer ropext rewrite the code: ropext upgrade FOLDER."
    )
