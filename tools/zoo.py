"""Run methods on tiny stock models of every rotary type, in every use: `python -m tools.zoo`.

Prints a line for each type and method, then, with `--table`, writes a page with a row for each type. A cell is `ok`,
the error, or `stock:` with the reason where the stock model, by its own attention, fails in the same use.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import torch
import transformers

from tests.helpers import tiny, zoo, zoo_composites
from tests.helpers.zoo_subject import REFUSALS, Specimen, Subject, kind, specimen
from tests.helpers.zoo_uses import CASES, USES, Use

FEW = ["self_extend", "dpe_top_k", "dca_temperature", "gali", "jet_long", "rerope_leaky", "string_activate"]
TYPES = [*zoo.ROWS, *zoo_composites.TEXT]


@dataclass(frozen=True)
class Outcome:
    """What came of one use.

    Attributes:
        error: the use's figure; None where it raised.
        raised: the exception.
        passed: the error is small enough.
    """

    error: float | None
    raised: Exception | None
    passed: bool

    def __str__(self) -> str:
        if self.raised is not None:
            return f"{type(self.raised).__name__}: {' '.join(str(self.raised).split())[:160]}"
        return "ok" if self.passed else f"{self.error:.2g}"


def outcome(use: Use, subject: Subject) -> Outcome:
    """Run one use."""
    try:
        error = use.run(subject)
    except Exception as raised:
        return Outcome(None, raised, False)
    return Outcome(error, None, error <= use.tolerance)


@dataclass
class Line:
    """A type and a method.

    Attributes:
        refused: why the method cannot be attached.
        cells: what came of each use.
        seconds: what it took.
    """

    name: str
    case: str
    refused: str = ""
    cells: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def failures(self) -> dict[str, str]:
        """The cells that are the method's own failures."""
        return {use: cell for use, cell in self.cells.items() if not cell.startswith(("ok", "stock:", "refused:", "-"))}

    def __str__(self) -> str:
        cells = f"refused: {self.refused}" if self.refused else "  ".join(f"{u} {c}" for u, c in self.cells.items())
        return f"{self.name:22} {self.case:18} {cells}  [{self.seconds:.1f} s]"


def line(name: str, case: str, uses: list[str], attn: str = "sdpa") -> Line:
    """Run a method on a type."""
    begun, of, made = time.monotonic(), specimen(name, attn), Line(name, case)
    stage = "build"
    try:
        assert of.base is not None
        stage = "attach"
        if of.rejection:
            raise of.rejection
        stage = "oracle"
        fitted = of.fitted(tiny.CASES[case])
        stage = "attach"
        subject = Subject(of, fitted, of.attach(fitted))
    except Exception as error:
        if stage == "attach" and isinstance(error, REFUSALS):
            made.refused = " ".join(str(error).split())
        else:
            made.cells = {stage: str(Outcome(None, error, False))}
    else:
        made.cells = {use: cell(subject, use) for use in uses}
    made.seconds = time.monotonic() - begun
    return made


def cell(subject: Subject, use: str) -> str:
    """`ok`, the error or exception, or `stock:` and the stock model's own in the same use.

    An error message where the stock model is wrong without a word counts as the stock model's.
    """
    if subject.specimen.is_composite and not USES[use].composites:
        return "-"
    ours = outcome(USES[use], subject)
    if ours.passed:
        return str(ours)
    if subject.may_refuse and isinstance(ours.raised, REFUSALS):
        return f"refused: {ours.raised}"
    stock = stock_outcome(subject.specimen, use)
    same = type(stock.raised) is type(ours.raised) or isinstance(ours.raised, REFUSALS)
    return f"stock: {stock}" if same and not stock.passed else str(ours)


def stock_outcome(of: Specimen, use: str) -> Outcome:
    """The stock model's, with its own attention; remembered."""
    if use not in of.stock:
        of.stock[use] = outcome(USES[use], Subject(of, None, of.base))
    return of.stock[use]


def lines(names: list[str], cases: list[str], uses: list[str], attn: str) -> Iterator[Line]:
    """All of them, type by type."""
    for name in names:
        for case in cases:
            yield line(name, case, uses, attn)


# The page


def page(found: list[Line], uses: list[str]) -> str:
    """Markdown with a row for each type."""
    rows = [f"| type | {' | '.join(uses)} |", "|---" * (len(uses) + 1) + "|"]
    notes: list[str] = []
    for name in dict.fromkeys(each.name for each in found):
        of_type = [each for each in found if each.name == name]
        rows.append(f"| {name} | {' | '.join(summary(of_type, use) for use in uses)} |")
        notes += [f"- {name}: {reason}" for reason in dict.fromkeys(e.refused for e in of_type if e.refused)]
    cases = ", ".join(dict.fromkeys(each.case for each in found))
    head = f"# Types, methods, uses\n\nBy `python -m tools.zoo`, transformers {transformers.__version__}: {cases}.\n"
    head += "`stock` and a number: there the stock model itself answers otherwise than for one text, by so much.\n"
    refused = ["", "Refused:", "", *notes] if notes else []
    return "\n".join([head, *rows, *refused]) + "\n"


def summary(of_type: list[Line], use: str) -> str:
    """One cell of the page: what all methods have in common, or the methods that differ."""
    said = {each.case: "refused" if each.refused else each.cells.get(use, "-") for each in of_type}
    if len(set(said.values())) == 1:
        return next(iter(said.values()))
    return "; ".join(f"{case} {text}" for case, text in said.items() if text != "ok")


# The command


def arguments() -> argparse.Namespace:
    """What was asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])

    def some(of: list[str]) -> Callable[[str], list[str]]:
        def parse(text: str) -> list[str]:
            chosen = of if text == "all" else text.split(",")
            if unknown := set(chosen) - set(of):
                raise argparse.ArgumentTypeError(f"unknown: {', '.join(sorted(unknown))}")
            return chosen

        return parse

    parser.add_argument("--types", type=some(TYPES), default=TYPES, help="names, separated by commas, or all")
    parser.add_argument("--methods", type=some(CASES), default=FEW, help="cases of tests/helpers/tiny.py, or all")
    parser.add_argument("--uses", type=some([*USES]), default=[*USES], help=", ".join(USES))
    parser.add_argument("--attn", default="sdpa", help="attention implementation")
    parser.add_argument("--table", type=Path, help="write a page with a row for each type")
    return parser.parse_args()


@torch.no_grad()
def main() -> int:
    """Run, print, and count the failures."""
    asked = arguments()
    names = [name for name in asked.types if kind(name).available(name)]
    found = []
    for each in lines(names, asked.methods, asked.uses, asked.attn):
        print(each, flush=True)
        found.append(each)
    if asked.table:
        asked.table.write_text(page(found, asked.uses))
    failing = sum(bool(each.failures) for each in found)
    refused = len({each.name for each in found if each.refused})
    print(f"{len(names)} types, {len(found)} lines: {failing} with failures; {refused} types refused")
    return int(failing > 0)


def quiet() -> None:
    """Let the command print its own lines only, and leave the other cores to other runs."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    warnings.filterwarnings("ignore")
    transformers.logging.set_verbosity_error()
    torch.set_num_threads(1)


if __name__ == "__main__":
    quiet()
    sys.exit(main())
