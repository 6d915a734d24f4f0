"""Peak memory of a prefill: each method's preset against its base, each in a process of its own.

The model is SmolLM2-135M in float32, as `ropext demo` writes it; the figure is the peak resident set of the whole
process, weights and libraries included, and beside it what the prefill added to the loaded model.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

from benchmarks.report import show

PRESETS = ["smollm2-135m-dpe", "smollm2-135m-dprope", "smollm2-135m-gali"]

PREFILL = """
import json, resource, sys, time, torch
from transformers import AutoModelForCausalLM
path, length = sys.argv[1], int(sys.argv[2])
model = AutoModelForCausalLM.from_pretrained(path, trust_remote_code=path != sys.argv[3]).eval()
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
ids = torch.randint(3, 1000, (1, length), generator=torch.Generator().manual_seed(0))
with torch.no_grad():
    model(ids[:, :64], logits_to_keep=1)
    loaded, begin = peak(), time.perf_counter()
    model(ids, use_cache=True, logits_to_keep=1)
print(json.dumps({"loaded": loaded, "peak": peak(), "seconds": time.perf_counter() - begin}))
"""


def prefill(path, length, base):
    """Peak memory after loading and after the prefill (MiB), and the prefill's seconds."""
    command = [sys.executable, "-c", PREFILL, str(path), str(length), str(base)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--length", type=int, default=16384, help="tokens of the prompt")
    parser.add_argument("--folder", type=Path, default=Path("ropext-demo"), help="where the models are written")
    options = parser.parse_args()

    from ropext.converter.commands_convert import convert_checkpoint
    from ropext.converter.demo import prepare_base
    from ropext.converter.presets import load_preset

    base = prepare_base(options.folder)
    paths = {"base": base}
    for name in PRESETS:
        paths[name] = convert_checkpoint(load_preset(name), str(base), options.folder / name, force=True).output
    figures = {name: prefill(path, options.length, base) for name, path in paths.items()}
    floor = figures["base"]
    rows = [
        [
            name,
            f"{got['peak']:.0f}",
            f"{got['peak'] / floor['peak']:.2f}",
            f"{got['peak'] - got['loaded']:.0f}",
            f"{got['seconds']:.1f}",
            f"{got['seconds'] / floor['seconds']:.2f}",
        ]
        for name, got in figures.items()
    ]
    header = ["model", "peak, MiB", "ratio", "added by the prefill, MiB", "seconds", "ratio"]
    show(f"Prefill of {options.length} tokens, SmolLM2-135M, float32", header, rows)
