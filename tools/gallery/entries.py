"""The folders of the gallery, read and checked: what each holds, and what its mixed questions look like."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ropext.converter.evaluation.report.drawing import tokens
from ropext.converter.evaluation.report.results import Experiment
from ropext.converter.evaluation.report.submission import check_submission

from .kinds import Row, rows, trained_share
from .methods import Methods, methods_of

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "docs" / "results"


@dataclass(frozen=True)
class Entry:
    """A folder of the gallery.

    Attributes:
        place: the folder.
        experiments: what was measured in it.
        methods: of its presets.
    """

    place: Path
    experiments: Sequence[Experiment]
    methods: Methods

    def mixed(self) -> list[tuple[Experiment, list[Row], str]]:
        """Each experiment of mixed questions that has a base, with the rows of its picture and the picture's file."""
        found = [(each, rows(each, self.methods)) for each in self.experiments if each.task == "mixed"]
        drawn: list[tuple[Experiment, list[Row], str]] = []
        for each, shown in found:
            if shown[0].family == "base" and len(shown) > 1:
                name = f"mixed-{tokens(each.lengths[-1])}"
                again = sum(other.startswith(name) for *_, other in drawn)
                drawn.append((each, shown, f"{name}-{again + 1}.svg" if again else f"{name}.svg"))
        return drawn


def entries(folder: Path) -> list[Entry]:
    """The folders below one, each of which has to be as its index says."""
    places = sorted(each.parent for each in folder.glob("*/index.json"))
    return [Entry(place, check_submission(place), methods_of([place])) for place in places]


def times(experiment: Experiment) -> str:
    """How far beyond the trained length the longest text reaches, in words."""
    trained, longest = trained_share(experiment)
    factor = longest / trained if trained else 0.0
    if factor == 2:
        return f"{tokens(longest)} tokens, twice its trained length"
    return f"{tokens(longest)} tokens, {factor:.3g} times its trained length" if factor else f"{tokens(longest)} tokens"
