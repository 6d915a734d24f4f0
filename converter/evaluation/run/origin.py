"""By what a measurement was made."""

from __future__ import annotations

import hashlib
import os
import platform
import re
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path

import ropext
from ropext.converter.names import CONFIG

__all__ = ["machine", "model_digest", "processor", "versions"]

_READ = 2**20
"""Bytes of each file of weights that tell it from others: its header, and the first of its tensors."""


def versions() -> dict[str, str]:
    """The versions of the packages that numbers depend on."""
    return {"ropext": ropext.__version__} | {name: version(name) for name in ("torch", "transformers")}


def model_digest(folder: Path) -> str:
    """Return twelve digits that tell a model from another of its name: of its configuration and its weights' starts."""
    found = hashlib.sha256()
    for file in (folder / CONFIG, *sorted(folder.glob("*.safetensors"))):
        with file.open("rb") as stream:
            found.update(f"{file.name} {file.stat().st_size}\n".encode() + stream.read(_READ))
    return found.hexdigest()[:12]


def machine() -> str:
    """Return the name of the GPU, or of the CPU where there is none."""
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else processor()


def processor() -> str:
    """The CPU's name, and how many cores the machine has."""
    name = platform.processor() or platform.machine()
    with suppress(OSError):  # where Linux tells more
        found = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
        name = found[1] if found else name
    return f"{name}, {os.cpu_count()} cores"
