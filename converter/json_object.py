"""Reading JSON that somebody else wrote."""

from __future__ import annotations

import json
from typing import Any

from .errors import RopextError

__all__ = ["parse_object"]


def parse_object(data: str | bytes, name: str) -> dict[str, Any]:
    """Parse a JSON object.

    Args:
        data: the text, or its bytes.
        name: of the file, for messages.

    Raises:
        RopextError: it is not JSON, or not an object.
    """
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise RopextError(f"{name}: not valid JSON: {error}.") from None
    if not isinstance(value, dict):
        raise RopextError(f"{name}: expected a JSON object, found {type(value).__name__}.")
    return value
