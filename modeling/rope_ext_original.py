"""The base through the same machinery, bit for bit: what methods are compared with."""

from __future__ import annotations

from torch import Tensor

from .rope_ext_geometry import Geometry
from .rope_ext_method import Method, Tokens


class Original(Method):
    """Exact distances at every length."""

    start = 0

    def is_base(self, length: int | None) -> bool:
        """Always."""
        return True

    def stored_key(self, key: Tensor, exact_key: Tensor, geometry: Geometry) -> Tensor:
        """The base's own."""
        return exact_key

    def exact_keys(self, tokens: Tokens, start: int = 0) -> Tensor:
        """As they are stored."""
        return tokens.stored[:, :, start:]
