"""RULER's variable tracking: `vt`.

One solved example, of names of three letters, stands before the task. Its names are drawn anew for each prompt, as in
RULER's later code (the first gave all prompts the same example, without the last word of its question). The example is
never put into the model's template.
"""

from __future__ import annotations

import random
import string
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from .ruler_fitting import Draft, NoRoom, Setting, fill, fit

__all__ = ["Variables", "variables"]

NOISE = "The grass is green. The sky is blue. The sun is yellow. Here we go. There and back again.\n"
TASK = (
    "Memorize and track the chain(s) of variable assignment hidden in the following text.\n\n{context}\nQuestion: Find "
    "all variables that are assigned the value {query} in the text above."
)
ANSWER = (
    " Answer: According to the chain(s) of variable assignment in the text above, {number} variables are assgined the "
    "value {query}, they are: "
)
EXAMPLE_LENGTH = 500
"""Of the solved example and its answer (tokens)."""


@dataclass(frozen=True)
class Variables:
    """How many chains of variables there are, and how many assignments lead from one end of a chain to the other."""

    chains: int
    hops: int


def variables(task: Variables, setting: Setting) -> Iterator[Draft]:
    """Examples without end."""
    rng, values = random.Random(setting.seed), np.random.RandomState(setting.seed)
    example = _solved_example(_Maker(task, replace(setting, length=EXAMPLE_LENGTH, template="{task}"), rng, values))
    maker = _Maker(task, setting, rng, values)
    room = setting.room - setting.count(example)
    units = fit(lambda units: maker.counted(units, 5), setting, 10, room)
    while True:
        draft = fill(lambda units: maker.draft(units, 5), setting, units, 10, room, least=10)
        # Some names have more tokens than others: an example may be a few tokens longer than what was counted.
        task_at = setting.template.index("{task}")
        before, after = draft.prompt[:task_at], draft.prompt[task_at:]
        yield Draft(f"{before}{maker.with_other_names(example)}\n\n{after}", draft.answers)


def _solved_example(maker: _Maker) -> str:
    setting = maker.setting
    units = fit(lambda units: maker.counted(units, 3), setting, 5, setting.room)
    example = fill(lambda units: maker.draft(units, 3), setting, units, 5, setting.room, least=5)
    return f"{example.prompt} {' '.join(example.answers)}\n\n"


class _Maker:
    def __init__(self, task: Variables, setting: Setting, rng: random.Random, values: np.random.RandomState) -> None:
        self._task = task
        self.setting = setting
        self._rng = rng
        self._values = values

    def counted(self, units: int, letters: int) -> str:
        draft = self.draft(units, letters)
        return f"{draft.prompt} {list(draft.answers)}"

    def draft(self, units: int, letters: int) -> Draft:
        names, chains = self._chains(letters)
        lines = [NOISE] * units
        if len(lines) <= len(chains[0]):
            lines = [piece + "." if piece.strip() else piece for line in lines for piece in line.split(".")]
        if len(lines) <= len(chains[0]):
            raise NoRoom
        for chain in chains:
            places = sorted(self._rng.sample(range(len(lines)), len(chain)))
            for j, (place, assignment) in enumerate(zip(places, chain, strict=True)):
                lines.insert(place + j, assignment)
        context = " ".join(lines).replace(". \n", ".\n")
        value = chains[0][0].split("=")[-1].strip()
        prompt = self.setting.wrap(
            TASK.format(context=context, query=value), ANSWER.format(number=self._task.hops + 1, query=value)
        )
        return Draft(prompt, tuple(names))

    def _chains(self, letters: int) -> tuple[Sequence[str], list[list[str]]]:
        """The names of the first chain, and the assignments of all."""
        each = self._task.hops + 1
        names = list(dict.fromkeys(self._name(letters) for _ in range(each * self._task.chains)))
        while len(names) < each * self._task.chains:
            names = list(dict.fromkeys([*names, self._name(letters)]))
        chains = []
        for i in range(0, len(names), each):
            chain = [f"VAR {names[i]} = {self._values.randint(10000, 99999)}"]
            chain += [f"VAR {names[j + 1]} = VAR {names[j]} " for j in range(i, i + each - 1)]
            chains.append(chain)
        return names[:each], chains

    def with_other_names(self, example: str) -> str:
        end = ANSWER[-10:]
        for name in example[example.index(end) + len(end) :].split():
            example = example.replace(name, self._name(len(name)))
        return example

    def _name(self, letters: int) -> str:
        return "".join(self._rng.choices(string.ascii_uppercase, k=letters))
