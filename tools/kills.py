"""Conversions that are killed: `python -m tools.kills [--times 500] [--seed 0] [--steps]`.

Each is a process of its own, killed (SIGKILL) after a random part of the time that it takes. Then, whatever lies there:
a folder with `config.json` is complete by the digests of its `ropext.json`; the source, be it a folder or the download
cache, is as it was; what `--force` replaces is there, old or new; and the same command, run again, completes and leaves
no hidden folder behind. With `--steps` it is killed at each single operation on a file in turn, and once more each
operation fails, as on a full disk.
"""

from __future__ import annotations

import argparse
import errno
import gc
import hashlib
import json
import mmap
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from functools import partial
from itertools import product
from pathlib import Path

from ropext.converter.cli import app
from ropext.converter.convert.api import convert_checkpoint
from ropext.converter.presets import load as presets  # imported once, before all forks
from tests.helpers.checkpoints import snapshot, write_index

DATA = Path(__file__).parents[1] / "tests" / "data" / "tiny-llama"
SHARD_BYTES = 1 << 20
PRESET = (
    "name: tiny\ndescription: d\nbase_model: b\ninitial_window: 64\ntarget_window: {target}\n"
    "method: linear\nparameters: {{}}\n"
)
EVENTS = {"open", "os.mkdir", "os.link", "os.symlink", "os.rename", "os.remove", "os.rmdir", "shutil.rmtree"}


class Place:
    """A folder with a base, the base in a download cache, two presets, and room for outputs."""

    def __init__(self, root: Path) -> None:
        self.root, self.work = root, root / "work"
        self.folder = root / "base"
        shutil.copytree(DATA, self.folder)
        (self.folder / "model.safetensors").unlink()
        weight_map = {}
        for number in range(3):
            name = f"model-{number + 1:05}-of-00003.safetensors"
            header = {"a": {"dtype": "U8", "shape": [SHARD_BYTES], "data_offsets": [0, SHARD_BYTES]}}
            data = json.dumps({f"{number}.{key}": value for key, value in header.items()}).encode()
            random.seed(number)
            body = random.randbytes(SHARD_BYTES)
            (self.folder / name).write_bytes(len(data).to_bytes(8, "little") + data + body)
            weight_map[f"{number}.a"] = name
        write_index(self.folder, weight_map)
        digests = {file.name: sha256(file) for file in self.folder.glob("*.safetensors")}
        self.cache = snapshot(self.folder, root / "hub", digests)
        for target in (128, 256):
            (root / f"{target}.yaml").write_text(PRESET.format(target=target))
        self.before = self.sources()

    def sources(self) -> dict[str, tuple[int, int, str]]:
        """Modes, times and contents of everything that may not change."""
        files = (file for top in (self.folder, self.root / "hub") for file in sorted(top.rglob("*")) if file.is_file())
        return {str(file): (file.stat().st_mode, file.stat().st_mtime_ns, sha256(file)) for file in files}

    def fresh(self, *, force: bool) -> None:
        """Empty the room; with `force`, put an earlier output there."""
        shutil.rmtree(self.work, ignore_errors=True)
        self.work.mkdir()
        if force:
            assert self.convert(self.folder, "hardlink", target=128).wait() == 0

    def convert(self, source: Path, link: str, *, force: bool = False, target: int = 256, hook=None) -> Child:
        """Start a conversion."""
        args = ["convert", str(source), "-p", str(self.root / f"{target}.yaml"), "-o", str(self.work / "out")]
        args += ["--link", link, *(["--force"] if force else [])]
        return Child(args, partial(sys.addaudithook, hook) if hook else None)

    def faults(self, *, force: bool) -> list[str]:
        """What must not be, whenever a conversion ended."""
        found = [fault for config in sorted(self.work.rglob("config.json")) for fault in self.incomplete(config.parent)]
        if self.sources() != self.before:
            found.append("the source or the cache has changed")
        if force and not (self.work / "out" / "config.json").exists():
            found.append("what was to be replaced is gone")
        if (self.work / "out").exists() and not (self.work / "out" / "config.json").exists():
            found.append("an output without config.json")
        return found

    def incomplete(self, folder: Path) -> list[str]:
        """What a folder with a configuration lacks by its own record."""
        try:
            listed = json.loads((folder / "ropext.json").read_text())["files"]
        except (OSError, ValueError) as error:
            return [f"{folder}: {error!r}"]
        found = {file.relative_to(folder).as_posix() for file in folder.rglob("*")}
        wrong = sorted(found ^ {*listed, "ropext.json"})
        for path, entry in listed.items():
            if path in found:
                digest = entry["sha256"] or sha256(self.folder / path)
                if (folder / path).stat().st_size != entry["bytes"] or sha256(folder / path) != digest:
                    wrong.append(path)
        return [f"{folder}: {path}" for path in wrong]

    def rerun(self, source: Path, link: str) -> list[str]:
        """Convert again, and say what is not as it should be then."""
        if self.convert(source, link, force=(self.work / "out").exists()).wait() != 0:
            return ["a second run fails"]
        left = [path.name for path in self.work.iterdir() if path.name != "out"]
        return [*self.faults(force=True), *(f"left behind: {name}" for name in left)]


def sha256(file: Path) -> str:
    """Digest of a file."""
    return hashlib.sha256(file.read_bytes()).hexdigest()


class Child:
    """`ropext` in a process of its own, which calls `prepare` first."""

    def __init__(self, args: list[str], prepare=None) -> None:
        self.pid = os.fork()
        if self.pid == 0:
            status = 99
            try:
                silence = os.open(os.devnull, os.O_WRONLY)
                os.dup2(silence, 1)
                os.dup2(silence, 2)
                if prepare:
                    prepare()
                app.main(args)
            except SystemExit as end:
                status = end.code if isinstance(end.code, int) else 98
            finally:
                os._exit(status)

    def kill(self) -> None:
        """End it, wherever it is."""
        os.kill(self.pid, signal.SIGKILL)

    def wait(self) -> int:
        """Wait for its end and return its status; negative: the signal that ended it."""
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


def stage(place: Path) -> str:
    """How far a conversion into a fresh place came."""
    hidden = [path for path in place.iterdir() if path.name.startswith(".")]
    if any((path / "config.json").exists() for path in hidden):
        return "whole, not yet in its place" if not (place / "out").exists() else "in its place, leftovers"
    return "half written, hidden" if hidden else "in its place" if (place / "out").exists() else "nothing yet"


def random_kills(place: Place, times: int, seed: int) -> list[str]:
    """Kill at random moments."""
    rng, stages, faults = random.Random(seed), Counter(), []
    ways = list(product(("folder", "cache"), ("auto", "copy", "hardlink", "symlink"), (False, True)))
    took = {}
    for each in ways:
        place.fresh(force=each[2])
        start = time.monotonic()
        assert place.convert(getattr(place, each[0]), each[1], force=each[2]).wait() == 0
        took[each] = time.monotonic() - start
    for number in range(times):
        name, link, force = way = rng.choice(ways)
        source = getattr(place, name)
        place.fresh(force=force)
        child = place.convert(source, link, force=force)
        time.sleep(rng.uniform(0, 1.2 * took[way]))
        child.kill()
        ended = child.wait()
        if number % 50 == 49:
            print(f"{number + 1} killed, {len(faults)} findings", flush=True)
        stages[stage(place.work) if not force else f"--force, {'killed' if ended < 0 else 'done'}"] += 1
        faults += [f"{number} {way}: {each}" for each in (*place.faults(force=force), *place.rerun(source, link))]
    low, high = min(took.values()), max(took.values())
    print(f"{times} kills of conversions of {low * 1000:.0f} to {high * 1000:.0f} ms: {dict(stages)}")
    return faults


def every_step(place: Place, stride: int) -> list[str]:
    """Kill, and let the disk be full, at every operation on a file in turn."""
    faults, counts = [], Counter()
    for how, link, force in product(("kill", "full"), ("copy", "hardlink"), (False, True)):
        number, reached = 1, mmap.mmap(-1, 1)
        while True:
            reached[0] = 0
            place.fresh(force=force)
            hook = failing(place.work, number, how, reached)
            ended = place.convert(place.folder, link, force=force, hook=hook).wait()
            if not reached[0]:
                break
            where = f"{how} at operation {number} of {link}{', --force' if force else ''}"
            found = place.faults(force=force)
            if how == "full" and ended not in (0, 1):  # 0: what could not be made is there already
                found.append(f"status {ended}")
            if how == "full" and ended == 1 and [path.name for path in place.work.iterdir()] != ["out"] * force:
                found.append(f"left behind: {sorted(path.name for path in place.work.iterdir())}")
            faults += [f"{where}: {each}" for each in (*found, *place.rerun(place.folder, link))]
            number += stride
            counts[f"{how}, ended with {ended}"] += 1
    print(f"operations on files: {dict(counts)}")
    return faults


def failing(folder: Path, number: int, how: str, reached: mmap.mmap):
    """A hook that ends or fails the process at its n-th operation on a file in a folder, and leaves a mark."""
    seen = 0

    def hook(event: str, args) -> None:
        nonlocal seen
        if event not in EVENTS or not str(args[0]).startswith(str(folder)):
            return
        if how == "full" and (event in ("os.remove", "os.rmdir", "shutil.rmtree") or not writes(event, args)):
            return  # a full disk lets things be read and removed
        seen += 1
        if seen == number:
            reached[0] = 1
            if how == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(args[0]))

    return hook


def writes(event: str, args) -> bool:
    """Whether an operation makes something; opening does with a flag that says so."""
    return event != "open" or bool((args[2] or 0) & (os.O_CREAT | os.O_WRONLY | os.O_RDWR))


def prepared(root: Path) -> Place:
    """A place in which one conversion has run, so that what is cached is cached."""
    place = Place(root)
    place.fresh(force=False)
    preset = presets.load_preset(str(root / "256.yaml"))
    convert_checkpoint(preset, str(place.folder), place.work / "out")
    return place


def run_from_shell(doc: str, make, random_kills, every_step, *, times: int) -> None:
    """Kill in a place that `make` prepares, as the command line says, and say what was found."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, help=f"kills at random moments [default: {times}; with --steps, none]")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", action="store_true", help="every step in turn")
    parser.add_argument("--stride", type=int, default=1, help="with --steps: only every so many-th")
    given = parser.parse_args()
    start = time.monotonic()
    quick = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="kills-", dir=quick) as root:
        place = make(Path(root))
        gc.freeze()  # a process's collections leave alone what it shares with the others
        faults = every_step(place, given.stride) if given.steps else []
        if given.times or not given.steps:
            faults += random_kills(place, given.times or times, given.seed)
    print("\n".join(faults))
    print(f"{len(faults)} findings, {time.monotonic() - start:.0f} s")
    sys.exit(1 if faults else 0)


if __name__ == "__main__":
    run_from_shell(__doc__, prepared, random_kills, every_step, times=500)
