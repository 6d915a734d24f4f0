"""NTK-aware scaling (arXiv 2309.00071, section 3.1): theta raised so that the lowest frequency is divided by s."""

from __future__ import annotations

from .rope_ext_frequencies import FrequencyMethod


class Ntk(FrequencyMethod):
    """A larger theta."""
