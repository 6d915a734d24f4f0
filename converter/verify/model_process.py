"""A process of its own for the checkpoint's model, with bounds on its time and memory.

The process runs `model_answers.py` and nothing of the checkpoint. Questions and answers are lines of JSON over pipes;
an answer is data, of which only a status and texts are taken. Whatever else ends the process leaves the check undone.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from ropext.converter.errors import UsageError
from ropext.converter.text import printable, size_text

from .report import Check, Status, Unchecked

__all__ = ["MINUTES", "Bounds", "ModelProcess"]

MINUTES = 20
"""What the checks that run a model may take together."""

_PART = 0.8
"""Of the machine's memory, what the process may take."""

_LONGEST_ANSWER = 1 << 22
_PROGRAM = Path(__file__).with_name("model_answers.py")


@dataclass(frozen=True)
class Bounds:
    """What the process may take.

    Attributes:
        seconds: all its checks together.
        memory: in bytes; None where this system cannot bound it.
    """

    seconds: float
    memory: int | None

    @classmethod
    def of(cls, minutes: float | None, memory: float | None) -> Bounds:
        """Take what is asked for, in minutes and GiB, or the defaults.

        Raises:
            UsageError: memory cannot be bounded here, or a bound is none.
        """
        bounded = sys.platform == "linux"
        if memory is not None and not bounded:
            raise UsageError("--memory: memory can be bounded on Linux only; --minutes is everywhere")
        for option, given in (("--minutes", minutes), ("--memory", memory)):
            if given is not None and not 0 < given < 1e9:
                raise UsageError(f"{option} {given:g}: has to be a positive number")
        if bounded and memory is None:
            memory = _PART * os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / (1 << 30)
        return cls(60 * (minutes or MINUTES), int(memory * (1 << 30)) if memory is not None else None)


class ModelProcess:
    """The process, started by the first question. It ends with `close`, or with this process, however that ends."""

    def __init__(self, checkpoint: Mapping[str, Any], bounds: Bounds) -> None:
        """Describe what is asked about, in JSON values."""
        self._checkpoint, self._bounds = checkpoint, bounds
        self._left = bounds.seconds
        self._process: subprocess.Popen[bytes] | None = None
        self._ended: str | None = None

    def ask(self, question: Mapping[str, Any]) -> Check:
        """Ask for one check and wait for what comes out.

        Raises:
            Unchecked: the process was ended by a bound, or ended by itself; then nothing more can be asked.
        """
        if self._ended is None:
            try:
                return _check(question["check"], self._exchanged(question))
            except Unchecked as reason:
                self._ended = str(reason)
            except BaseException:
                self.close()
                raise
            self.close()
        raise Unchecked(self._ended)

    def close(self) -> None:
        """End the process."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                with contextlib.suppress(OSError):  # of what it never read
                    assert pipe
                    pipe.close()

    def _exchanged(self, question: Mapping[str, Any]) -> bytes:
        """Send a question and return the answer's line."""
        lines = [question]
        if self._process is None:
            self._process = _started()
            lines = [{"path": [entry for entry in sys.path if entry], "memory": self._bounds.memory}]
            lines += [dict(self._checkpoint), question]
        answers: queue.Queue[bytes] = queue.Queue()
        sent = b"".join(json.dumps(line).encode() + b"\n" for line in lines)
        threading.Thread(target=_exchange, args=(self._process, sent, answers), daemon=True).start()
        start = time.monotonic()
        try:
            line = answers.get(timeout=max(self._left, 0.001))
        except queue.Empty:
            raise Unchecked(
                f"given up after {self._bounds.seconds / 60:g} minutes of running the model; see --minutes"
            ) from None
        self._left -= time.monotonic() - start
        if not line.endswith(b"\n"):
            raise Unchecked(_why_ended(self._process, self._bounds))
        return line


def _started() -> subprocess.Popen[bytes]:
    """Start the program by its path, so that the folder in which ropext runs is no place to import from."""
    try:
        return subprocess.Popen([sys.executable, str(_PROGRAM)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    except (OSError, ValueError) as error:
        raise Unchecked(f"no process can be started to run the model: {error}") from None


def _exchange(process: subprocess.Popen[bytes], sent: bytes, answers: queue.Queue[bytes]) -> None:
    """Send and read in a thread, since either can block for ever."""
    assert process.stdin
    assert process.stdout
    try:
        process.stdin.write(sent)
        process.stdin.flush()
        answers.put(process.stdout.readline(_LONGEST_ANSWER))
    except (OSError, ValueError):  # it has ended, or is being closed
        answers.put(b"")


def _why_ended(process: subprocess.Popen[bytes], bounds: Bounds) -> str:
    """Say how a process ended that gave no answer."""
    try:
        status = process.wait(timeout=1)
    except subprocess.TimeoutExpired:
        return "the process that runs the model gave no answer that can be read"
    how = f"with status {status}"
    if status < 0:
        how = f"by {signal.Signals(-status).name}" if -status in list(signal.Signals) else f"by signal {-status}"
    allowed = f"; it may take {size_text(bounds.memory)} of memory, see --memory" if bounds.memory else ""
    return f"the process that runs the model ended {how}, without an answer{allowed}"


def _check(name: str, line: bytes) -> Check:
    """Make sense of an answer; one of another form counts as none."""
    try:
        answer = json.loads(line)
        status, text, faults = answer["status"], answer["text"], answer["faults"]
        known = status in get_args(Status) and isinstance(text, str) and all(isinstance(each, str) for each in faults)
    except (ValueError, TypeError, KeyError, RecursionError):
        known = False
    if not known or (status == "bad") != bool(faults):
        raise Unchecked("the process that runs the model gave no answer that can be read")
    return Check(name, status, _line(text), tuple(map(_line, faults)))


def _line(text: str) -> str:
    return printable(" ".join(text.split()))
