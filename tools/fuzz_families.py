"""Configurations of every supported family for `python -m tools.fuzz`: what converts is checked by `verify`.

    python -m tools.fuzz_families FOLDER

writes a tiny base of each family that the installed transformers has. It takes torch, and so a process of its own.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import warnings
from pathlib import Path

from tools.fuzz_damage import mutated

LOADED = 0.2
"""The share of conversions that are loaded, too."""
RECENT = "name: t\ndescription: d\nbase_model: b\ninitial_window: 64\ntarget_window: 256\n"
PRESETS = (
    RECENT + "method: self_extend\nparameters: {group_size: 8, local_window: 16}\n",
    RECENT + "method: rerope\nparameters: {local_window: 16}\n",
    *(RECENT + f"method: {name}\nparameters: {{}}\n" for name in ("linear", "ntk", "yarn", "dynamic_ntk")),
)


def make_bases(folder: Path) -> list[Path]:
    """Write the bases by another process and return their folders."""
    subprocess.run([sys.executable, "-m", "tools.fuzz_families", str(folder)], check=True)
    return sorted(folder.iterdir())


def family_input(rng, folder, bases):
    """A family's `config.json`, changed or, once in a while, as it is."""
    base = rng.choice(bases)
    inside = folder / "in"
    inside.mkdir()
    for file in base.iterdir():
        if file.name != "config.json":
            os.link(file, inside / file.name)
    config = json.loads((base / "config.json").read_text())
    data = json.dumps(config).encode() if rng.random() < 0.1 else mutated(rng, config)
    (inside / "config.json").write_bytes(data)
    preset = folder / "good.yaml"
    preset.write_text(rng.choice(PRESETS))
    native = ["--native"] if rng.random() < 0.3 else []
    return ["convert", str(inside), "-p", str(preset), "-o", str(folder / "out"), *native]


def family_faults(rng, invoke, folder, loader):
    """What `verify` finds in what was just converted: nothing may be bad, and what is good loads."""
    if not (folder / "out").exists():
        return None
    report = json.loads(invoke(["verify", str(folder / "out"), "--quick", "--json"]).stdout)
    bad = [check for check in report["checks"] if check["status"] == "bad"]
    if bad:
        return f"converted, and verify says {bad[0]['check']}: {bad[0]['text']}"
    return loader.fault(folder) if rng.random() < LOADED else None


def _write_bases(folder):
    import torch
    import transformers

    from ropext.converter.checkpoint.families import FAMILIES
    from tests.helpers import zoo

    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    for name in zoo.ROWS:
        family = FAMILIES.get(name.partition("+")[0])
        if family is not None and not family.refused and zoo.available(name):
            zoo.build(name).save_pretrained(folder / name)


if __name__ == "__main__":
    _write_bases(Path(sys.argv[1]))
