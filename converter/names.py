"""Files of a checkpoint that have names of their own."""

from __future__ import annotations

__all__ = ["CARD", "CODE_LICENSE", "CONFIG", "PROVENANCE"]

PROVENANCE = "ropext.json"
"""The file that marks a folder as converted and lists its contents; written from what was really done."""

CONFIG = "config.json"
CARD = "README.md"
CODE_LICENSE = "LICENSE.ropext"
"""The terms of the shipped code, beside the base's own."""
