"""The base as it is, in the shipped classes: for comparisons."""

from __future__ import annotations

from .base import Method

METHOD = Method(within_trained=True)
