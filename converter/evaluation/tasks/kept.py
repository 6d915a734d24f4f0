"""What is asked with keys and values kept in fewer bits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ropext.converter.evaluation.asking import Item, Model

__all__ = ["KV_DTYPES", "NOT_KEPT", "Kept"]

KV_DTYPES = ("fp8", "int4", "int2")
"""Types in which keys and values can be kept."""

NOT_KEPT = ("ppl", "attention")
"""Tasks that read a text in one forward, which no cached key takes part in."""


@dataclass(frozen=True)
class Kept:
    """An item, asked of a model that keeps keys and values in another type.

    Attributes:
        item: what is asked.
        kv_dtype: one of `KV_DTYPES`.
    """

    item: Item
    kv_dtype: str

    @property
    def key(self) -> str:
        """What tells it from the same without."""
        return f"{self.kv_dtype} {self.item.key}"

    @property
    def size(self) -> int:
        """Tokens of its texts."""
        return self.item.size

    @property
    def asked(self) -> str:
        """Digest of what is asked."""
        return self.item.asked

    def measure(self, model: Model) -> dict[str, Any]:
        """Ask the model while it keeps keys and values so."""
        with model.keeping(self.kv_dtype):
            return {"kv_dtype": self.kv_dtype, **self.item.measure(model)}
