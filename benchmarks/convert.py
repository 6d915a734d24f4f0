"""`ropext convert` of a large sharded checkpoint, as a whole process: time, memory, bytes moved.

The shards are sparse files: as large as they say, without blocks behind them. Their peer is a plain copy of them.
"""

import argparse
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.report import Report

ROOT = Path(__file__).parent.parent
PRESET = """
name: large-dpe
description: A large synthetic checkpoint.
base_model: large
initial_window: 64
target_window: 256
method: dpe
parameters: {local_window: 16, scale_factors: [2, 8, 4, 16], dimension_groups: [0, 2, 4, 6, 8]}
"""


def checkpoint(folder, gibibytes):
    """A tiny Llama's configuration beside shards of a gibibyte each."""
    sys.path.insert(0, str(ROOT))
    from tests.helpers.checkpoints import shard

    shutil.copytree(ROOT / "tests" / "data" / "tiny-llama", folder)
    shard(folder, count=gibibytes, bytes_each=2**29)


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gibibytes", type=int, nargs="+", default=[1, 4, 16])
    parser.add_argument("--output", type=Path, help="folder for the table and the raw figures")
    options = parser.parse_args(argv)
    rows, report = [], Report("convert", "ropext convert, weights linked", options.output)
    with tempfile.TemporaryDirectory() as scratch:
        preset = Path(scratch) / "large-dpe.yaml"
        preset.write_text(PRESET)
        for size in options.gibibytes:
            source, output = Path(scratch) / f"large-{size}", Path(scratch) / f"converted-{size}"
            checkpoint(source, size)
            command = [sys.executable, "-m", "ropext", "convert", source, "--preset", preset, "-o", output]
            begin = time.perf_counter()
            subprocess.run(list(map(str, command)), check=True, capture_output=True)
            seconds = time.perf_counter() - begin
            peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
            report.figure(gibibytes=size, seconds=[seconds], peak_mib=peak)
            rows.append([f"{size} GiB", f"{seconds:.2f}", f"{peak:.0f}"])
    report.table(["weights", "seconds", "peak, MiB"], rows)
