"""DPRoPE: for each frequency pair, the frequency whose rotary angles are distributed most as in training.

Source: "Extending Context Window of Large Language Models from a Distributional Perspective", EMNLP 2024
main.414, arXiv 2410.01490. The rule is that of the authors' program, whose divergence runs the other way
round than the printed one: only so does the paper's own Table 3 come out.

Arithmetic: angles are float32 products, reduced modulo a float32 turn, as in the authors' program (and, up to
that reduction, as a model computes them); everything else is float64. For some models a few pairs are so near
a tie that exact angles would choose otherwise.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from ropext.converter.text import did_you_mean

__all__ = [
    "CANDIDATES",
    "Array",
    "Candidate",
    "Context",
    "Solution",
    "count_angles",
    "disturbance",
    "divergence",
    "extrapolation",
    "interpolation",
    "ntk",
    "solve",
    "threshold_for",
    "yarn",
]

Array = npt.NDArray[np.float64]

EMPTY_COUNT = 6.103515625e-05
"""What every interval starts at, so that no logarithm is of zero: the smallest normal float16."""

MAX_WINDOW = 2**24
"""Positions up to here are exact in float32, tokens."""

_BLOCK = 1 << 15
_TURN = np.float32(2 * math.pi)


@dataclass(frozen=True)
class Context:
    """What a candidate may know.

    Attributes:
        initial_window: trained length, tokens.
        target_window: length to reach, tokens.
        scaling_factor: what interpolation divides frequencies by.
    """

    initial_window: int
    target_window: int
    scaling_factor: float


Candidate = Callable[[Array, Context], Array]
"""Proposes a frequency for every pair, from those of the base [pairs], radians per token.

Its `__name__` is its name.
"""


def extrapolation(inv_freq: Array, context: Context) -> Array:
    """The trained frequencies as they are."""
    return inv_freq


def interpolation(inv_freq: Array, context: Context) -> Array:
    """Every frequency divided by the scaling factor (position interpolation, arXiv 2306.15595)."""
    return inv_freq / context.scaling_factor


def ntk(inv_freq: Array, context: Context) -> Array:
    """Theta raised to `theta * s^(d/(d-2))`: the highest frequency kept, the lowest divided by s."""
    return inv_freq * context.scaling_factor ** -np.linspace(0.0, 1.0, len(inv_freq))


def yarn(inv_freq: Array, context: Context) -> Array:
    """YaRN (arXiv 2309.00071): kept above 32 turns in the initial window, divided under 1, mixed between."""
    low = max(math.floor(_pair_of_turns(32.0, inv_freq, context.initial_window)), 0)
    high = min(math.ceil(_pair_of_turns(1.0, inv_freq, context.initial_window)), 2 * len(inv_freq) - 1)
    share = np.clip((np.arange(len(inv_freq)) - low) / max(high - low, 1e-3), 0.0, 1.0)
    return inv_freq * (1 - share) + inv_freq / context.scaling_factor * share


def _pair_of_turns(turns: float, inv_freq: Array, window: int) -> float:
    """Index, with fraction, of the pair that makes a number of turns in `window` tokens."""
    step = math.log(inv_freq[0] / inv_freq[1])
    return math.log(inv_freq[0] * window / (turns * 2 * math.pi)) / step


CANDIDATES: Mapping[str, Candidate] = MappingProxyType(
    {each.__name__: each for each in (extrapolation, interpolation, ntk, yarn)}
)
"""The candidates that a preset can name."""


@dataclass(frozen=True)
class Solution:
    """The frequencies chosen.

    Attributes:
        inv_freq: the new frequencies, radians per token [pairs].
        factors: old frequency / new frequency, to twelve decimals [pairs].
        candidates: names of the candidates, in the order of `choice`.
        choice: which candidate each pair took [pairs].
        divergences: of each candidate's angles from the trained ones [candidates, pairs].
    """

    inv_freq: Array
    factors: Array
    candidates: tuple[str, ...]
    choice: npt.NDArray[np.intp]
    divergences: Array


def solve(
    inv_freq: Sequence[float] | Array,
    initial_window: int,
    target_window: int,
    *,
    scaling_factor: float | None = None,
    intervals: int = 360,
    candidates: Sequence[str | Candidate] = ("extrapolation", "interpolation"),
    threshold: float = 0.0,
) -> Solution:
    """Choose a frequency for every pair.

    Args:
        inv_freq: the base's frequencies, radians per token [pairs].
        initial_window: trained length, tokens.
        target_window: length to reach, tokens.
        scaling_factor: what interpolation divides by; target_window / initial_window when left out.
        intervals: bins that a turn is cut into.
        candidates: names from `CANDIDATES`, or callables of one's own; a tie goes to the earlier one.
        threshold: another candidate than the first replaces it only where its divergence plus this is lower.

    Raises:
        ValueError: for an unknown candidate, or numbers that make no sense.
    """
    base = _frequencies(inv_freq, "inv_freq")
    _check_windows(initial_window, target_window)
    context = Context(initial_window, target_window, scaling_factor or target_window / initial_window)
    proposers = [_candidate(each) for each in candidates]
    if not proposers or intervals < 2 or not threshold >= 0 or not context.scaling_factor >= 1:
        raise ValueError("solve needs a candidate, intervals >= 2, threshold >= 0 and scaling_factor >= 1")
    proposals = np.stack([_proposal(each, base, context) for each in proposers])
    trained = count_angles(base, initial_window, intervals)
    divergences = np.stack([divergence(trained, count_angles(each, target_window, intervals)) for each in proposals])
    handicap = np.array([0.0] + [threshold] * (len(proposers) - 1))
    choice = np.argmin(divergences + handicap[:, None], axis=0)
    chosen = np.take_along_axis(proposals, choice[None], axis=0)[0]
    names = tuple(_name(each) for each in proposers)
    return Solution(chosen, np.round(base / chosen, 12), names, choice, divergences)


def threshold_for(solution: Solution, pairs: int) -> float:
    """The threshold at which `pairs` pairs leave the first candidate, as the paper tuned its own.

    Args:
        solution: solved with a threshold of 0.
        pairs: how many, at most those that leave it then.

    Raises:
        ValueError: fewer leave it.
    """
    gains = sorted(solution.divergences[0] - solution.divergences[1:].min(axis=0), reverse=True)
    most = sum(gain > 0 for gain in gains)
    if not 0 <= pairs <= most:
        raise ValueError(f"{pairs} pairs: for this model and length, between 0 and {most} leave the first candidate")
    above, below = gains[pairs - 1] if pairs else 2 * gains[0], max(0.0, gains[pairs]) if pairs < len(gains) else 0.0
    return float((above + below) / 2)


def disturbance(
    inv_freq: Sequence[float] | Array,
    new_inv_freq: Sequence[float] | Array,
    initial_window: int,
    target_window: int,
    *,
    intervals: int = 360,
) -> float:
    """How far rotary angles are disturbed: the divergence summed over intervals and averaged over pairs.

    The paper prints a thousand times this (Table 3).
    """
    _check_windows(initial_window, target_window)
    trained = count_angles(_frequencies(inv_freq, "inv_freq"), initial_window, intervals)
    reached = count_angles(_frequencies(new_inv_freq, "new_inv_freq"), target_window, intervals)
    return float(divergence(trained, reached).mean()) * intervals


def count_angles(inv_freq: Array, length: int, intervals: int) -> npt.NDArray[np.int64]:
    """How many of the positions 0 ... length - 1 turn each pair into each interval [pairs, intervals]."""
    counts = np.zeros((len(inv_freq), intervals), dtype=np.int64)
    for start in range(0, length, _BLOCK):
        positions = np.arange(start, min(start + _BLOCK, length), dtype=np.float32)
        for pair, frequency in enumerate(inv_freq.astype(np.float32)):
            angles = np.remainder(positions * frequency, _TURN).astype(np.float64)
            bins = (angles * (intervals / (2 * math.pi))).astype(np.int64)
            counts[pair] += np.bincount(bins, minlength=intervals)
    return counts


def divergence(trained: npt.NDArray[np.int64], reached: npt.NDArray[np.int64]) -> Array:
    """Mean over intervals of `o * (ln o - ln c)`, o the trained distribution and c the other [pairs].

    Args:
        trained: counts [pairs, intervals], as `count_angles` makes them.
        reached: counts of the same shape over any other length.
    """
    o, c = _distribution(trained), _distribution(reached)
    mean: Array = np.mean(o * (np.log(o) - np.log(c)), axis=-1)
    return mean


def _distribution(counts: npt.NDArray[np.int64]) -> Array:
    length = counts.sum(axis=-1, keepdims=True)
    shares: Array = (counts + EMPTY_COUNT) / length
    return shares


def _frequencies(values: Sequence[float] | Array, name: str) -> Array:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or len(array) < 2 or not np.all(np.isfinite(array) & (array > 0)):
        raise ValueError(f"{name} must be a list of two or more finite positive numbers, radians per token")
    return array


def _check_windows(initial: int, target: int) -> None:
    if not 1 <= initial <= target <= MAX_WINDOW:
        raise ValueError(
            f"windows must satisfy 1 <= initial <= target <= {MAX_WINDOW} tokens, not {initial} and {target}"
        )


def _candidate(candidate: str | Candidate) -> Candidate:
    if not isinstance(candidate, str):
        return candidate
    if candidate not in CANDIDATES:
        near = did_you_mean(candidate, CANDIDATES) or ";"
        raise ValueError(f"unknown candidate {candidate!r}{near} there are {', '.join(CANDIDATES)}")
    return CANDIDATES[candidate]


def _name(candidate: Candidate) -> str:
    return str(getattr(candidate, "__name__", candidate))


def _proposal(candidate: Candidate, inv_freq: Array, context: Context) -> Array:
    # A copy, so that a candidate which writes into its argument spoils no other's.
    proposed = _frequencies(candidate(inv_freq.copy(), context), f"the result of candidate {_name(candidate)}")
    if proposed.shape != inv_freq.shape:
        raise ValueError(f"candidate {_name(candidate)} returned {len(proposed)} of {len(inv_freq)} frequencies")
    return proposed
