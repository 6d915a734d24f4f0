"""The results file: one JSON object a line, written as it comes."""

import json
from dataclasses import dataclass
from pathlib import Path

TEXT = 2000
"""Most characters that are kept of what an exception or a process said."""


@dataclass(frozen=True)
class Results:
    """A results file.

    A line is an `event`: `plan` (the cells of a step), `begin` and `end` of a cell, or a `row`.
    """

    path: Path

    def write(self, event, **fields):
        """Append a line; it is on its way to the disk when this returns."""
        with self.path.open("a") as file:
            file.write(json.dumps({"event": event, **fields}) + "\n")

    def row(self, step, cell, what, facts, *, ok, dtype=None, length=None, seconds=None, **figures):
        """Append a row.

        Args:
            step: its name.
            cell: its name; None where no cell was begun.
            what: what was done, in words.
            facts: of the machine.
            ok: True or False; None where nothing was judged.
            dtype: the type's name.
            length: in tokens.
            seconds: how long it took.
            figures: whatever the step's table shows; `error_text` is what an exception or a process said.
        """
        fields = {"step": step, "cell": cell, "what": what, "ok": ok}
        self.write("row", **fields, dtype=dtype, length=length, seconds=seconds, **figures, **facts)

    def read(self, event, step=None):
        """The lines of an event, of one step or of all."""
        text = self.path.read_text() if self.path.exists() else ""
        lines = filter(None, map(_parsed, text.splitlines()))
        return [line for line in lines if line["event"] == event and step in (None, line["step"])]


def _parsed(line):
    """A line's object; None of one that a process did not write to its end."""
    try:
        return json.loads(line)
    except ValueError:
        return None
