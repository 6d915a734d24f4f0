"""The pictures of `docs/pictures`, drawn of raw lines and presets by matplotlib."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from ropext.converter.calibration.pictures import scale_picture
from ropext.converter.calibration.report import GroupCurve
from ropext.converter.evaluation.report.drawing import Picture, save
from ropext.converter.evaluation.report.pictures import pictures
from ropext.converter.evaluation.report.position_map import target_of
from ropext.converter.evaluation.report.preset_pictures import preset_pictures
from ropext.converter.evaluation.report.results import read_results
from ropext.converter.presets.load import load_preset

from .entries import RESULTS, ROOT
from .methods import setting

PLACE = ROOT / "docs" / "pictures"
SMOLLM2 = RESULTS / "smollm2"


def _report(place: str, **how: Any) -> Callable[[], list[Picture]]:
    """The pictures that `ropext report` draws of a file."""
    return lambda: [each for _, each in pictures(read_results([SMOLLM2 / place])[0], **how)]


def _preset(name: str) -> Callable[[], list[Picture]]:
    """What `ropext presets show --plot` draws."""
    return lambda: preset_pictures(target_of(load_preset(name), None), None)


_COMPARE = "compare/SmolLM2-135M-Instruct"
PICTURES: Mapping[str, Callable[[], list[Picture]]] = {
    "attention.svg": _report("attention/SmolLM2-135M-Instruct/attention.jsonl"),
    "llama3-8b-dpe.svg": _preset("llama3-8b-dpe"),
    "smollm2-135m-dpe-scales.svg": lambda: [scale_picture(curves(SMOLLM2 / "calibrate-dpe.jsonl"))],
    "smollm2-135m-dprope.svg": _preset("smollm2-135m-dprope"),
    "smollm2-135m-niah.svg": _report(f"{_COMPARE}/niah.jsonl", kinds=("heatmap",), measure="log-probability"),
    "smollm2-135m-passkey.svg": _report(f"{_COMPARE}/passkey.jsonl", kinds=("heatmap",)),
    "smollm2-135m-ppl.svg": _report(f"{_COMPARE}/ppl.jsonl"),
}
"""Every picture of the folder, by its name."""


def draw(place: Path) -> None:
    """Draw all of them."""
    for name, of in PICTURES.items():
        save(of(), place / name)


# The search for DPE's factors


Scores = Mapping[tuple[int, ...], Mapping[int, Sequence[float]]]
"""The answers' log-probabilities by scale factors and by text."""


def curves(file: Path) -> list[GroupCurve]:
    """A curve for each group of pairs, from the lines of a search at the local window that most settings had."""
    import json

    found: dict[int, dict[tuple[int, ...], dict[int, list[float]]]] = {}
    borders: Sequence[int] = ()
    for line in map(json.loads, file.read_text(encoding="utf-8").splitlines()[1:]):
        parameters = setting(line["key"])[3]
        borders = parameters["dimension_groups"]
        of_window = found.setdefault(parameters["local_window"], {})
        answers = [answer["log_probability"] for answer in line["value"]["answers"]]
        of_window.setdefault(tuple(parameters["scale_factors"]), {})[line["value"]["seed"]] = answers
    scores = max(found.values(), key=len)
    texts = max(map(len, scores.values()))
    best = max((each for each in scores if len(scores[each]) == texts), key=lambda each: _mean(scores[each]))
    return [_curve(scores, best, group, (borders[group], borders[group + 1] - 1)) for group in range(len(best))]


def _mean(texts: Mapping[int, Sequence[float]]) -> float:
    return fmean(score for scores in texts.values() for score in scores)


def _curve(scores: Scores, best: tuple[int, ...], group: int, pairs: tuple[int, int]) -> GroupCurve:
    ahead, error = {best[group]: 0.0}, {best[group]: 0.0}
    for factors, texts in scores.items():
        if [place for place, each in enumerate(factors) if each != best[place]] == [group]:
            both = [zip(own, scores[best][text], strict=True) for text, own in texts.items() if text in scores[best]]
            differences = [mine - its for each in both for mine, its in each]
            ahead[factors[group]] = fmean(differences)
            error[factors[group]] = stdev(differences) / len(differences) ** 0.5
    return GroupCurve(pairs, best[group], dict(sorted(ahead.items())), error)
