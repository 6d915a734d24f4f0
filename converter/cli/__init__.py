"""The command `ropext`: click and rich are imported here and nowhere else."""

from .app import main

__all__ = ["main"]
