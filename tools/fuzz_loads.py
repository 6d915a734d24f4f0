"""What `verify` calls good is loaded, for `python -m tools.fuzz`: in a process of its own, with bounds.

The process checks a converted folder as `ropext verify` does, with every check of the model. A folder that is good has
to load as its readers load it. Where its method promises the base's output, that is compared with the stock model's.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import select
import subprocess
import sys
import tempfile
import warnings
from collections import Counter
from pathlib import Path

SECONDS = 120
MEMORY = 4 << 30
LENGTH = 12
"""Tokens that are read: fewer than the presets' windows."""

TOLERANCE = 1e-3


class Loader:
    """The process, started anew whenever it ends.

    Attributes:
        outcomes: how many came out which way.
    """

    def __init__(self) -> None:
        self.outcomes = Counter()
        self._process = None

    def fault(self, folder):
        """Return what is wrong with `out`, which was converted from `in`; None where nothing is."""
        if self._process is None:
            command = [sys.executable, "-m", "tools.fuzz_loads"]
            root = Path(__file__).parents[1]
            self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=root)
        self._process.stdin.write(f"{folder}\n".encode())
        self._process.stdin.flush()
        ready, _, _ = select.select([self._process.stdout], [], [], SECONDS)
        line = self._process.stdout.readline() if ready else b""
        if not line:
            self.close()
            return f"loading gave no answer in {SECONDS} seconds and {MEMORY >> 30} GiB"
        outcome, wrong = json.loads(line)
        self.outcomes[outcome] += 1
        return wrong

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


# The process


def _answer(folder):
    """How a folder comes out, and what is wrong with that."""
    from ropext.converter.verify import checks

    report = checks.verify(folder / "out")
    bad = [check for check in report.checks if check.status == "bad"]
    if bad and bad[0].name in ("reference", "base"):
        return _bad(folder, f"{bad[0].name}: {bad[0].text}")
    if not report.good:
        return report.verdict, None
    try:
        found = _logits(folder / "out", trust_remote_code=True)
    except Exception as error:
        return "good", f"verify calls it good, and it does not load: {type(error).__name__}: {error}"[:2000]
    if not any(check.name == "base" and check.status == "good" for check in report.checks):
        return "good: loads", None
    try:
        expected = _logits(folder / "in")
    except Exception:  # whatever stock classes die of
        return "good: loads, and the base does not", None
    worst = float((found - expected).abs().max() / expected.abs().max())
    if not worst <= TOLERANCE and not _window_is_off(folder / "in"):
        return "good", f"verify calls it good, and its logits are not the base's, by {worst:.2g} of their size"
    return "good: loads, with the base's logits", None


def _bad(folder, why):
    """What runs otherwise than it should: a conversion that should have been refused, if the base runs."""
    try:
        _logits(folder / "in")
    except Exception:
        return "bad, as is the base", None
    return "bad", f"converted, and verify says {why}"


def _logits(folder, **options):
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder, **options).eval()
    ids = torch.randint(0, model.config.vocab_size, (1, LENGTH), generator=torch.Generator().manual_seed(0))
    return model(input_ids=ids).logits.float()


def _window_is_off(base):
    """Whether the conversion turned off a window that is shorter than what is read."""
    from ropext.converter.checkpoint.description import describe

    return (describe(json.loads((base / "config.json").read_text())).window or LENGTH) < LENGTH


class _Here:
    """Stand in for the process that `verify` starts: this is one already."""

    def __init__(self, checkpoint, bounds):
        from ropext.converter.verify.model_answers import Answers

        self._answers = Answers(checkpoint)

    def ask(self, question):
        from ropext.converter.verify.report import Check

        found = self._answers.answer(question)
        return Check(question["check"], found["status"], found["text"], tuple(found["faults"]))

    def close(self):
        """Nothing is to be ended."""


def _main():
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    os.dup2(1, 2)
    _, most = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, most))
    with tempfile.TemporaryDirectory(prefix="fuzz-modules-") as modules:
        os.environ |= {"HF_MODULES_CACHE": modules, "HF_HUB_OFFLINE": "1"}
        import torch

        from ropext.converter.verify import checks

        checks.ModelProcess = _Here
        torch.set_num_threads(1)
        warnings.simplefilter("ignore")
        for line in sys.stdin.buffer:
            with torch.inference_mode(), contextlib.suppress(BrokenPipeError):
                answers.write(json.dumps(_answer(Path(os.fsdecode(line.rstrip(b"\n"))))).encode() + b"\n")
                answers.flush()


if __name__ == "__main__":
    _main()
