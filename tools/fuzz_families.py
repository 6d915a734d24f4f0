"""Configurations of every supported family for `python -m tools.fuzz`: what converts is checked by `verify`.

    python -m tools.fuzz_families FOLDER

writes a tiny base of each family that the installed transformers has, weights as headers alone. It takes torch, and so
a process of its own.
"""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
import warnings
from pathlib import Path

from tools.fuzz_damage import mutated

TYPES = {"F32": 4, "F16": 2, "BF16": 2, "I64": 8, "BOOL": 1}
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


def family_faults(invoke, folder):
    """What `verify` finds in what was just converted: nothing may be bad."""
    if not (folder / "out").exists():
        return None
    report = json.loads(invoke(["verify", str(folder / "out"), "--quick", "--json"]).stdout)
    bad = [check for check in report["checks"] if check["status"] == "bad"]
    return f"converted, and verify says {bad[0]['check']}: {bad[0]['text']}" if bad else None


def _write_bases(folder):
    import torch
    from transformers import AutoModelForCausalLM

    from ropext.converter.checkpoint.families import FAMILIES
    from tests.helpers import zoo

    kinds = {torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16", torch.int64: "I64", torch.bool: "BOOL"}
    for name in zoo.ROWS:
        family = FAMILIES.get(name.partition("+")[0])
        if family is None or family.refused or not zoo.available(name):
            continue
        try:
            with torch.device("meta"), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                model = AutoModelForCausalLM.from_config(zoo.config(name))
        except (NotImplementedError, RuntimeError):  # what cannot be made without memory
            continue
        shapes = {name: (kinds[each.dtype], list(each.shape)) for name, each in model.state_dict().items()}
        _write_base(folder / name, json.loads(zoo.config(name).to_json_string()), type(model).__name__, shapes)


def _write_base(folder, config, architecture, shapes):
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({**config, "architectures": [architecture]}))
    header, end = {}, 0
    for name, (kind, shape) in shapes.items():
        size = TYPES[kind]
        for count in shape:
            size *= count
        header[name] = {"dtype": kind, "shape": shape, "data_offsets": [end, end + size]}
        end += size
    data = json.dumps(header).encode()
    with (folder / "model.safetensors").open("wb") as stream:
        stream.write(struct.pack("<Q", len(data)) + data)
        stream.truncate(8 + len(data) + end)


if __name__ == "__main__":
    _write_bases(Path(sys.argv[1]))
