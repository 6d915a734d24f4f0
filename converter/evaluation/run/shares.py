"""The processes that a launcher starts side by side, and what each of them does."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from ropext.converter.errors import UsageError

__all__ = ["ALONE", "Share", "launched_share"]

T = TypeVar("T")


@dataclass(frozen=True)
class Share:
    """One process among several that do the same work, each a part of it.

    Attributes:
        rank: which it is, from 0.
        count: how many there are.
        local: which it is on its machine, from 0.
    """

    rank: int = 0
    count: int = 1
    local: int = 0

    def of(self, work: Sequence[T]) -> Sequence[T]:
        """This process's part: shared out to and fro, since what is asked gets longer and begins anew."""
        places = self.rank, 2 * self.count - 1 - self.rank
        return [each for place, each in enumerate(work) if place % (2 * self.count) in places]

    def device(self, name: str) -> str:
        """The device that is meant by a name: with `auto` each process has a GPU of its own, where there are any."""
        import torch

        return f"cuda:{self.local}" if name == "auto" and self.count > 1 and torch.cuda.is_available() else name


ALONE = Share()


def launched_share() -> Share:
    """The share that `accelerate launch`, torchrun and other launchers set in the environment.

    Raises:
        UsageError: what they say makes no sense.
    """
    names = {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0"}
    said = {name: os.environ.get(name, usual) for name, usual in names.items()}
    try:
        rank, count, local = map(int, said.values())
        if not (0 <= rank < count and local >= 0):
            raise ValueError
    except ValueError:
        told = ", ".join(f"{name}={value}" for name, value in said.items())
        raise UsageError(f"{told}: the environment names no process among several; unset these, or set all") from None
    return Share(rank, count, local)
