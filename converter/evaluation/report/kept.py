"""Names of models that kept keys and values in fewer bits."""

from __future__ import annotations

__all__ = ["with_kv_dtype", "without_kv_dtype"]

_END = " keys and values"
_BETWEEN = ", "


def with_kv_dtype(name: str, kv_dtype: str) -> str:
    """Return what a model is called that kept keys and values in a type."""
    return f"{name}{_BETWEEN}{kv_dtype}{_END}"


def without_kv_dtype(name: str) -> str:
    """Return what the same model is called where it kept them whole; nothing where it did."""
    return name.removesuffix(_END).rpartition(_BETWEEN)[0] if name.endswith(_END) else ""
