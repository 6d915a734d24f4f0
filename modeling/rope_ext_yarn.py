"""YaRN (arXiv 2309.00071): high frequencies kept, low ones divided, and queries and keys scaled by a factor."""

from __future__ import annotations

from .rope_ext_frequencies import FrequencyMethod


class Yarn(FrequencyMethod):
    """Frequencies by parts, with an attention factor."""
