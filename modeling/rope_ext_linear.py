"""Linear scaling, or position interpolation (arXiv 2306.15595): every frequency divided by the same number."""

from __future__ import annotations

from .rope_ext_frequencies import FrequencyMethod


class Linear(FrequencyMethod):
    """Positions shrunk evenly."""
