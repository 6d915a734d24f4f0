"""Every way to spell RoPE, through a conversion and two loads: `python -m tools.spellings --load`.

A tiny checkpoint is spelled so, converted by `original`, and loaded with `trust_remote_code=True`; the base is loaded
by the stock classes. Frequencies have to be the same, in every rotary module and in the `rope_ext` block, and so do
logits.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType
from typing import Any

import torch
import transformers
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoModelForImageTextToText

from ropext.converter.convert.api import convert
from ropext.converter.errors import RopextError
from tests.helpers import zoo, zoo_composites
from tools.spellings import TOLERANCE, Case

PRESET = "name: o\ndescription: d\nbase_model: b\ninitial_window: 32\ntarget_window: 64\nmethod: original\n"
LENGTH = 16
"""Tokens that are read: fewer than any window of the tiny models, since a conversion turns some windows off."""

LOGITS = 1e-4


class Loading:
    """Conversions and loads in a folder of their own.

    Attributes:
        folder: where bases and outputs are written. A type's outputs replace each other, so its code is imported once.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._saved = self._class = ""
        (folder / "preset.yaml").write_text(f"{PRESET}parameters: {{}}\n")

    def outcome(self, case: Case) -> tuple[str, str]:
        """Return how a configuration comes out: equal, refused, differs or stock cannot, and details."""
        name = case.name.split(":")[0]
        base, output = self._base(name, case.config), self.folder / "converted" / name.replace("+", "-with-")
        try:
            convert(base, preset=self.folder / "preset.yaml", output=output, force=True)
        except RopextError as error:
            return "refused", str(error).removeprefix(f"{base}: ")
        kind = AutoModelForImageTextToText if _kind(name) is zoo_composites else AutoModelForCausalLM
        try:
            stock = kind.from_pretrained(base).eval()
            expected = _logits(stock, name)
        except Exception as error:  # whatever stock classes die of
            return "stock cannot", f"{type(error).__name__}: {error}"
        try:
            found = kind.from_pretrained(output, trust_remote_code=True).eval()
            differs = list(differences(found, stock)) or _far(_logits(found, name), expected)
        except Exception as error:  # it is no better than other numbers
            differs = [f"{type(error).__name__}: {error}"]
        return ("differs", "; ".join(differs)) if differs else ("equal", "")

    def _base(self, name: str, config: dict[str, Any]) -> Path:
        """Write the checkpoint; weights are those of the type."""
        folder = self.folder / "base" / name.replace("+", "-with-")
        if self._saved != name:
            model = _kind(name).build(_row(name))
            model.save_pretrained(folder)
            self._saved, self._class = name, type(model).__name__
        (folder / "config.json").write_text(json.dumps({**config, "architectures": [self._class]}))
        return folder


def _row(name: str) -> str:
    """The row of the zoo: a name may say more after a comma."""
    return name.partition(",")[0]


def _kind(name: str) -> ModuleType:
    return zoo_composites if _row(name) in zoo_composites.TEXT else zoo


def _logits(model: Any, name: str) -> Tensor:
    return model(**zoo.inputs(_row(name), LENGTH)).logits  # type: ignore[no-any-return]


def _far(found: Tensor, expected: Tensor) -> list[str]:
    worst = float((found - expected).abs().max())
    return [] if worst <= LOGITS else [f"logits by {worst:.2g}"]


def differences(found: Any, stock: Any) -> Iterator[str]:
    """Name the rotary modules whose frequencies are not the stock model's, and the block if its are not."""
    wanted, held = _frequencies(stock), _frequencies(found)
    if not wanted:
        yield "no rotary module has frequencies"
    for name in wanted.keys() & held.keys():
        if not torch.equal(wanted[name], held[name]):
            yield f"{name}: {held[name][:4].tolist()} and {wanted[name][:4].tolist()}"
    full = [tensor for name, tensor in wanted.items() if "sliding" not in name]
    block = torch.tensor(found.config.rope_ext["inv_freq"])
    if not any(len(block) == len(each) and torch.allclose(block, each, rtol=TOLERANCE, atol=0) for each in full):
        yield f"rope_ext.inv_freq: {block[:4].tolist()}"


def _frequencies(model: Any) -> dict[str, Tensor]:
    """The frequencies of the text model's rotary modules, by name."""
    return {
        name: tensor.float()
        for name, tensor in model.named_buffers()
        if name.endswith("inv_freq") and "original" not in name and not any(o in name for o in ("vision", "visual"))
    }


@contextmanager
def loading() -> Iterator[Loading]:
    """Make a place for conversions, and keep transformers' remarks off the terminal."""
    disabled, threads = logging.root.manager.disable, torch.get_num_threads()
    logging.disable(logging.WARNING)
    transformers.utils.logging.disable_progress_bar()
    torch.set_num_threads(1)
    try:
        with TemporaryDirectory(prefix="spellings-") as folder, torch.inference_mode():
            yield Loading(Path(folder))
    finally:
        logging.disable(disabled)
        torch.set_num_threads(threads)
