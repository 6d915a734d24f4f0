"""Evaluations that are killed: `python -m tools.kills_eval [--times 200] [--seed 0] [--steps] [--stride 1]`.

Each of `ropext eval`'s tasks, asked of a tiny model by one, two or three processes, is killed (SIGKILL) at random
moments: one of the processes, or all. Then `--resume` goes on with any number of them, is killed too, and in the end
is left alone. Whenever one ended, `ropext report` reads what lies there, and each measurement that is there stays as it
is. What comes out is what one process makes that is left alone, line by line, but for seconds and how it was made.

With `--steps` the kernel ends the processes where a file has reached a size, at each line of the results: before it, in
it, before its line feed. Once more writing fails there, as on a full disk.
"""

from __future__ import annotations

import json
import os
import random
import resource
import shutil
import signal
import time
from collections import Counter
from itertools import product
from pathlib import Path

import torch
from click.testing import CliRunner

from ropext.converter.cli.app import main as ropext
from ropext.converter.errors import UsageError
from ropext.converter.evaluation.report.results import read_results
from tests.helpers.asked import with_tokenizer
from tools.kills import Child, run_from_shell

DATA = Path(__file__).parents[1] / "tests" / "data" / "tiny-llama"
PRESET = (
    "name: tiny\ndescription: d\nbase_model: b\ninitial_window: 64\ntarget_window: 256\nmethod: dpe\n"
    "parameters: {local_window: 16, scale_factors: [2, 8, 4, 16], dimension_groups: [0, 2, 4, 6, 8]}\n"
)
TASKS = {
    "passkey": "--depths 3 --lengths 900 --no-short",
    "niah": "--needles 2 --lengths 900,1k --samples 1",
    "mixed": "--questions 1 --lengths 1200 --samples 1 --no-short",
    "ppl": "--lengths 300,400 --samples 2 --no-short",
    "ruler": "--lengths 2500 --tasks niah_single_1,niah_multivalue --samples 1 --no-short",
}
PROCESSES = (1, 2, 3)
HOW_MADE = ("command", "versions", "machine")


class Place:
    """A folder with a model, a preset, what comes of them undisturbed, and room for results."""

    def __init__(self, root: Path) -> None:
        self.root = root
        shutil.copytree(DATA, root / "tiny")
        with_tokenizer(root / "tiny")
        (root / "tiny.yaml").write_text(PRESET)
        torch.set_num_threads(1)  # OpenMP's other threads would not survive a fork
        done = CliRunner().invoke(ropext, self.args("passkey", resume=False))  # imports all that is imported late
        assert done.exit_code == 0, done.output
        self.whole, self.report, self.took, self.sizes = {}, {}, {}, {}
        for task in TASKS:
            for count in PROCESSES:
                out = self.fresh()
                start = time.monotonic()
                assert ends(self.start(task, count, resume=False)) == [0] * count, f"{task} by {count} processes fails"
                self.took[task, count] = time.monotonic() - start
                if count == 1:
                    self.whole[task], self.report[task] = comparable(out / "tiny" / f"{task}.jsonl"), table(out)
                    self.sizes[task] = [len(line) for line in lines(out / "tiny" / f"{task}.jsonl")]
                faults = self.different(task)
                assert not faults, (task, count, faults)

    @property
    def out(self) -> Path:
        return self.root / "out"

    def fresh(self) -> Path:
        shutil.rmtree(self.out, ignore_errors=True)
        return self.out

    def args(self, task: str, *, resume: bool) -> list[str]:
        """The command line of an evaluation, without the program."""
        args = ["eval", task, str(self.root / "tiny"), "-p", str(self.root / "tiny.yaml"), "-o", str(self.out)]
        return [*args, *TASKS[task].split(), *(["--resume"] if resume else [])]

    def start(self, task: str, count: int, *, resume: bool = True, limit: int | None = None, how: str = "") -> list:
        """Start `count` processes, each of which may write files of at most `limit` bytes."""

        def prepared(rank: int) -> Child:
            def prepare() -> None:
                if count > 1:
                    os.environ.update(RANK=str(rank), WORLD_SIZE=str(count), LOCAL_RANK=str(rank))
                if limit is not None:
                    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
                    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
                    if how == "kill":
                        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)  # Python ignores it, and then the write fails

            return Child(self.args(task, resume=resume), prepare)

        return [prepared(rank) for rank in range(count)]

    def measured(self) -> set[bytes]:
        """The measurements that are there, as they are written, with their seconds."""
        return {line for file in self.out.rglob("*.jsonl") for line in lines(file) if line.startswith(b'{"key"')}

    def faults(self, kept: set[bytes]) -> list[str]:
        """What must not be, whenever processes ended: a loss, or what cannot be reported."""
        found = [f"lost: {line[:80]!r}" for line in kept - self.measured()]
        try:
            read_results([self.out])
        except UsageError:
            told = [line for line in self.measured() if b'"short": true' not in line]
            found += ["measured, and not reported"] if told else []
        except Exception as error:
            found.append(f"cannot be reported: {error!r}")
        return found

    def different(self, task: str) -> list[str]:
        """What distinguishes the results from undisturbed ones."""
        files = sorted(path.name for path in (self.out / "tiny").iterdir())
        if files != [f"{task}.jsonl"]:
            return [f"left behind: {files}"]
        found = []
        if comparable(self.out / "tiny" / f"{task}.jsonl") != self.whole[task]:
            found.append("other lines than undisturbed")
        if table(self.out) != self.report[task]:
            found.append("another report than undisturbed")
        return found


def lines(file: Path) -> list[bytes]:
    """The lines that are whole."""
    return [line for line in file.read_bytes().splitlines(keepends=True) if line.endswith(b"\n")]


def comparable(file: Path) -> list:
    """The lines without seconds and without how they were made."""
    first, *rest = map(json.loads, lines(file))
    for line in rest:
        del line["value"]["seconds"]
    return [{key: value for key, value in first["settings"].items() if key not in HOW_MADE}, *rest]


def table(out: Path) -> list[str]:
    """What `ropext report` makes of results, but for times."""
    done = CliRunner().invoke(ropext, ["report", str(out), "--format", "csv"])
    assert done.exit_code == 0, done.output
    return [row for row in done.stdout.splitlines() if "seconds" not in row]


def ends(children: list[Child]) -> list[int]:
    return [child.wait() for child in children]


def random_kills(place: Place, times: int, seed: int) -> list[str]:
    """Kill at random moments, one to three times in a row."""
    rng, counts, faults = random.Random(seed), Counter(), []
    while counts["kills"] < times:
        task, said = rng.choice(list(TASKS)), []
        place.fresh()
        for _ in range(rng.randint(1, 3)):
            count = rng.choice(PROCESSES)
            kept = place.measured()
            children = place.start(task, count)
            time.sleep(rng.uniform(0, 1.2 * place.took[task, count]))
            doomed = children if rng.random() < 0.5 else [rng.choice(children)]
            for child in doomed:
                child.kill()
            ended = ends(children)
            counts["kills"] += 1
            counts["in time"] += -signal.SIGKILL in ended
            said.append(f"{task} by {count}, {len(doomed)} killed")
            faults += [f"{', '.join(said)}: {each}" for each in place.faults(kept)]
        faults += [f"{', '.join(said)}: {each}" for each in completed(place, task, rng.choice(PROCESSES))]
        counts["evaluations"] += 1
        if counts["evaluations"] % 20 == 0:
            print(f"{dict(counts)}, {len(faults)} findings", flush=True)
    print(f"{dict(counts)}")
    return faults


def completed(place: Place, task: str, count: int) -> list[str]:
    """Go on, and say what is not as it should be then."""
    kept = place.measured()
    ended = ends(place.start(task, count))
    if any(ended):
        return [f"resumed by {count}: ends with {ended}"]
    return [f"resumed by {count}: {each}" for each in (*place.faults(kept), *place.different(task))]


def every_step(place: Place, stride: int) -> list[str]:
    """End the processes, and let the disk be full, at every line of the results."""
    faults, counts, number = [], Counter(), 0
    for task, how, count in product(TASKS, ("kill", "full"), PROCESSES[:2]):
        begin = 0
        for size in place.sizes[task]:
            for limit in (begin, begin + 1, begin + size // 2, begin + size - 1):
                number += 1
                if number % stride:
                    continue
                place.fresh()
                ended = ends(place.start(task, count, limit=limit, how=how))
                where = f"{task} by {count}, {how} at byte {limit}"
                meant = -signal.SIGXFSZ if how == "kill" else 1
                counts[how] += meant in ended
                near_end = limit > sum(place.sizes[task]) - 50  # seconds may have fewer digits
                if not {*ended} <= {0, 1, -signal.SIGXFSZ} or (meant not in ended and not near_end):
                    faults.append(f"{where}: ended with {ended}")
                faults += [f"{where}: {each}" for each in place.faults(set())]
                faults += [f"{where}: {each}" for each in completed(place, task, PROCESSES[number % len(PROCESSES)])]
            begin += size
    print(f"ends of writing: {dict(counts)}")
    return faults


if __name__ == "__main__":
    run_from_shell(__doc__, Place, random_kills, every_step, times=200)
