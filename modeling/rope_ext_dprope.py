"""DPRoPE, distribution of rotary angles (arXiv 2410.01490, EMNLP 2024): each pair interpolated or left as it is.

The choice is made when a model is converted.
"""

from __future__ import annotations

from .rope_ext_frequencies import FrequencyMethod


class Dprope(FrequencyMethod):
    """A choice for each pair."""
