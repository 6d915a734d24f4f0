"""What a method is to the converter, and what methods share.

M is the trained length and N the target, both in tokens.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ropext.converter.checkpoint.rope import float32, plain_periods
from ropext.converter.errors import Fault, Problem

if TYPE_CHECKING:
    from ropext.converter.checkpoint.facts import ModelFacts
    from ropext.converter.preset import Preset

__all__ = [
    "Baked",
    "Grid",
    "Heads",
    "Method",
    "Rope",
    "Settings",
    "Suggestion",
    "Wish",
    "as_it_is",
    "longrope",
    "nesting_faults",
    "parameter_fault",
    "reached_length",
    "scaling_factor",
    "scaling_faults",
    "single_pair_faults",
]


# What is handed to a method


@dataclass(frozen=True)
class Settings:
    """What a preset says, as far as its schema has no objection; types can be trusted.

    Attributes:
        parameters: the method's, defaults filled in.
        initial: `initial_window`, tokens.
        target: `target_window`, tokens.
        directory: where files beside the preset are looked for.
    """

    parameters: Mapping[str, Any]
    initial: int | None = None
    target: int | None = None
    directory: Path = field(default_factory=Path)


@dataclass(frozen=True)
class Heads:
    """The heads of a model.

    Attributes:
        head_dim: the width of a query or key, in dimensions.
        rotary_dim: how many of these RoPE turns.
    """

    head_dim: int
    rotary_dim: int

    @property
    def pairs(self) -> int:
        """Frequency pairs."""
        return self.rotary_dim // 2

    @property
    def size(self) -> str:
        """The width, for a message."""
        if self.rotary_dim < self.head_dim:
            return f"{self.rotary_dim} of head_dim {self.head_dim} turned"
        return f"head_dim {self.head_dim}"

    @property
    def half(self) -> str:
        """How the number of pairs comes about, for a message."""
        return "head_dim/2" if self.rotary_dim == self.head_dim else f"{self.rotary_dim} turned dimensions/2"


@dataclass(frozen=True)
class Wish:
    """A model and a length that parameters are wanted for.

    Attributes:
        facts: the model.
        inv_freq: its frequencies, its own scaling included, radians per token [pairs].
        trained: M, tokens.
        target: N, tokens.
        presets: presets that fit the model and reach the target, the nearest target first.
    """

    facts: ModelFacts
    inv_freq: list[float]
    trained: int
    target: int
    presets: tuple[Preset, ...] = ()

    @property
    def factor(self) -> float:
        """N / M."""
        return self.target / self.trained

    def window(self, published: int) -> int:
        """Return a window published for models trained to 4096 tokens or more; a quarter of M for shorter ones."""
        return min(published, max(1, self.trained // 4))


# What a method hands back


@dataclass(frozen=True)
class Baked:
    """A method made ready for one model; the fields of `rope_ext` in the same names.

    Attributes:
        parameters: the preset's, without what was only needed to get here.
        inv_freq: radians per token, [pairs].
        tables: packed tables; empty where the method has none.
        notes: sentences for the summary.
    """

    parameters: dict[str, Any]
    inv_freq: list[float]
    tables: dict[str, Any]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Suggestion:
    """A method's parameters for a model and a length.

    Attributes:
        method: its name.
        parameters: as a preset has them; None where the method cannot do it, or nobody published numbers.
        reach: the longest context whose distances are all as trained, tokens; None: any, or not known.
        why: how the numbers come about, or why there are none.
        source: who says so.
        reason: for or against the method, in one sentence.
        measured: `Method.measured`.
        bound: of fixed frequencies, the first distance at which nearer tokens need not attend more, tokens; None: not
            within twice the target, or not known.
        presets: names of shipped presets of this method that fit the model and reach the target.
    """

    method: str
    parameters: Mapping[str, Any] | None
    reach: int | None
    why: str
    source: str
    reason: str = ""
    measured: float | None = None
    bound: int | None = None
    presets: tuple[str, ...] = ()


@dataclass(frozen=True)
class Rope:
    """What stock configuration keys say.

    Attributes:
        theta: RoPE's base.
        scaling: the dictionary with its `rope_type`; None where theta is all.
        length: `max_position_embeddings`, tokens.
    """

    theta: float
    scaling: dict[str, Any] | None
    length: int


@dataclass(frozen=True)
class Grid:
    """Settings that a calibration tries: the suggested one, and others near it.

    Attributes:
        around: what each suggested value is multiplied by: the range that publications searched.
        windows: what the initial window is multiplied by.
        derived: parameters that follow from the others and are left to the method.
        others: more settings' parameters, for methods whose numbers are in lists.
    """

    around: Mapping[str, tuple[float, ...]]
    windows: tuple[float, ...] = (1.0,)
    derived: tuple[str, ...] = ()
    others: Callable[[Wish], Iterator[Mapping[str, Any]]] | None = None


# The method


def as_it_is(preset: Preset, facts: ModelFacts, inv_freq: list[float]) -> Baked:
    """Bake a method whose parameters are all it needs."""
    return Baked(dict(preset.parameters), inv_freq, {}, ())


def _none(*_: object) -> Iterator[Any]:
    return iter(())


@dataclass(frozen=True)
class Method:
    """What the converter knows of a method; its parameters are in its schema, its name is that of the file.

    Attributes:
        about: what it does, for readers of a model card: two sentences in Markdown, with a link to its publication.
        suggest: parameters for a model and a length; None: there is nothing to suggest.
        reason: for or against it, in one sentence.
        measured: mean log-probability of the right answers beyond the trained length, docs/smollm2.md; None: not known.
        bake: the numbers that go into `config.json`; the base's frequencies are given, radians per token [pairs].
        faults: what is wrong with the settings beyond the schema.
        size_faults: which parameters do not suit a model's heads.
        file_problems: what keeps files that the preset names from being used for the model.
        file_parameters: parameters that name such files.
        following: parameters that follow from the initial and the target window, tokens, by a published rule.
        within_trained: whether it is published for the trained length too, so that N may equal M.
        scaled_faults: what does not go on top of a base that is scaled already.
        plain_base: why it does not go on top of a base that is scaled already; empty where it does.
        spell: the frequencies in stock keys; None: the method changes attention, which stock classes cannot do.
        grows: whether its frequencies are the base's up to the initial window and depend on the length beyond.
        runtime_keys: keys of `config.json` from which other runtimes read a method that changes attention.
        grid: settings that a calibration tries; None: it has none.
    """

    about: str = ""
    suggest: Callable[[Wish], Suggestion] | None = None
    reason: str = ""
    measured: float | None = None
    bake: Callable[[Preset, ModelFacts, list[float]], Baked] = as_it_is
    faults: Callable[[Settings], Iterator[Fault]] = _none
    size_faults: Callable[[Mapping[str, Any], Heads], Iterator[Fault]] = _none
    file_problems: Callable[[Preset, ModelFacts], Iterator[Problem]] = _none
    file_parameters: tuple[str, ...] = ()
    following: Callable[[Mapping[str, Any], int, int], dict[str, Any]] | None = None
    within_trained: bool = False
    scaled_faults: Callable[[Preset, ModelFacts], Iterator[Fault]] = _none
    plain_base: str = ""
    spell: Callable[[Preset, ModelFacts, Baked], Rope] | None = None
    grows: bool = False
    runtime_keys: Callable[[Preset, ModelFacts, Baked], dict[str, Any]] | None = None
    grid: Grid | None = None


# Faults that methods share


def parameter_fault(key: str, message: str) -> Fault:
    """A fault of one of the method's parameters."""
    return Fault(("parameters", key), message)


def nesting_faults(settings: Settings, key: str) -> Iterator[Fault]:
    """A window `key` that does not hold the local one, or does not fit the initial one."""
    outer, local = settings.parameters.get(key), settings.parameters.get("local_window")
    if not outer:
        return
    if settings.initial and outer > settings.initial:
        yield parameter_fault(key, f"is {outer}; it must be at most initial_window ({settings.initial})")
    if local and local >= outer:
        yield parameter_fault("local_window", f"is {local}; it must be under {key} ({outer})")


def scaling_faults(settings: Settings) -> Iterator[Fault]:
    """A scaling factor that does not reach the target."""
    factor, initial, target = settings.parameters.get("scaling_factor"), settings.initial, settings.target
    if not (initial and target and factor):
        return
    # A hair of slack, for a factor written with few digits.
    if initial * factor < target and not math.isclose(initial * factor, target, rel_tol=1e-3):
        message = f"is {factor}: that reaches {initial * factor:g} tokens of target_window's {target}"
        yield parameter_fault("scaling_factor", f"{message}; set at least {target / initial:g}, or leave it out")


def single_pair_faults(heads: Heads, method: str) -> Iterator[Fault]:
    """Heads with a single pair, of which a method keeps the highest frequency and divides the lowest."""
    if heads.pairs < 2:
        yield Fault(("method",), f"is {method}, which has nothing to scale in a single pair of dimensions; take linear")


# Numbers that methods share


def scaling_factor(preset: Preset) -> float:
    """What the preset says, or how many times longer the target is."""
    return float(preset.parameters.get("scaling_factor", preset.target_window / preset.initial_window))


def reached_length(preset: Preset, facts: ModelFacts) -> int:
    """The length that a converted model reads, tokens."""
    return max(facts.trained_length, preset.target_window)


def longrope(preset: Preset, facts: ModelFacts, baked: Baked) -> Rope:
    """Spell any fixed frequencies: one divisor for each pair, the same for short and long prompts."""
    periods = plain_periods(facts.rope_theta, facts.rotary_dim)
    factors = [_divisor(period, wanted) for period, wanted in zip(periods, baked.inv_freq, strict=True)]
    length = reached_length(preset, facts)
    attention = facts.attention_factor * float(baked.parameters.get("attention_factor", 1.0))
    scaling = {
        "rope_type": "longrope",
        "short_factor": factors,
        "long_factor": factors,
        "factor": 1.0,
        "attention_factor": attention,
        # Not the trained length: runtimes that ignore attention_factor take the root of ln(length) / ln(original).
        "original_max_position_embeddings": round(length ** (1 / attention**2)) if attention > 1 else length,
    }
    return Rope(facts.rope_theta, scaling, length)


def _divisor(period: float, wanted: float) -> float:
    """The factor with which float32 arithmetic, `1 / (factor * period)`, comes nearest to a frequency."""
    exact = 1 / (wanted * period)
    near = [float32(exact * (1 + step * 2**-24)) for step in range(-4, 5)]
    return min(near, key=lambda factor: (abs(float32(1 / float32(factor * period)) - wanted), abs(factor - exact)))
