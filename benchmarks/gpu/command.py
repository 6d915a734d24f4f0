"""What only a GPU can tell, most worth first: results as JSON lines while it runs, tables as Markdown at the end.

Each step runs in a process of its own and has a limit of time; what one leaves is the next one's, and so is the time of
a step that is left out. A process that crashes or hangs is recorded, and started again for what is left of its step.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from time import monotonic

from benchmarks.gpu import ROOT
from benchmarks.gpu.results import TEXT, Results
from benchmarks.gpu.steps import STEPS
from benchmarks.gpu.tables import report, unfinished


@dataclass(frozen=True)
class Run:
    """One run of the command.

    Attributes:
        device: `cuda`, or `cpu` for the rehearsal.
        results: where rows go.
        log: where the processes' output goes.
        options: what the user chose, for the steps.
    """

    device: str
    results: Results
    log: Path
    options: dict = field(default_factory=dict)

    def step(self, step, deadline):
        """Run a step until it is done or its time is up."""
        if package := step.missing(self.device):
            self.results.write("plan", step=step.name, cells=[], **self._facts())
            note = f"not run: {package} is not installed"
            self.results.row(step.name, None, step.title, self._facts(), ok=None, note=note)
            return
        ended = None
        while ended != 0:
            begun, written = self._lines("begin", step), self._log_size()
            ended = self._process(step, deadline - monotonic())
            if ended != 0:
                self._record_failure(step, ended, written)
            if ended is None or self._lines("begin", step) == begun:
                break

    def _lines(self, event, step):
        return len(self.results.read(event, step.name))

    def _log_size(self):
        return self.log.stat().st_size if self.log.exists() else 0

    def _process(self, step, seconds):
        """The exit status of one process; None where it had to be stopped."""
        command = [sys.executable, "-m", "benchmarks.gpu.child", step.module, self.device, str(self.results.path)]
        command += [str(step.cell_seconds), json.dumps(self.options)]
        environment = os.environ | {"HF_HUB_OFFLINE": "1"}
        with self.log.open("a") as log:
            process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log)
            try:
                return process.wait(max(seconds, 1))
            except subprocess.TimeoutExpired:
                return None
            finally:
                end_group(process)

    def _record_failure(self, step, ended, written):
        """A row for the cell at which a process ended, with the last that it said."""
        begun = [line["cell"] for line in self.results.read("begin", step.name)]
        done = {line["cell"] for line in self.results.read("end", step.name)}
        cell = begun[-1] if begun and begun[-1] not in done else None
        said = self.log.read_bytes()[written:].decode(errors="replace")[-TEXT:]
        what = "stopped: the step's time was up" if ended is None else f"the process ended with status {ended}"
        # A step that fills its time is as planned; one that hangs is ended by its own limit for a cell.
        ok = None if ended is None else False
        self.results.row(step.name, cell, what, self._facts(), ok=ok, error_text=said)

    def _facts(self):
        """What rows say of the machine, as the processes found it."""
        plan = next(iter(self.results.read("plan")), {})
        return {name: plan.get(name) for name in ("device", "torch", "transformers")}


def end_group(process):
    """Kill a process and all that it started."""
    with suppress(ProcessLookupError):  # it had no time to make a group of its own
        os.killpg(process.pid, signal.SIGKILL)
    process.kill()
    process.wait()


def arguments(argv):
    """The options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = [step.name for step in STEPS]
    parser.add_argument("--rehearse", action="store_true", help="every step on the CPU at tiny sizes")
    parser.add_argument("--only", nargs="+", default=names, choices=names, metavar="STEP", help=", ".join(names))
    output = "folder of the results: benchmarks/results; of a rehearsal a temporary one"
    parser.add_argument("--output", type=Path, help=output)
    parser.epilog = "python -m benchmarks gpu quality --help: how well a real model reads, on the GPU"
    options = parser.parse_args(argv)
    check_device(parser, options.rehearse)
    return options


def check_device(parser, rehearse):
    """End here where there is no GPU, and a rehearsal is not asked for."""
    if not rehearse:
        import torch

        if not torch.cuda.is_available():
            parser.error("torch finds no GPU here; --rehearse runs every step on the CPU at tiny sizes")


def begun(folder, prefix, rehearse, options):
    """A run whose results and log get names of their own in a folder."""
    folder = Path(folder).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    name = f"{prefix}{'rehearsal-' * rehearse}{datetime.now():%Y%m%d-%H%M%S}"
    return Run("cpu" if rehearse else "cuda", Results(folder / f"{name}.jsonl"), folder / f"{name}.log", options)


def carry_out(run, steps):
    """Run steps one after the other, and print what they found; the number of cells that were not finished."""
    results, deadline = run.results, monotonic()
    print(f"{results.path}: at most {sum(step.seconds for step in steps)} s", flush=True)
    for step in steps:
        begin, deadline = monotonic(), deadline + step.seconds
        run.step(step, deadline)
        print(f"{step.name}: {monotonic() - begin:.0f} s", flush=True)
        text = report(results, steps)
        results.path.with_suffix(".md").write_text(text)
    print(f"\n{text}")
    return sum(len(unfinished(results, step)) for step in steps)


def main(argv=None):
    argv = sys.argv[1:] if argv is None else argv
    if argv[:1] == ["quality"]:
        from benchmarks.gpu import quality_command

        quality_command.main(argv[1:])
        return
    options = arguments(argv)
    folder = options.output or (tempfile.mkdtemp() if options.rehearse else ROOT / "benchmarks" / "results")
    run = begun(folder, "gpu-", options.rehearse, {})
    left = carry_out(run, [step for step in STEPS if step.name in options.only])
    failed = sum(row["ok"] is False for row in run.results.read("row"))
    if failed or (left and options.rehearse):
        sys.exit(f"{failed} rows failed, {left} cells were not finished")
