"""Write types of the zoo as checkpoints with remote code, and load them again: `python -m tools.emitted`.

A line for each type: how far the loaded model is from the stock one with the method attached in memory, the same after
it was saved and loaded once more, and whether it can be loaded without `trust_remote_code`.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import torch

from tests.helpers import tiny
from tests.helpers.emitted import autos, emit, largest, without_trust
from tests.helpers.zoo_subject import Specimen, kind

from .zoo import TYPES, quiet

TOLERANCE = 1e-4


def faults(name: str, case_name: str, folder: Path) -> list[str]:
    """What is wrong with a type's checkpoint."""
    of = Specimen(name)
    case = of.fitted(tiny.CASES[case_name])
    expected = of.attach(case)(**of.inputs()).logits
    config = emit(of, case, folder)
    found = []
    for auto in autos(config):
        model, info = auto.from_pretrained(folder, trust_remote_code=True, output_loading_info=True)
        model.eval()
        if info["missing_keys"] or info["unexpected_keys"]:
            found.append(f"{auto.__name__}: missing {info['missing_keys']}, unexpected {info['unexpected_keys']}")
        if not (error := largest(model(**of.inputs()).logits - expected)) < TOLERANCE:
            found.append(f"{auto.__name__}: off by {error:.2g}")
    again = folder / "again"
    model.save_pretrained(again)
    loaded = auto.from_pretrained(again, trust_remote_code=True).eval()
    if not (error := largest(loaded(**of.inputs()).logits - expected)) < TOLERANCE:
        found.append(f"saved again: off by {error:.2g}")
    found += [f"{way}: {what}" for way, what in without_trust(folder, of, config).items() if "silence" in what]
    return found


@torch.no_grad()
def main(asked: list[str]) -> int:
    """Run, print, and count the failures."""
    names, failing = asked or TYPES, 0
    for name in [each for each in names if kind(each).available(each)]:
        try:
            if (of := Specimen(name)).rejection or not of.settings:
                continue
        except Exception as error:
            print(f"{name:22} stock: {' '.join(str(error).split())[:100]}")
            continue
        for case in ("self_extend", "yarn"):
            with tempfile.TemporaryDirectory() as scratch:
                try:
                    found = faults(name, case, Path(scratch) / f"{name.replace('+', '_')}-{case}")
                except Exception as error:
                    found = [f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"]
            failing += bool(found)
            print(f"{name:22} {case:12} {'; '.join(found) or 'ok'}", flush=True)
    print(f"{failing} with failures")
    return int(failing > 0)


if __name__ == "__main__":
    quiet()
    sys.exit(main(sys.argv[1:]))
