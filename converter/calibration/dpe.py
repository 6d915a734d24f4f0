"""What DPE's numbers are searched on, and how: contributions and scale factors (arXiv 2504.18857, section 3)."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ropext.converter.presets.load import list_presets

from .search import Factors, Scores, ascend, climb, expected_climb, one_group_at_a_time, race

__all__ = [
    "CONTRIBUTION_TEXTS",
    "Candidate",
    "contribution_lengths",
    "expected_runs",
    "find_candidate",
    "find_window",
    "group_borders",
    "scales",
    "starts",
]


CONTRIBUTION_TEXTS = 10
"""Of each length, as published."""

_SHORTEST = 2048
"""Of the lengths that contributions are averaged over, tokens."""


def contribution_lengths(trained: int) -> list[int]:
    """The trained length, its half and so on, none under 2048 but the trained one (tokens)."""
    lengths = [trained]
    while lengths[-1] // 2 >= _SHORTEST:
        lengths.append(lengths[-1] // 2)
    return lengths


def group_borders(pairs: int, groups: int) -> list[int]:
    """Borders of groups of about as many frequency pairs each, from 0 to `pairs`."""
    return [round(pairs * group / groups) for group in range(groups + 1)]


def scales(trained: int, target: int) -> list[int]:
    """1, 2, 4, ... up to a 1024th of the target, as published, and at least to twice what it takes to reach it."""
    highest = max(target // 1024, 2 * target // trained)
    return [2**power for power in range(int(math.log2(highest)) + 1)]


def starts(groups: int, trained: int, target: int) -> list[Factors]:
    """What to begin with: one scale for all groups, the publication's first; and all factors that are published."""
    uniform = sorted(scales(trained, target)[1:], key=lambda scale: abs(scale - 2 * target / trained))
    found = [(scale,) * groups for scale in uniform]
    for preset in list_presets():
        if preset.method == "dpe" and not preset.calibration:
            factors = preset.parameters["scale_factors"]
            found.append(tuple(factors[group * len(factors) // groups] for group in range(groups)))
    return list(dict.fromkeys(found))


Candidate = tuple[Factors, int]
"""Scale factors and local window (tokens)."""


def find_candidate(
    search: str,
    groups: int,
    trained: int,
    target: int,
    windows: Sequence[int],
    scores: Scores[Candidate],
    samples: int,
) -> Candidate:
    """The best scale factors and local window that a search finds.

    Args:
        search: `climb`, from the best of all starts at any of the windows; or `published`, at the first window.
        groups: of frequency pairs.
        trained: length, tokens.
        target: length, tokens.
        windows: local windows to begin with; if there are several, others are tried in the end.
        scores: asks.
        samples: how many prompts there are.
    """
    begin, rising = starts(groups, trained, target), scales(trained, target)

    def at(window: int) -> Scores[Factors]:
        return lambda factors, sample: scores((factors, window), sample)

    if search == "published":
        window = windows[0]
        factors = one_group_at_a_time(begin[0], rising, at(window), samples)
    else:
        candidates = [(factors, window) for window in windows for factors in begin]
        factors, window = race(candidates, scores, samples)[0].candidate
        factors = climb([factors], sorted({*rising, *sum(begin, ())}), at(window), samples)
    if len(windows) > 1:
        window = find_window(window, trained, lambda tried, sample: scores((factors, tried), sample), samples)
    return factors, window


def find_window(begin: int, trained: int, scores: Scores[int], samples: int) -> int:
    """The best local window W (tokens): half or twice of the one to begin with, as long as that is better."""

    def near(window: int) -> list[int]:
        return [each for each in (window // 2, 2 * window) if 0 < each < trained]

    return ascend(begin, near, scores, samples)


def expected_runs(search: str, groups: int, trained: int, target: int, windows: int) -> int:
    """About how many settings will be scored."""
    tried_last = 2 if windows > 1 else 0
    if search == "published":
        return groups * (len(scales(trained, target)) - 1) + 2 + tried_last
    return windows * len(starts(groups, trained, target)) + expected_climb(groups) + tried_last
