"""Shipped classes with the method that a test asks for: what the converter writes into an entry file."""

from __future__ import annotations

from importlib import import_module
from typing import Any


def parts_of(method: str) -> tuple[Any, Any]:
    """The class of a method, and that of its attachment."""
    module = import_module(f"ropext.modeling.rope_ext_{method}")
    name = "".join(word.capitalize() for word in method.split("_"))
    method_class = getattr(module, name)
    frequencies = import_module("ropext.modeling.rope_ext_frequencies")
    if issubclass(method_class, frequencies.FrequencyMethod):
        return method_class, frequencies.FrequencyAttachment
    return method_class, import_module("ropext.modeling.rope_ext_contacts").Attachment


def with_method(cls: Any, method: str) -> Any:
    """The class with another method."""
    return type(cls.__name__, (cls,), {"rope_ext_parts": parts_of(method), "__module__": cls.__module__})
