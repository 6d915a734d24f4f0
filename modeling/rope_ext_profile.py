"""Profiles: each pair's frequency multiplied by a factor that follows from how often it turns in the trained window.

YaRN (arXiv 2309.00071), MrRoPE (arXiv 2601.22181), CoPE's clipping (arXiv 2602.05258), or a finished list. The factors
are computed when a model is converted.
"""

from __future__ import annotations

from .rope_ext_frequencies import FrequencyMethod


class Profile(FrequencyMethod):
    """A factor for each pair, and an attention factor."""
