"""Run the commands of README, the pages and each `--help`: `python -m tools.commands [PAGE...]`.

Each page's commands run in their order in a folder of their own. Models are tiny and random, with the names and the
rotary settings of those that the page uses; lengths are short. A line for each command says `ok`, `failed` or why it
was not run; the exit status is 1 if one failed. `--list` says what would run.
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from ropext.converter.cli.app import main as ropext
from tests.helpers.asked import CHARACTERS, with_tokenizer
from tests.helpers.documented import ROOT, Command, documented, examples

EXPECTED = {"verify": (0, 3)}
"""Exit statuses that are right; 3 says that not everything was checked, as with `--quick`."""

SECONDS = 300
"""A command may take so long."""

NOT_HERE = {
    ("push",): "publishes",
    ("demo",): "takes minutes; the slow tests run it",
    ("eval", "leval"): "needs L-Eval's files",
    ("eval", "longbench2"): "needs LongBench v2's file",
    ("eval", "helmet"): "needs HELMET's files",
    ("eval", "infinitebench"): "needs ∞Bench's files",
    ("eval", "lm-eval"): "needs lm-evaluation-harness",
    ("eval", "ruler"): "needs a tokenizer of words",
}
QWEN3 = {"model_type": "qwen3", "head_dim": 128, "rope_theta": 1_000_000, "length": 40960}
BASES = {
    "SmolLM2-135M-Instruct": "smollm2-135m-rerope",
    "org/model": "smollm2-135m-rerope",
    "my-quantized-model": "smollm2-135m-rerope",
    "meta-llama/Llama-2-7b-hf": "llama2-7b-dprope-16k",
    "meta-llama/Meta-Llama-3-8B-Instruct": "llama3-8b-dpe",
    "google/gemma-3-270m": "gemma3-270m-self_extend",
    "Qwen/Qwen3-4B": QWEN3,
    "Qwen/Qwen3-0.6B": QWEN3,
}
"""Folders that stand for models: the preset whose requirements one meets, or its configuration."""

SMOLLM2 = ["SmolLM2-135M-Instruct", "--preset"]
QWEN3_YARN = ["Qwen/Qwen3-4B", "--method", "yarn", "--target", "128k", "--native"]
CONVERTED = {
    "my-converted-model": [*SMOLLM2, "smollm2-135m-rerope"],
    "DIR": [*SMOLLM2, "smollm2-135m-rerope"],
    "--card smollm2-135m-dpe": [*SMOLLM2, "smollm2-135m-dpe"],
    "qwen3-4b-128k": ["Qwen/Qwen3-4B", "--method", "self_extend", "--target", "128k"],
    "qwen3-4b-yarn": QWEN3_YARN,
    "my-name/qwen3-4b-yarn": QWEN3_YARN,
}
"""Folders, the last word of each name, that stand for what a reader has converted, and how."""

SHORTER = {
    "--lengths": "1500",
    "--samples": "1",
    "--needles": "2",
    "--questions": "1",
    "--groups": "1",
    "--depths": "1",
    "--dtype": "float32",
}


def why_not(command: Command) -> str:
    """Why a command cannot run here, or nothing."""
    words = command.of_ropext
    if words is None or "-m" in command.words or "--no-python" in command.words:
        return "is another program"
    for start, reason in NOT_HERE.items():
        if words[: len(start)] == start:
            return reason
    if "--push" in words:
        return "publishes"
    if "REPO" in words:
        return "needs a repository"
    return "needs vLLM" if "vllm" in words else ""


def shortened(words: tuple[str, ...]) -> list[str]:
    """The words of a command with short lengths and few samples."""
    found, words = list(words), (*words, "")
    for at, word in enumerate(words[:-1]):
        if word in SHORTER and words[0] in ("eval", "calibrate"):
            found[at + 1] = SHORTER[word]
    if words[0] == "calibrate" and words[1] not in ("contributions", "dprope"):
        found += ["--lengths", "1500", "--samples", "1", "--questions", "1"]
    if words[:2] == ("eval", "niah") and "--needles" not in words:
        found += ["--needles", "2"]
    return found


def requirements(preset: str) -> dict[str, Any]:
    """What a shipped preset asks of its base."""
    read = yaml.safe_load((ROOT / "presets" / f"{preset}.yaml").read_text(encoding="utf-8"))
    return {**read["requires"], "length": read["initial_window"]}


def make_base(folder: Path, wanted: dict[str, Any]) -> None:
    """Write a tiny random model that has the rotary settings that are wanted."""
    from transformers import AutoConfig, AutoModelForCausalLM
    from transformers.utils import logging

    logging.disable_progress_bar()
    sizes = {"hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    layers = {"layer_types": ["sliding_attention", "full_attention"]} if "gemma3" in wanted["model_type"] else {}
    config = AutoConfig.for_model(
        wanted["model_type"],
        **sizes,
        **layers,
        num_key_value_heads=1,
        head_dim=wanted["head_dim"],
        rope_theta=wanted["rope_theta"],
        max_position_embeddings=wanted["length"],
        vocab_size=len(CHARACTERS) + 3,
    )
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    with_tokenizer(folder)


def prepare(folder: Path, used: str) -> None:
    """Put what the commands of a page take for granted into its folder."""
    from tests.helpers.gguf_files import write_gguf

    made = {
        name: how
        for name, how in CONVERTED.items()
        if name in used and not any(f"{option} {name}" in used for option in ("-o", "--output"))
    }
    used += "\n".join(how[0] for how in made.values())
    for name, wanted in BASES.items():
        if name in used or wanted in used.split() or name == "SmolLM2-135M-Instruct":
            make_base(folder / name, requirements(wanted) if isinstance(wanted, str) else wanted)
    preset = (ROOT / "presets" / "smollm2-135m-rerope.yaml").read_text(encoding="utf-8")
    (folder / "my-preset.yaml").write_text(preset.replace("name: smollm2-135m-rerope", "name: my-preset"))
    (folder / "book.txt").write_text(" ".join(f"In chapter {n} nothing happened, and it rained." for n in range(200)))
    write_gguf(folder / "base.gguf", context=8192, heads=1, theta=100_000.0)
    write_gguf(folder / "llama2-7b.gguf", context=4096, heads=1, theta=10_000.0, width=128)
    for name, how in made.items():
        require(run(folder, ["convert", *how, "--output", name.split()[-1]]))
    if "ropext report results" in used and " eval passkey " not in used:
        short = ["--lengths", "512", "--depths", "1"]
        require(run(folder, ["eval", "passkey", "SmolLM2-135M-Instruct", "-p", "smollm2-135m-dpe", *short]))


def require(done: subprocess.CompletedProcess[str]) -> None:
    """Stop if what a page takes for granted could not be made."""
    if done.returncode:
        raise RuntimeError(f"{shlex.join(done.args[3:])}: {done.stderr}")


def run(folder: Path, words: list[str]) -> subprocess.CompletedProcess[str]:
    """Run `ropext`."""
    given = {**os.environ, "HF_HUB_OFFLINE": "1", "NO_COLOR": "1"}
    return subprocess.run(
        [sys.executable, "-m", "ropext", *words],
        cwd=folder,
        env=given,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        stdin=subprocess.DEVNULL,
    )


def run_page(commands: list[Command]) -> int:
    """Run a page's commands and count those that failed."""
    failed = 0
    with tempfile.TemporaryDirectory() as scratch:
        prepare(Path(scratch), "\n".join(map(str, commands)))
        for command in commands:
            if reason := why_not(command):
                print(f"not run  {command}: {reason}")
                continue
            begin = time.perf_counter()
            words = shortened(command.of_ropext or ())
            done = run(Path(scratch), words)
            wrong = done.returncode not in EXPECTED.get(words[0], (0,))
            failed += wrong
            print(f"{'failed' if wrong else 'ok':8} {command} ({time.perf_counter() - begin:.0f} s)", flush=True)
            if wrong:
                print(re.sub(r"^", "         | ", (done.stdout + done.stderr).strip()[-1500:], flags=re.MULTILINE))
    return failed


def form(words: tuple[str, ...]) -> tuple[str, ...]:
    """An example of calibrating without the method's name: one of those that differ in it alone is run."""
    return tuple(word.replace(words[2], "METHOD") for word in words) if words[1] == "calibrate" else words


def main() -> int:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pages", nargs="*", metavar="PAGE", help="README.md, docs/presets.md, help, … [default: all]")
    parser.add_argument("--list", action="store_true", help="only say what would run")
    asked = parser.parse_args()
    helps = {form(each.words): replace(each, page="help") for each in reversed([*examples(ropext)])}
    wanted = [each for each in (*documented(), *reversed(helps.values())) if each.whole]
    commands = [each for each in wanted if not asked.pages or each.page in asked.pages]
    pages = dict.fromkeys(each.page for each in commands)
    if asked.list:
        for each in commands:
            print(f"{why_not(each) or 'runs':40} {each}")
        return 0
    failed = sum(run_page([each for each in commands if each.page == page]) for page in pages)
    print(f"{failed} failed")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
