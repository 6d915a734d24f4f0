"""The base as it is, in the shipped classes: for comparisons."""

from __future__ import annotations

from .base import Method

METHOD = Method(
    about=(
        "The [RoPE](https://arxiv.org/abs/2104.09864) of the base is computed as it is, by ropext's code. "
        "Nothing changes: it is for comparing methods with the base, loaded in one way."
    ),
    within_trained=True,
)
