"""Parts of a task that have a number of their own; a question may belong to several of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from ropext.converter.evaluation.tasks import helmet, infinitebench, leval, longbench2

__all__ = ["joined", "ordered", "split", "whole"]

_BETWEEN = "\n"
"""No name has it: what is read from files is made printable."""

_ORDER: Mapping[str, Sequence[str]] = {
    "longbench2": longbench2.GROUPS,
    "infinitebench": tuple(infinitebench.TASKS),
    "helmet": (*helmet.GROUPS, *helmet.TASKS),
}
"""Of the parts that tables show, where it is not that of the results."""


_WHOLE: Mapping[str, Sequence[str]] = {
    "leval": leval.AVERAGED,
    "infinitebench": tuple(infinitebench.TASKS),
    "helmet": tuple(helmet.TASKS),
}
"""Tasks whose average counts only where it is over all of these."""


def whole(task: str) -> Sequence[str]:
    """Return the parts that an average has to be over; none where any will do."""
    return _WHOLE.get(task, ())


def joined(groups: Iterable[str]) -> str:
    """Return one name for the parts that a question belongs to."""
    return _BETWEEN.join(groups)


def split(name: str) -> list[str]:
    """Return the parts of such a name."""
    return name.split(_BETWEEN)


def ordered(task: str, names: Iterable[str]) -> list[str]:
    """Return the parts that there are, each once, in the order of tables."""
    order = list(_ORDER.get(task, ()))
    found = dict.fromkeys(part for name in names for part in split(name))
    return sorted(found, key=lambda part: order.index(part) if part in order else len(order))
