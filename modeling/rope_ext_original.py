"""The base through the same machinery, bit for bit: what methods are compared with."""

from __future__ import annotations

from torch import Tensor

from .rope_ext_attention import Part
from .rope_ext_method import Method, Tokens


class Original(Method):
    """Exact distances at every length."""

    start = 0
    moves_keys = False

    def is_base(self, length: int) -> bool:
        """Always."""
        return True

    def flash(self, tokens: Tokens) -> Part:
        """Plain causal attention, where transformers' own function is not called (in a compiled graph)."""
        return self.flash_exact(tokens)

    def logits(self, tokens: Tokens) -> Tensor:
        """Logits by exact distances."""
        return self.exact_logits(tokens)
