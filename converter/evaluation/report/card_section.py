"""Results in a converted checkpoint's model card: a part of its text, and the Hub's `model-index` in its metadata.

All else of the card stays as it is, to the letter, but for its sentence that nothing was measured.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from ropext.converter.convert.record import Entry, read_record
from ropext.converter.errors import RopextError, UsageError
from ropext.converter.files.replace import beside, replace_file
from ropext.converter.names import CARD, PROVENANCE

from .drawing import save
from .pictures import Kind, Measure, pictures
from .results import BASE, TASKS, Experiment
from .statistics import METRICS, estimate
from .tables import markdown_body, plain

__all__ = ["PICTURE", "update_card"]

PICTURE = "results.png"
"""The picture beside the card."""

_BEGIN, _END = "<!-- ropext report: begin -->", "<!-- ropext report: end -->"
_HEADINGS = ("## Limits", "# The base model's card")
"""Before the first of these the section goes; the second begins what is others'."""
_UNMEASURED = "Nothing was measured on this checkpoint. "
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
    newline = "\r\n" if "\r\n" in text else "\n"
    section = _section(own, [picture.title for picture in drawn]).replace("\n", newline)
    renewed = _with_metadata(_with_section(text, section, card), preset, own, newline, card)
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
        return card.read_bytes().decode()
    except UnicodeDecodeError:
        raise RopextError(f"{card}: is not UTF-8") from None


# The text


def _section(experiments: Sequence[Experiment], titles: Sequence[str]) -> str:
    picture = f"![{plain('; '.join(titles))}]({PICTURE})\n\n" if titles else ""
    return f"{_BEGIN}\n\n{picture}{markdown_body(experiments, level=3)}\n{_END}"


def _with_section(text: str, section: str, card: Path) -> str:
    """The card with the section in the place of the one before, or in its own."""
    end = _headed(text, _HEADINGS[1:])
    own, rest = text[:end].replace(_UNMEASURED, "", 1), text[end:]
    begins, ends = own.count(_BEGIN), own.count(_END)
    if (begins, ends) == (1, 1) and own.index(_BEGIN) < own.index(_END):
        return own[: own.index(_BEGIN)] + section + own[own.index(_END) + len(_END) :] + rest
    if begins or ends:
        raise RopextError(f"{card}: `{_BEGIN}` and `{_END}` do not stand there once each, in this order; remove both")
    newline = "\r\n" if "\r\n" in text else "\n"
    # The heading stands before the markers: what is under a heading of its own is kept when the card is written anew.
    section = f"## Results{2 * newline}{section}{newline}"
    place = _headed(own, _HEADINGS)
    if place < len(own):
        return f"{own[:place]}{section}{newline}{own[place:]}{rest}"
    return f"{own.rstrip()}{2 * newline}{section}{newline if rest else ''}{rest}"


def _headed(text: str, headings: Sequence[str]) -> int:
    """Where the first of some headings begins, code left out; the end of the text where there is none."""
    fence, place = "", 0
    for line in text.splitlines(keepends=True):
        run = re.match(r" {0,3}(`{3,}|~{3,})", line)
        if run and (not fence or (run[1].startswith(fence) and not line.strip().strip(fence[0]))):
            fence = "" if fence else run[1]
        elif not fence and line.rstrip() in headings:
            return place
        place += len(line)
    return len(text)


# The metadata


def _with_metadata(text: str, preset: str, experiments: Sequence[Experiment], newline: str, card: Path) -> str:
    """The card with `model-index` in its metadata, everything else of which stays as it is written."""
    match = re.match(r"(\ufeff?---[ \t]*\r?\n)(.*?)(\r?\n)(---[ \t]*(?:\r?\n|$))", text, re.DOTALL)
    written = match[2] if match else ""
    try:
        node = yaml.compose(written, Loader=yaml.SafeLoader)
        metadata = yaml.safe_load(written)
    except (yaml.YAMLError, ValueError):
        raise RopextError(f"{card}: its metadata is not valid YAML; repair it first") from None
    if metadata is not None and not isinstance(metadata, dict):
        raise RopextError(f"{card}: its metadata is no mapping; repair it first")
    index = _model_index(preset, experiments, (metadata or {}).get("model-index"))
    lines = yaml.safe_dump({"model-index": index}, sort_keys=False, allow_unicode=True, width=1000).rstrip("\n")
    lines = lines.replace("\n", newline)
    if not match:
        return f"---{newline}{lines}{newline}---{newline}{newline}{text}"
    pairs = node.value if isinstance(node, yaml.MappingNode) else []
    before = next((pair for pair in pairs if pair[0].value == "model-index"), None)
    if before is None:
        renewed = f"{written.rstrip()}{newline}{lines}" if written.strip() else lines
    else:
        renewed = written[: before[0].start_mark.index] + lines + written[_last(before[1]) :]
    try:
        right = yaml.safe_load(renewed) == {**(metadata or {}), "model-index": index}
    except yaml.YAMLError:
        right = False
    if not right:
        raise RopextError(f"{card}: its metadata cannot be added to as it is written; put one key on each line")
    return text[: match.start(2)] + renewed + text[match.end(2) :]


def _last(node: yaml.Node) -> int:
    """Where what is written of a node ends; a block's own mark is where the next thing begins."""
    if isinstance(node, yaml.CollectionNode) and not node.flow_style and node.value:
        last = node.value[-1]
        return _last(last[1] if isinstance(last, tuple) else last)
    return int(node.end_mark.index)


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
