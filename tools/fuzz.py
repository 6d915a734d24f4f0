"""Hostile inputs for the command line: `python -m tools.fuzz [--inputs 20000] [--seed 0]`.

Presets, configurations of all families, indexes, tokenizer settings, headers, cards, records, results, GGUF files and
answers of a Hub are mutated at random, and each is given to a command. A finding is whatever is no success or message
with status 1 to 3: an exception, a file outside the output, an output that holds what it must not, a conversion that
`verify` calls bad, one that it calls good and that does not load as its base, more than ten seconds of processor time.
The process may take 300 MB; loading has one of its own. What is found is printed with the number by which `--only` runs
it again.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import shutil
import signal
import struct
import sys
import tempfile
import time
import traceback
from collections import Counter
from contextlib import closing
from pathlib import Path

import yaml
from click.testing import CliRunner

from ropext.converter.cli import app
from ropext.converter.files import yaml_document
from tests.helpers.checkpoints import shard
from tools.fuzz_damage import KEYS, ODD, YAML_ODD, damage, mutated
from tools.fuzz_families import family_faults, family_input, make_bases
from tools.fuzz_hub import hub_input, started
from tools.fuzz_loads import Loader
from tools.fuzz_results import results_input

MEMORY = 300_000_000
BUFFERS = "OPENBLAS_NUM_THREADS"  # each has 40 MB, which count in the bound on memory though nobody fills them
SECONDS = 10
TESTS = Path(__file__).parents[1] / "tests"
DATA = TESTS / "data" / "tiny-llama"
VALID = sorted(file for file in (TESTS / "examples" / "valid").iterdir() if file.suffix in (".yaml", ".json"))
SHIPPED = sorted((Path(__file__).parents[1] / "presets").glob("*.yaml"))


class Slow(BaseException):
    """An input took too long."""


# Inputs: each returns the arguments of a command, having written what it reads into a folder


def base(folder):
    """A fresh copy of the tiny model."""
    shutil.copytree(BASE, folder / "in", copy_function=os.link)
    return folder / "in"


def put(file, data):
    """Write a file, its links to others broken."""
    file.unlink(missing_ok=True)
    file.write_bytes(data)


def conversion(rng, folder):
    """Convert, or say what would be converted, by any method."""
    preset = folder / "good.yaml"
    preset.write_text(rng.choice(PRESETS) if rng.random() < 0.7 else rng.choice(VALID).read_text())
    more = rng.choice([["--dry-run"], ["--dry-run", "--json"], ["--native", "--dry-run"], [], ["--link", "copy"]])
    return ["convert", str(folder / "in"), "-p", str(preset), "-o", str(folder / "out"), *more]


HEAD = "name: t\ndescription: d\nbase_model: b\ninitial_window: 64\ntarget_window: 256\n"
PRESETS = [
    HEAD
    + "method: dpe\nparameters: {local_window: 16, scale_factors: [2, 8, 4, 16], dimension_groups: [0, 2, 4, 6, 8]}\n",
    *(HEAD + f"method: {name}\nparameters: {{}}\n" for name in ("dprope", "linear", "ntk", "yarn", "dynamic_ntk")),
    HEAD + "method: self_extend\nparameters: {group_size: 8, local_window: 16}\n",
    HEAD + "method: dca\nparameters: {chunk_size: 48, local_window: 8}\n",
]


def preset_input(rng, folder):
    """A preset, checked alone, against a model, or converted with."""
    text = rng.choice([*PRESETS, *(file.read_text() for file in (*SHIPPED, *VALID))])
    file = folder / rng.choice(["p.yaml", "p.json", "p.yml"])
    how = rng.random()
    if how < 0.5:
        file.write_bytes(mutated(rng, yaml_document.parse(text, "").data))
    elif how < 0.75:
        lines = text.splitlines()
        for _ in range(rng.choice([1, 2])):
            at = rng.randrange(len(lines))
            line, _, _ = lines[at].partition(":")
            lines[at] = rng.choice(
                [f"{line}: {rng.choice(YAML_ODD)}", rng.choice(YAML_ODD), lines[at] + "\n" + lines[at]]
            )
        file.write_bytes("\n".join(lines).encode("utf-8", "surrogatepass"))
    else:
        file.write_bytes(damage(rng, text.encode()))
    base(folder)
    options = [] if rng.random() < 0.7 else ["--set", f"{rng.choice(KEYS)}={rng.choice([*YAML_ODD, *ODD[:40]])}"]
    options = [each.replace("\x00", "").encode("utf-8", "replace").decode() for each in options]
    return rng.choice(
        [
            ["validate", str(file)],
            ["validate", str(file), "--model", str(folder / "in")],
            ["convert", str(folder / "in"), "-p", str(file), "-o", str(folder / "out"), *options, "--dry-run"],
            ["convert", str(folder / "in"), "-p", str(file), "-o", str(folder / "out"), *options],
        ]
    )


def config_input(rng, folder):
    """A `config.json`, of several families."""
    config = json.loads((base(folder) / "config.json").read_text())
    if rng.random() < 0.3:
        config["model_type"] = rng.choice(
            ["phi3", "qwen2", "qwen3", "mistral", "gemma", "olmo2", "mixtral", "glm4_moe"]
        )
    put(folder / "in" / "config.json", mutated(rng, config))
    if rng.random() < 0.1:
        return rng.choice([["inspect", str(folder / "in")], ["suggest", str(folder / "in"), "--target", "256"]])
    return conversion(rng, folder)


def index_input(rng, folder):
    """An index of shards."""
    shard(base(folder))
    file = folder / "in" / "model.safetensors.index.json"
    put(file, mutated(rng, json.loads(file.read_text())))
    return conversion(rng, folder)


def header_input(rng, folder):
    """A file of weights: its header, the length of that, its size."""
    file = base(folder) / "model.safetensors"
    data = file.read_bytes()
    length = struct.unpack("<Q", data[:8])[0]
    header, tensors = json.loads(data[8 : 8 + length]), data[8 + length :]
    changed = mutated(rng, header) if rng.random() < 0.8 else damage(rng, data[8 : 8 + length])
    claimed = rng.choice([len(changed)] * 6 + [0, 1, len(changed) - 1, 2**63, 2**64 - 1, 10**8, rng.randrange(2**32)])
    data = struct.pack("<Q", claimed) + changed + tensors[: rng.choice([len(tensors)] * 3 + [0, 100])]
    put(file, damage(rng, data[:4096]) if rng.random() < 0.05 else data)
    return conversion(rng, folder)


def tokenizer_input(rng, folder):
    """A `tokenizer_config.json`."""
    settings = {"model_max_length": 64, "added_tokens_decoder": {"0": {"content": "<s>"}}, "chat_template": "{{ x }}"}
    if rng.random() < 0.5:
        settings["tokenizer_class"] = "LlamaTokenizer"
    put(base(folder) / "tokenizer_config.json", mutated(rng, settings))
    put(folder / "in" / "tokenizer.json", rng.choice([b"{}", b"\x80\x04\x95", b"PK\x03\x04"]))
    return conversion(rng, folder)


def card_input(rng, folder):
    """A card with metadata."""
    metadata = {"license": "mit", "language": ["en"], "tags": ["a"], "model-index": [{"name": "x", "results": []}]}
    how = rng.random()
    if how < 0.4:
        front = mutated(rng, metadata)
    elif how < 0.7:
        front = f"license: {rng.choice(YAML_ODD)}\nlanguage: {rng.choice(YAML_ODD)}".encode("utf-8", "surrogatepass")
    else:
        front = damage(rng, yaml.safe_dump(metadata).encode())
    put(
        base(folder) / "README.md",
        b"---\n" + front + b"\n---\n" + rng.choice([b"", b"text", b"````" * 99, b"---\n" * 99]),
    )
    return conversion(rng, folder)


def names_input(rng, folder):
    """Names and kinds of files that a folder may hold."""
    inside = base(folder)
    for _ in range(rng.choice([1, 2, 3])):
        stem = rng.choice(
            [b"LICENSE", b"vocab", b"tokenizer", b"chat_template", b"model", b"NOTICE", b"config", b"README", b"x"]
        )
        end = rng.choice(
            [b"", b".pkl", b".pt", b".bin", b".model", b".json", b".py", b".so", b".md", b"\xff", b"\x1b[2J", b"\n"]
        )
        file = os.fsencode(inside) + b"/" + stem + end
        if os.path.lexists(file) and not os.path.isdir(file):
            os.unlink(file)
        if os.path.lexists(file):
            continue
        target = rng.choice([b"/etc/passwd", b"..", b"../good.yaml", b"/dev/zero", b"nowhere", b"config.json"])
        kind = rng.random()
        if kind < 0.5:
            Path(os.fsdecode(file)).write_bytes(rng.choice([b"x", b"\x80\x04\x95", b"PK\x03\x04", b"\xff\xfe", b""]))
        elif kind < 0.8:
            os.symlink(target, file)
        elif kind < 0.9:
            os.mkfifo(file)
        else:
            os.mkdir(file)
    return conversion(rng, folder) if rng.random() < 0.9 else ["inspect", str(inside)]


def converted_input(rng, folder):
    """A folder that was converted, its configuration or its record changed."""
    shutil.copytree(CONVERTED, folder / "in", copy_function=os.link)
    name = rng.choice(["config.json", "ropext.json"])
    put(folder / "in" / name, mutated(rng, json.loads((folder / "in" / name).read_text())))
    checked = [["inspect"], ["inspect", "--json"], ["verify", "--quick"], ["verify", "--quick", "--json"]]
    command, *more = rng.choice(checked)
    return [command, str(folder / "in"), *more]


def gguf_input(rng, folder):
    """A GGUF file."""
    data = GGUF
    if rng.random() < 0.7:
        at = rng.randrange(len(data) - 8)
        lie = rng.choice([0, 1, 2**31, 2**32 - 1, 2**63, 2**64 - 1, rng.randrange(2**64)])
        lie = struct.pack("<Q", lie)[: rng.choice([1, 4, 8])]
        data = data[:at] + lie + data[at + len(lie) :]
    else:
        data = damage(rng, data)
    (folder / "in.gguf").write_bytes(data)
    (folder / "good.yaml").write_text(PRESETS[2])
    return ["gguf-patch", str(folder / "in.gguf"), str(folder / "out.gguf"), "-p", str(folder / "good.yaml")]


INPUTS = {
    "preset": (preset_input, 5),
    "config": (config_input, 5),
    "index": (index_input, 3),
    "header": (header_input, 3),
    "tokenizer": (tokenizer_input, 2),
    "card": (card_input, 2),
    "names": (names_input, 2),
    "converted": (converted_input, 3),
    "results": (results_input, 3),
    "gguf": (gguf_input, 2),
    "family": (lambda rng, folder: family_input(rng, folder, FAMILIES), 4),
    "hub": (lambda rng, folder: hub_input(rng, folder, HUB, PRESETS[0]), 3),
}
BASE = CONVERTED = Path()
GGUF, HUB, FAMILIES, LOADER = b"", None, [], Loader()


def prepare(folder):
    """Make what several inputs start from."""
    global BASE, CONVERTED, GGUF, HUB
    BASE, CONVERTED = folder / "base", folder / "converted"
    shutil.copytree(DATA, BASE)
    (folder / "good.yaml").write_text(PRESETS[0])
    run = invoke(["convert", str(DATA), "-p", str(folder / "good.yaml"), "-o", str(CONVERTED), "--link", "copy"])
    assert run.exit_code == 0, run.output
    HUB = started(folder / "hub", BASE, CONVERTED)
    try:
        from tests.helpers.gguf_files import write_gguf
    except ImportError as error:
        print(f"no GGUF files: {error}")
        del INPUTS["gguf"]
    else:
        GGUF = write_gguf(folder / "tiny.gguf").read_bytes()


# Running


def invoke(args):
    """Run a command as the shell would."""
    return CliRunner().invoke(app.main, args)


def found(folder):
    """Names, sizes and times of what a folder holds, the output left out."""
    out = {}
    for where, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if Path(where, name) != folder / "out"]
        for name in (*names, *folders):
            status = os.lstat(os.path.join(where, name))
            out[os.path.join(where, name)] = (status.st_mode, status.st_size, status.st_mtime_ns)
    out.pop(str(folder / "out.gguf"), None)
    return {path: each for path, each in out.items() if not os.path.isdir(path) or os.path.islink(path)}


def fault(run, folder, before):
    """What is wrong with how a command ended; None where nothing is."""
    if run.exit_code not in (0, 1, 2, 3) or "a fault of ropext" in run.output:
        return f"status {run.exit_code}: {run.output[-300:]}"
    if run.exit_code and not run.output.strip():
        return "failed without a message"
    if any(not (each.isprintable() or each in "\n\t\ufffd") for each in run.output):
        return f"unprintable: {run.output[-300:]!r}"
    if found(folder) != before:
        return f"files changed: {set(found(folder).items()) ^ set(before.items())}"
    out = folder / "out"
    if run.exit_code and out.exists():
        return "failed, and left an output"
    if out.exists():
        json.loads((out / "config.json").read_bytes().decode(), parse_constant=lambda text: 1 / 0)
        for file in out.rglob("*"):
            if file.is_symlink() or (file.is_file() and file.read_bytes()[:2] in (b"\x80\x04", b"PK")):
                return f"in the output: {file.name}"
    return None


def attempt(kind, name):
    """Run one input: its kind and the seed of its random numbers. Return what is wrong, or None, and the status."""
    rng = random.Random(name)
    with tempfile.TemporaryDirectory(prefix="fuzz-") as place:
        folder = Path(place)
        args = INPUTS[kind][0](rng, folder)
        before = found(folder)
        signal.setitimer(signal.ITIMER_PROF, SECONDS)
        try:
            run = invoke(args)
            signal.setitimer(signal.ITIMER_PROF, 0)
            wrong = fault(run, folder, before)
            if kind == "family" and not wrong:
                wrong = family_faults(rng, invoke, folder, LOADER)
            return (
                wrong and f"{wrong}\n{' '.join(args)}\n{invoke([*args, '--traceback']).stderr[-1500:]}",
                run.exit_code,
            )
        except Slow:
            return f"more than {SECONDS} seconds: {' '.join(args)}\n{traceback.format_exc()[-1500:]}", None
        except Exception:
            return traceback.format_exc()[-1500:], None
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)


def too_slow(number, frame):
    """End an input that takes too long."""
    raise Slow


def fuzz(numbers, seed, kind_only=None):
    """Run many inputs and return the faults: (kind, name, text)."""
    signal.signal(signal.SIGPROF, too_slow)
    kinds = [kind for kind, (_, weight) in INPUTS.items() for _ in range(weight)]
    faults, statuses, slowest = [], Counter(), (0.0, "")
    for number in numbers:
        name = f"{seed}:{number}"
        kind = kind_only or random.Random(name).choice(kinds)
        start = time.process_time()
        wrong, status = attempt(kind, name)
        slowest = max(slowest, (time.process_time() - start, f"{kind} {name}"))
        statuses[kind, status] += 1
        if number % 1000 == 999:
            print(f"{number + 1} tried", flush=True)
        if wrong:
            faults.append((kind, name, wrong))
            print(f"{kind} {name}: {wrong}\n", flush=True)
    for kind in INPUTS:
        print(kind, {status: count for (each, status), count in sorted(statuses.items(), key=str) if each == kind})
    print("loaded", dict(LOADER.outcomes))
    print(f"slowest: {slowest[1]}, {slowest[0]:.2f} s")
    return faults


def main():
    """Run from the shell."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", type=int, metavar="NUMBER", help="one input of that seed")
    parser.add_argument("--first", type=int, default=0, metavar="NUMBER", help="go on from there")
    parser.add_argument("--kind", choices=INPUTS, help="inputs of one kind")
    given = parser.parse_args()
    if os.environ.get(BUFFERS) != "1":
        os.execve(sys.executable, [sys.executable, "-m", "tools.fuzz", *sys.argv[1:]], {**os.environ, BUFFERS: "1"})
    if os.access("/dev/shm", os.W_OK):
        tempfile.tempdir = "/dev/shm"  # in memory: it is about the program, not the disk
    with tempfile.TemporaryDirectory(prefix="fuzz-families-") as families:
        FAMILIES.extend(make_bases(Path(families)))
        with closing(LOADER):
            run(given)


def run(given):
    """Try the inputs that are asked for, in bounded memory."""
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, resource.getrlimit(resource.RLIMIT_DATA)[1]))
    start = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="fuzz-base-") as place, tempfile.TemporaryDirectory() as current:
        os.chdir(current)
        prepare(Path(place))
        numbers = range(given.first, given.inputs) if given.only is None else [given.only]
        faults = fuzz(numbers, given.seed, given.kind)
        if os.listdir(current):
            faults.append(("", "", f"written into the current folder: {os.listdir(current)}"))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    print(f"{len(numbers)} inputs, {len(faults)} findings, {time.monotonic() - start:.0f} s, {peak} MB at most")
    sys.exit(1 if faults else 0)


if __name__ == "__main__":
    main()
