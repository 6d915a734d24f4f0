"""What importing a converted checkpoint's code takes, beside what transformers' own code of the family takes.

Each measurement is of a fresh process, in turn: transformers' Llama; then in addition the checkpoint's entry file with
all that it imports, with byte code at hand, and without, as at the very first time.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.report import Report, seconds
from ropext.converter.convert.api import convert_checkpoint
from ropext.converter.presets.load import load_preset

ROOT = Path(__file__).parent.parent
PRESET = {
    "name": "tiny",
    "description": "Any method: the code is the same.",
    "base_model": "tiny-llama",
    "initial_window": 64,
    "target_window": 256,
    "method": "self_extend",
    "parameters": {"group_size": 5, "local_window": 16},
}

CHILD = """
import json, sys, time
begin = time.perf_counter()
import torch
import transformers.models.llama.modeling_llama
middle = time.perf_counter()
import checkpoint.modeling_llama_ext
print(json.dumps([middle - begin, time.perf_counter() - middle]))
"""


def fresh_process(folder):
    """Seconds of transformers' own imports, and of the checkpoint's after them."""
    environment = os.environ | {"PYTHONPATH": str(folder.parent)}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    command = [sys.executable, "-c", CHILD]
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    return json.loads(done.stdout.splitlines()[-1])


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--output", type=Path, help="folder for the table and the raw figures")
    options = parser.parse_args(argv)
    figures = {"transformers": [], "at hand": [], "first": []}
    with tempfile.TemporaryDirectory() as scratch:
        preset, folder = Path(scratch) / "tiny.json", Path(scratch) / "checkpoint"
        preset.write_text(json.dumps(PRESET))
        convert_checkpoint(load_preset(str(preset)), str(ROOT / "tests" / "data" / "tiny-llama"), folder)
        for _ in range(options.repeats):
            shutil.rmtree(folder / "__pycache__", ignore_errors=True)
            for when in ("first", "at hand"):
                own, beyond = fresh_process(folder)
                figures["transformers"].append(own)
                figures[when].append(beyond)
        size = sum(file.stat().st_size for file in folder.glob("*.py"))
        count = len(list(folder.glob("*.py")))
    report = Report("import", "Importing a converted checkpoint's code", options.output)
    for name, times in figures.items():
        report.figure(method=name, seconds=times)
    rows = [
        ["torch and transformers' Llama", seconds(figures["transformers"])],
        ["beyond them, byte code at hand", seconds(figures["at hand"])],
        ["beyond them, compiled", seconds(figures["first"])],
    ]
    report.note(f"{count} files, {size / 1024:.0f} KiB. Medians of {options.repeats} processes.")
    report.table(["import", "time"], rows)
