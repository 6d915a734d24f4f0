"""Results in a converted checkpoint's model card: a part of its text, and the Hub's `model-index` in its metadata.

All else of the card stays as it is, to the letter, but for its sentence that nothing was measured.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from ropext.converter.checkpoint.roles import inside
from ropext.converter.convert.card import RESULTS, UNMEASURED, results_place
from ropext.converter.convert.record import Entry, read_record
from ropext.converter.errors import RopextError, UsageError
from ropext.converter.files.json_object import read_bounded
from ropext.converter.files.model_card import newline_of, with_key
from ropext.converter.files.replace import beside, replace_file
from ropext.converter.names import CARD, PROVENANCE

from .drawing import save
from .lines import TASKS
from .pictures import Kind, Measure, pictures
from .results import BASE, Experiment
from .statistics import METRICS, estimate
from .tables import markdown_body, plain

__all__ = ["PICTURE", "update_card"]

PICTURE = "results.png"
"""The picture beside the card."""

_BEGIN, _END = "<!-- ropext report: begin -->", "<!-- ropext report: end -->"
_DATASET = "ropext-"
"""What the names of this section's data sets begin with in `model-index`."""


def update_card(folder: Path, experiments: Sequence[Experiment], kinds: Sequence[Kind], measure: Measure) -> list[Path]:
    """Write or renew the section, its picture and its metadata.

    Args:
        folder: a converted checkpoint.
        experiments: of which those of its preset are shown, beside the base.
        kinds: which pictures.
        measure: that pictures of passkeys and needles show.

    Returns:
        The files that were written.

    Raises:
        UsageError: the folder is no converted checkpoint, or its preset was not measured.
        RopextError: the card cannot be read, or matplotlib is not installed.
    """
    record = read_record(folder)
    preset = record.preset.name
    own = _own(experiments, preset, folder)
    card = folder / CARD
    text = _read(card)
    drawn = [picture for _, picture in pictures(own, kinds, measure)]
    section = _section(own, [picture.title for picture in drawn]).replace("\n", newline_of(text))
    renewed = with_key(_with_section(text, section, card), "model-index", partial(_model_index, preset, own), str(card))
    written = [card]
    if drawn:
        with beside(folder / PICTURE) as temp:
            save(drawn, temp)
        written.insert(0, folder / PICTURE)
    replace_file(card, renewed.encode())
    entries = {file.name: Entry.of(file.read_bytes()) for file in written}
    replace_file(folder / PROVENANCE, record.with_files(entries).dump())
    return [*written, folder / PROVENANCE]


def _own(experiments: Sequence[Experiment], preset: str, folder: Path) -> list[Experiment]:
    """The experiments with a preset, of it and the base alone; or those on the folder itself."""
    found = [each.only([preset]) for each in experiments if preset in each.presets]
    if found:
        return found
    found = [each for each in experiments if each.source in (folder.resolve().name, preset) and each.presets == [BASE]]
    if not found:
        measured = dict.fromkeys(name for each in experiments for name in (each.source, *each.presets) if name != BASE)
        raise UsageError(f"--card {folder}: its preset {preset} was not measured; there are {', '.join(measured)}")
    return found


def _read(card: Path) -> str:
    if not card.is_file():
        raise UsageError(f"{card}: there is no model card")
    try:
        return read_bounded(inside(card.parent, card.name), str(card)).decode()
    except UnicodeDecodeError:
        raise RopextError(f"{card}: is not UTF-8") from None


# The text


def _section(experiments: Sequence[Experiment], titles: Sequence[str]) -> str:
    picture = f"![{plain('; '.join(titles))}]({PICTURE})\n\n" if titles else ""
    return f"{_BEGIN}\n\n{picture}{markdown_body(experiments, level=3)}\n{_END}"


def _with_section(text: str, section: str, card: Path) -> str:
    """The card with the section in the place of the one before, or in its own."""
    _, end = results_place(text)
    own, rest = text[:end].replace(UNMEASURED, "", 1), text[end:]
    begins, ends = own.count(_BEGIN), own.count(_END)
    if (begins, ends) == (1, 1) and own.index(_BEGIN) < own.index(_END):
        return own[: own.index(_BEGIN)] + section + own[own.index(_END) + len(_END) :] + rest
    if begins or ends:
        raise RopextError(f"{card}: `{_BEGIN}` and `{_END}` do not stand there once each, in this order; remove both")
    newline = newline_of(text)
    # The heading stands before the markers: what is under a heading of its own is kept when the card is written anew.
    section = f"## {RESULTS}{2 * newline}{section}{newline}"
    place, _ = results_place(own)
    if place < len(own):
        return f"{own[:place]}{section}{newline}{own[place:]}{rest}"
    return f"{own.rstrip()}{2 * newline}{section}{newline if rest else ''}{rest}"


# The metadata


def _model_index(preset: str, experiments: Sequence[Experiment], before: Any) -> list[Any]:
    """The Hub's form of the results, after those of others that are there."""
    from huggingface_hub.repocard_data import eval_results_to_model_index

    (own,) = eval_results_to_model_index(preset, list(_eval_results(preset, experiments)))
    own = json.loads(json.dumps(own))
    entries = [each for each in before if isinstance(each, dict)] if isinstance(before, list) else []
    kept = []
    for entry in entries:
        results = entry.get("results")
        others = [each for each in results if not _is_own(each)] if isinstance(results, list) else []
        if entry.get("name") == preset:
            own = {**entry, "results": [*others, *own["results"]]}
        elif others or not results:
            kept.append({**entry, "results": others} if results else entry)
    return [own, *kept]


def _is_own(result: Any) -> bool:
    dataset = result.get("dataset") if isinstance(result, dict) else None
    return isinstance(dataset, dict) and str(dataset.get("type", "")).startswith(_DATASET)


_REPORTED = {"exact": "exact_match", "perplexity": "perplexity", "score": None}
"""The metrics of `model-index`, by those of reports; None is called as the task is."""


def _eval_results(preset: str, experiments: Sequence[Experiment]) -> Iterator[Any]:
    from huggingface_hub import EvalResult

    for experiment in experiments:
        who = preset if preset in experiment.presets else BASE
        for metric in METRICS[experiment.task]:
            for length in experiment.lengths if metric.name in _REPORTED else ():
                found = estimate(metric, experiment, who, length)
                if found is None or not abs(found.value) < float("inf"):
                    continue
                needles = experiment.settings.get("needles")
                kind = f"{needles} needles, " if needles else ""
                yield EvalResult(
                    task_type="text-generation",
                    task_name="Long context",
                    dataset_type=f"{_DATASET}{experiment.task}",
                    dataset_name=f"{TASKS[experiment.task]}, {kind}{length:,} tokens",
                    dataset_config=f"{kind}{length}",
                    metric_type=_REPORTED[metric.name] or experiment.task,
                    metric_name=metric.title,
                    metric_value=round(found.value, 3),
                )
