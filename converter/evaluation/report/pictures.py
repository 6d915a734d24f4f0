"""Pictures of results: heat maps by length and depth, scores and perplexity against length."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal, get_args

from .attention_pictures import attention_pictures
from .curves import against_length
from .drawing import Picture
from .heatmaps import heatmap
from .results import Experiment
from .statistics import METRICS

__all__ = ["KINDS", "MEASURES", "Kind", "Measure", "pictures"]

Kind = Literal["heatmap", "score", "perplexity", "attention"]
KINDS: tuple[Kind, ...] = get_args(Kind)
"""What can be drawn."""

Measure = Literal["exact", "log-probability"]
MEASURES: tuple[Measure, ...] = get_args(Measure)
"""What heat maps and scores of passkeys and needles show."""


def pictures(
    experiments: Sequence[Experiment], kinds: Sequence[Kind] = KINDS, measure: Measure = "exact"
) -> list[tuple[Experiment, Picture]]:
    """The pictures that experiments have, each beside its experiment.

    Args:
        experiments: what to show.
        kinds: which pictures.
        measure: of passkeys and needles.
    """
    return [(each, picture) for each in experiments for picture in _of(each, kinds, measure)]


def _of(experiment: Experiment, kinds: Sequence[Kind], measure: Measure) -> Iterator[Picture]:
    metrics = METRICS[experiment.task]
    if experiment.task in ("passkey", "niah"):
        if "heatmap" in kinds:
            yield heatmap(experiment, exact=measure == "exact")
        if "score" in kinds:
            name = measure.replace("-", "_")
            yield against_length(experiment, next(each for each in metrics if each.name == name))
    elif experiment.task == "attention":
        if "attention" in kinds:
            yield from attention_pictures(experiment)
    elif ("perplexity" if experiment.task == "ppl" else "score") in kinds:
        yield against_length(experiment, metrics[0])
