"""Several kinds of questions at once: what a setting does to retrieval of every kind, and to reading itself.

Two texts make a sample. One is prose, in which numbers stand under names (RULER's needles), in lines of JSON (pairs of
keys and values, as in arXiv 2307.03172) and in variables that are given another variable's value (RULER's variable
tracking). The other is the passkey test's filler, with several keys under names. Every answer is a number of five
digits, so that no kind outweighs another. The prose is read as text too, before and beyond the trained length.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import cycle
from typing import TYPE_CHECKING, Any

from ropext.converter.errors import UsageError
from ropext.converter.evaluation.asking import Prompt, digest

from .needles import Hidden, draw_names, hide, needle, needle_depths
from .passkey import FILLER
from .texts import Text

if TYPE_CHECKING:
    from ropext.converter.evaluation.asking import Model

__all__ = ["KINDS", "PURPOSES", "TEXT_TOKENS", "Mixed", "by_kind", "mixed_sample", "weighed"]

KINDS = ("needles", "pairs", "variables", "passkeys", "text")
"""Of questions; `text` is how well the prose itself is predicted."""

PURPOSES: Mapping[str, Mapping[str, float]] = {
    "balanced": dict.fromkeys(KINDS, 1.0),
    "retrieval": {**dict.fromkeys(KINDS, 1.0), "text": 0.25},
    "reading": {**dict.fromkeys(KINDS, 0.25), "text": 4.0},
}
"""What each kind weighs in one score, by what the model is for."""

TEXT_TOKENS = 32
"""A piece of text counts by the loss of this many of its tokens, which makes it weigh about what an answer does."""

_TASK = "Some numbers are hidden within the following text. Make sure to memorize them. I will quiz you afterwards.\n"
_PAIR = '\nWhat is the value of the key "{key}" in the provided text? The value of the key "{key}" is'
_VARIABLE = "\nWhat is the value of the variable {key} in the provided text? The value of the variable {key} is"
_PASSKEY = "\nWhat is the pass key of {key}? The pass key of {key} is"
_LINE = 4
"""Pairs of keys and values in a line of JSON, of which one is asked for."""


@dataclass(frozen=True)
class Mixed:
    """A text in prose and one in filler, with questions of several kinds.

    Attributes:
        prose: with needles, pairs and variables; read as text too.
        filler: with passkeys.
        pieces: of the prose, whose losses are taken.
    """

    prose: Prompt
    filler: Prompt
    pieces: int

    @property
    def key(self) -> str:
        """What tells it from the others of a task."""
        return self.prose.key

    @property
    def size(self) -> int:
        """Tokens of its two texts."""
        return self.prose.size + self.filler.size

    @property
    def asked(self) -> str:
        """Digest of both texts and their questions."""
        return digest(self.prose.asked, self.filler.asked)

    def measure(self, model: Model) -> dict[str, Any]:
        """Ask a model; what is written down of it."""
        losses, answers = model.losses_and_answers(self.prose, self.pieces)
        answers += model.answers(self.filler)
        questions = (*self.prose.questions, *self.filler.questions)
        return {
            "length": self.prose.length,
            "tokens": len(self.prose.input_ids) + len(self.filler.input_ids),
            "seed": self.prose.seed,
            "asked": self.asked,
            "answers": [
                {"kind": asked.kind, "depth": asked.depth, "distance": asked.distance, **asdict(answer)}
                for asked, answer in zip(questions, answers, strict=True)
            ],
            "losses": losses,
        }


def mixed_sample(tokenizer: Any, text: Text, length: int, questions: int, seed: int) -> Mixed:
    """Make a sample.

    Args:
        tokenizer: of the model to be asked.
        text: the prose.
        length: of each of the two texts, a question and its answer, at most (tokens).
        questions: of each kind.
        seed: of everything that is drawn.

    Raises:
        UsageError: the length leaves no room, or there are more questions than names.
    """
    rng = random.Random(f"mixed {seed}")
    most = 100
    if questions > most:
        raise UsageError(f"{questions} questions of each kind: there are names for {most}")
    names = iter(draw_names(rng, questions * (2 + _LINE)))
    depths = {kind: needle_depths(questions, rng.randrange(2**32)) for kind in KINDS}
    hidden = [needle(next(names), _number(rng), depth, "needles") for depth in depths["needles"]]
    hidden += [_pairs(rng, [next(names) for _ in range(_LINE)], depth) for depth in depths["pairs"]]
    hidden += [each for depth in depths["variables"] for each in _variable(rng, depth)]
    passkeys = [_passkey(rng, next(names), depth) for depth in depths["passkeys"]]
    prose = hide(tokenizer, _TASK, hidden, text.from_anywhere(seed), length, seed)
    sentences = cycle(f"{sentence}." for sentence in FILLER.strip().strip(".").split(". "))
    return Mixed(prose, hide(tokenizer, _TASK, passkeys, sentences, length, seed), questions)


def by_kind(result: Mapping[str, Any]) -> dict[str, list[float]]:
    """What each question and each piece of text counts (nats), of what `Mixed.measure` returned."""
    found: dict[str, list[float]] = {kind: [] for kind in KINDS}
    for answer in result["answers"]:
        found[answer["kind"]].append(answer["log_probability"])
    found["text"] = [-TEXT_TOKENS * loss for loss in result["losses"]]
    return {kind: scores for kind, scores in found.items() if scores}


def weighed(result: Mapping[str, Any], purpose: str) -> list[float]:
    """What a sample counts, one number for each question and each piece of text; their mean is the score.

    Args:
        result: what `Mixed.measure` returned.
        purpose: one of `PURPOSES`.

    Returns:
        Nats, so multiplied that each kind has its weight in the mean, however many questions it has.
    """
    found, weights = by_kind(result), PURPOSES[purpose]
    count, total = sum(map(len, found.values())), sum(weights[kind] for kind in found)
    return [score * weights[kind] * count / (len(scores) * total) for kind, scores in found.items() for score in scores]


def _number(rng: random.Random) -> str:
    return str(rng.randint(10_000, 99_999))


def _pairs(rng: random.Random, names: Sequence[str], depth: float) -> Hidden:
    pairs = {name: _number(rng) for name in names}
    key = rng.choice(names)
    return Hidden(json.dumps(pairs), depth, _PAIR.format(key=key), pairs[key], "pairs")


def _variable(rng: random.Random, depth: float) -> Iterator[Hidden]:
    first, second = ("".join(rng.choices("ABCDEFGHIJKLMNOPQRSTUVWXYZ", k=5)) for _ in range(2))
    value = _number(rng)
    yield Hidden(f"VAR {first} = {value}.", depth)
    later = depth + (1 - depth) * rng.random()
    yield Hidden(f"VAR {second} = VAR {first}.", later, _VARIABLE.format(key=second), value, "variables")


def _passkey(rng: random.Random, name: str, depth: float) -> Hidden:
    value = _number(rng)
    sentence = f"The pass key of {name} is {value}. Remember it. {value} is the pass key of {name}."
    return Hidden(sentence, depth, _PASSKEY.format(key=name), value, "passkeys")
