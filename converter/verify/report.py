"""What checks of a converted checkpoint come to."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from ropext.converter import __version__
from ropext.converter.errors import RopextError
from ropext.converter.hub.errors import HubFailure

__all__ = [
    "EXIT_STATUS",
    "Check",
    "Faults",
    "Report",
    "Status",
    "Unchecked",
    "Unpromised",
    "Verdict",
    "carried_out",
    "require_none",
    "summary",
]

Status = Literal["good", "bad", "unchecked", "none"]
Verdict = Literal["good", "bad", "incomplete"]

EXIT_STATUS: dict[Verdict, int] = {"good": 0, "bad": 1, "incomplete": 3}
"""Of `ropext verify`; 2 is a command that makes no sense, as everywhere."""

_LONGEST = 400
"""Characters of what transformers says of a failure."""


@dataclass(frozen=True)
class Check:
    """One check.

    Attributes:
        name: what was looked at.
        status: what came out. `unchecked`: it was not done; `none`: there is nothing to check.
        text: one line about it.
        faults: all that is wrong.
    """

    name: str
    status: Status
    text: str
    faults: tuple[str, ...] = ()


@dataclass(frozen=True)
class Report:
    """All checks.

    Attributes:
        name: of the folder or repository.
        made_by: the version of ropext that made it.
        checks: in the order in which they were done.
        revision: the commit, of a repository.
    """

    name: str
    made_by: str
    checks: tuple[Check, ...]
    revision: str | None = None

    @property
    def good(self) -> bool:
        """Whether everything was checked, and no check found a fault."""
        return self.verdict == "good"

    @property
    def verdict(self) -> Verdict:
        """What all checks come to: one that was not done makes it incomplete, whatever the reason."""
        if self.bad:
            return "bad"
        return "incomplete" if self.unchecked or not self.checks else "good"

    @property
    def bad(self) -> list[str]:
        """Names of the checks that found faults."""
        return [check.name for check in self.checks if check.status == "bad"]

    @property
    def unchecked(self) -> list[str]:
        """Names of the checks that were not done."""
        return [check.name for check in self.checks if check.status == "unchecked"]

    def to_json(self) -> dict[str, Any]:
        """Return the report as JSON values."""
        return {
            "name": self.name,
            "revision": self.revision,
            "good": self.good,
            "verdict": self.verdict,
            "made_by": self.made_by,
            "ropext_version": __version__,
            "checks": [
                {"check": check.name, "status": check.status, "text": check.text, "faults": list(check.faults)}
                for check in self.checks
            ],
        }


class Faults(Exception):
    """What a check found."""

    def __init__(self, faults: Sequence[str]) -> None:
        self.faults = faults
        super().__init__(faults[0])


class Unchecked(Exception):
    """Why a check could not be done."""


class Unpromised(Exception):
    """Why there is nothing to check."""


def require_none(faults: Sequence[str]) -> None:
    """Refuse what has faults.

    Raises:
        Faults: there are some.
    """
    if faults:
        raise Faults(faults)


def summary(faults: Sequence[str]) -> str:
    """Say the first fault, and how many there are."""
    return faults[0] + (f" (and {len(faults) - 1} more)" if len(faults) > 1 else "")


def carried_out(name: str, check: Callable[[], str]) -> Check:
    """Do a check.

    Args:
        name: what is looked at.
        check: returns what was done, or raises what was found.

    Raises:
        HubFailure: the Hub refuses or cannot be reached, which says nothing of the checkpoint.
    """
    try:
        return Check(name, "good", _line(check()))
    except HubFailure:
        raise
    except Unpromised as reason:
        return Check(name, "none", _line(reason))
    except Unchecked as reason:
        return Check(name, "unchecked", _line(reason))
    except Faults as found:
        return Check(name, "bad", _line(summary(found.faults)), tuple(map(_line, found.faults)))
    except RopextError as error:
        return Check(name, "bad", _line(error), (_line(error),))
    except (ImportError, MemoryError) as error:  # of this machine
        return Check(name, "unchecked", f"{type(error).__name__}: {_line(error)}"[:_LONGEST])
    except Exception as error:  # a damaged configuration makes transformers fail in any way
        text = f"{type(error).__name__}: {_line(error)}"[:_LONGEST]
        return Check(name, "bad", text, (text,))


def _line(text: object) -> str:
    """One line: a name in a file must not look like a line of the report."""
    return " ".join(str(text).split())
