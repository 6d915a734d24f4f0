"""The program in which a checkpoint's model is built and run. It reads questions and writes answers, lines of JSON.

`model_process.py` starts it by its path. It imports the standard library alone until it is told where ropext is. Of the
checkpoint it is given data; the code that runs is ropext's own.
"""

from __future__ import annotations

import json
import os
import queue
import sys
import threading
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

if TYPE_CHECKING:
    from ropext.converter.converted.read import Converted
    from ropext.converter.verify.parts import Subject

__all__ = ["Answers"]

_MOST_FAULTS = 1000
"""That are told one by one; how many there are stands in the text."""

_REFUSED = ("llocate memory", "enough memory", "bad_alloc", "start new thread", "failed to map segment")
"""What torch, C++ and the system say where memory is refused."""


class Answers:
    """Checks of one checkpoint."""

    def __init__(self, checkpoint: Mapping[str, Any]) -> None:
        """Take its name, its record, its configuration and where its weights are."""
        self._given = checkpoint

    def answer(self, question: Mapping[str, Any]) -> dict[str, Any]:
        """Do a check, and say what came out in JSON values."""
        from ropext.converter.verify.report import carried_out

        check = carried_out(question["check"], lambda: _in_memory(lambda: self._checked(question)))
        return {"status": check.status, "text": check.text, "faults": list(check.faults[:_MOST_FAULTS])}

    def _checked(self, question: Mapping[str, Any]) -> str:
        from ropext.converter.verify.report import Unpromised, require_none

        if question["check"] == "headers":
            from ropext.converter.verify.shapes import shape_faults

            require_none(list(shape_faults(self._converted, question["shapes"])))
            return ""
        if question["check"] == "config":
            from ropext.converter.verify.shapes import require_generation

            require_generation(question["generation"])
            return ""
        from ropext.converter.verify import model

        if question["check"] == "reference":
            return model.check_reference(self._subject)
        done = model.check_base(self._subject)
        if done is None:
            raise Unpromised(f"{self._converted.record.method} promises nothing: it changes every length")
        return done

    @cached_property
    def _converted(self) -> Converted:
        from ropext.converter.convert.record import Record
        from ropext.converter.converted.read import parse_converted

        name = self._given["name"]
        return parse_converted(name, self._given["config"].encode(), Record.parse(self._given["record"].encode(), name))

    @cached_property
    def _subject(self) -> Subject:
        from ropext.converter.converted.read import rebuild
        from ropext.converter.verify.parts import Subject

        files = tuple(map(Path, self._given["weights"]))
        return Subject(self._converted, rebuild(self._converted), files, self._given["whole"])


def _in_memory(check: Callable[[], str]) -> str:
    """Do a check; where memory is refused, it was not done.

    Raises:
        Unchecked: memory was refused.
    """
    from ropext.converter.verify.report import Unchecked

    try:
        return check()
    except (MemoryError, SystemError, RuntimeError, OSError, ImportError) as error:
        # Extensions that do not look whether they were given memory end in a SystemError.
        if isinstance(error, MemoryError | SystemError) or any(mark in str(error) for mark in _REFUSED):
            raise Unchecked("the model takes more memory than it may; see --memory") from None
        raise


def _bound_memory(size: int | None) -> None:
    """Let the system refuse more than that."""
    if size is not None and sys.platform == "linux":
        import resource

        _, most = resource.getrlimit(resource.RLIMIT_DATA)
        size = size if most == resource.RLIM_INFINITY else min(size, most)
        resource.setrlimit(resource.RLIMIT_DATA, (size, size))


def _read_lines(source: BinaryIO, lines: queue.Queue[bytes]) -> None:
    """Hand over lines; end the process with whoever asked, whatever it is doing."""
    for line in iter(source.readline, b""):
        lines.put(line)
    os._exit(0)


def _private_output() -> BinaryIO:
    """Return what answers are written to; whatever is printed goes nowhere."""
    answers = os.fdopen(os.dup(1), "wb")
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    return answers


def _main() -> None:
    answers, lines = _private_output(), queue.Queue[bytes]()
    threading.Thread(target=_read_lines, args=(sys.stdin.buffer, lines), daemon=True).start()
    settings = json.loads(lines.get())
    _bound_memory(settings["memory"])
    sys.path[:] = settings["path"]
    checkpoint = Answers(json.loads(lines.get()))
    while True:
        answers.write(json.dumps(checkpoint.answer(json.loads(lines.get()))).encode() + b"\n")
        answers.flush()


if __name__ == "__main__":
    _main()
