"""A calibration from what is wanted to the preset that is written."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from statistics import fmean
from typing import Any

from ropext.converter.checkpoint.facts import ModelFacts
from ropext.converter.errors import RopextError, UsageError
from ropext.converter.evaluation.run.records import Records
from ropext.converter.evaluation.run.transformers_model import SwitchableModel
from ropext.converter.evaluation.tasks.texts import load_text
from ropext.converter.files.replace import beside
from ropext.converter.hub import client as hub
from ropext.converter.methods import registry
from ropext.converter.methods.profile import shaped
from ropext.converter.preset import Preset
from ropext.converter.presets.fit import preset_faults
from ropext.converter.presets.load import found_preset, make_preset, write_preset
from ropext.converter.text import duration_text

from .by_layer import LayerSearch
from .contributions import measure_contributions, passages
from .dpe import CONTRIBUTION_TEXTS, Candidate, contribution_lengths, expected_runs, find_candidate, group_borders
from .grids import settings
from .profile import Profile, Search
from .search import Factors, Scores, first_as_good, race
from .study import Questions, Study

__all__ = [
    "Setting",
    "Wish",
    "calibrate_dpe",
    "calibrate_grid",
    "calibrate_profile",
    "dpe_setting",
    "load",
    "selection_beside",
    "write_contributions",
]

Setting = dict[str, Any]
Hear = Callable[[str, int, int], None]
"""Called with what is being done, how many steps of it are done, and of how many (0: unknown)."""


@dataclass(frozen=True)
class Wish:
    """What is to be found, and how.

    Attributes:
        source: the base, a folder or a Hub id.
        output: the preset's file.
        facts: of the base.
        inv_freq: its frequencies, radians per token [pairs].
        trained: the window to begin with, tokens.
        target: the length to reach, tokens.
        asked: `lengths`, `samples`, `questions`, `purpose`, `seed`, `texts`, `resume`, `device`, `dtype`.
        hear: called as the work goes on.
    """

    source: str
    output: Path
    facts: ModelFacts
    inv_freq: list[float]
    trained: int
    target: int
    asked: Mapping[str, Any]
    hear: Hear

    @cached_property
    def model(self) -> SwitchableModel:
        """The base, loaded when it is first needed."""
        self.hear(f"loading {self.source}", 0, 0)
        return load(self.source, self.asked)

    def preset(self, method: str) -> Setting:
        """Return the keys of a preset that say what it is for."""
        return found_preset(self.output, self.facts, self.trained, self.target, method)


def load(source: str, asked: Mapping[str, Any]) -> SwitchableModel:
    """Load a base."""
    return SwitchableModel(hub.resolve(source).folder, device=asked["device"], dtype=asked["dtype"])


def _calibrate(
    wish: Wish, method: str, find: Callable[[Study], Setting], expected: int
) -> tuple[Study, Setting, Setting]:
    """Measure, and write the preset of the best setting.

    Args:
        wish: what is wanted.
        method: the method's name.
        find: returns the best setting.
        expected: about how many settings are tried at most.

    Returns:
        The study, the best setting and the preset.
    """
    asked = wish.asked
    lengths = asked["lengths"] or (wish.target,)
    text = load_text(asked["texts"])
    questions = Questions(text, lengths, asked["samples"], asked["questions"], asked["purpose"], asked["seed"])
    wanted = {"source": wish.source, "method": method, "target": wish.target, "dtype": asked["dtype"]}
    file, steps = wish.output.with_suffix(".jsonl"), (expected * asked["samples"] + 2) * len(lengths)
    with closing(Records(file, wanted | questions.describe(), resume=asked["resume"])) as records:
        heard, cost = list[float](), ""

        def tell(preset: Preset | None, result: Mapping[str, Any]) -> None:
            nonlocal cost
            heard.append(result["seconds"])
            if len(heard) == len(lengths):
                cost = f", at most about {steps} in {duration_text(steps * fmean(heard))}"
            wish.hear(f"{method}: texts read{cost}", len(records), max(steps, len(records) + 1))

        study = Study(wish.model, questions, records, wish.preset(method), wish.output.parent, tell)
        best = find(study)
        for sample in range(questions.samples):
            study.scores(best, sample)
        preset = {**wish.preset(method), **best, "calibration": study.describe(best)}
    write_preset(wish.output, preset)
    return study, best, preset


def calibrate_grid(wish: Wish, method: str, layers: int = 0) -> tuple[Study, Setting, Setting]:
    """Race the suggested settings of a method and others near them; see `_calibrate`.

    Args:
        wish: what is wanted.
        method: one of `registry.SEARCHED`.
        layers: groups of layers whose numbers are moved in the end; 0: all layers have the same.

    Raises:
        RopextError: no setting reaches the target.
    """
    tried = settings(method, wish.facts, wish.inv_freq, wish.trained, wish.target)
    if not tried:
        raise RopextError(f"{method}: no setting reaches {wish.target} tokens on {wish.source}; see `ropext suggest`")

    def find(study: Study) -> Setting:
        numbers = range(len(tried))
        standings = race(numbers, lambda n, sample: study.scores(tried[n], sample), wish.asked["samples"])
        best = tried[first_as_good(standings, numbers)]
        if not layers:
            return best
        search = layered(best)
        values = search.find(lambda own, sample: study.scores(search.with_values(own), sample), wish.asked["samples"])
        return search.with_values(values)

    def layered(setting: Setting) -> LayerSearch:
        grid = registry.method(method).grid
        keys = [key for key in (grid.around if grid else ()) if key in setting["parameters"]]
        fits = partial(_fits, wish, method)
        return LayerSearch(setting, keys, wish.facts.acted_layers, layers, fits)

    return _calibrate(wish, method, find, len(tried) + (layered(tried[0]).expected() if layers else 0))


def calibrate_profile(wish: Wish, method: str, window: int | None, groups: int) -> tuple[Study, Setting, Setting]:
    """Search a profile; see `_calibrate`.

    Args:
        wish: what is wanted.
        method: `profile` or `local_profile`.
        window: local window to begin with, tokens; None for `profile`.
        groups: of frequency pairs that are moved in the end; 0: a named shape stays.
    """

    def search(scores: Scores[Profile]) -> Search:
        return Search(
            wish.target / wish.trained,
            window,
            groups,
            scores,
            wish.asked["samples"],
            divisors,
            partial(valid, wish, method),
        )

    def divisors(profile: Profile) -> tuple[float, ...]:
        preset = make_preset({**wish.preset(method), **_setting(profile)})
        return tuple(round(1 / factor, 4) for factor in shaped(preset, wish.facts, wish.inv_freq)[1])

    def find(study: Study) -> Setting:
        return _setting(search(lambda profile, sample: study.scores(_setting(profile), sample)).find())

    return _calibrate(wish, method, find, search(lambda profile, sample: ()).expected())


def valid(wish: Wish, method: str, profile: Profile) -> bool:
    """Whether a profile makes a valid preset of a method."""
    return _fits(wish, method, _setting(profile))


def _fits(wish: Wish, method: str, setting: Mapping[str, Any]) -> bool:
    return not preset_faults({**wish.preset(method), **setting}, wish.output.parent)


def _setting(profile: Profile) -> Setting:
    return {"parameters": profile.parameters()}


# DPE


def calibrate_dpe(
    wish: Wish,
    search: str,
    groups: int,
    windows: Sequence[int],
    selection: Mapping[str, Any],
    seen: Callable[[Study, Setting], None],
) -> tuple[Study, Setting, Setting]:
    """Search DPE's scale factors and local window; see `_calibrate`.

    Args:
        wish: what is wanted.
        search: `climb` or `published`.
        groups: of frequency pairs.
        windows: local windows to begin with, tokens.
        selection: parameters that choose key dimensions.
        seen: called with the study and the best setting before the preset is written.
    """

    def find(study: Study) -> Setting:
        def score(candidate: Candidate, sample: int) -> list[float]:
            return study.scores(setting(*candidate), sample)

        samples = wish.asked["samples"]
        best = setting(*find_candidate(search, groups, wish.trained, wish.target, windows, score, samples))
        seen(study, best)
        return best

    def setting(factors: Factors, window: int) -> Setting:
        return dpe_setting(wish, factors, window, selection)

    return _calibrate(wish, "dpe", find, expected_runs(search, groups, wish.trained, wish.target, len(windows)))


def dpe_setting(wish: Wish, factors: Factors, window: int, selection: Mapping[str, Any]) -> Setting:
    """Return DPE's setting of some factors, one for each group, and a local window."""
    borders = group_borders(wish.facts.rotary_dim // 2, len(factors))
    parameters = {"local_window": window, "dimension_groups": borders, **selection, "scale_factors": list(factors)}
    return {"parameters": parameters}


def write_contributions(
    model: SwitchableModel, file: Path, asked: Mapping[str, Any], hear: Hear, *, own: bool = True
) -> None:
    """Measure what each frequency pair contributes, and write it into a safetensors file.

    Args:
        model: the base.
        file: where; it is there only when it is complete.
        asked: `lengths`, `samples`, `seed` and `texts`.
        hear: called as the work goes on.
        own: whether lengths and samples are as asked, and not the usual ones.
    """
    from safetensors.torch import save_file

    lengths = (asked["lengths"] if own else ()) or contribution_lengths(model.facts.trained_length)
    samples = asked["samples"] if own else CONTRIBUTION_TEXTS
    texts = passages(model.tokenizer, load_text(asked["texts"]).half(0), lengths, samples, asked["seed"])

    def counted() -> Iterator[Any]:
        for done, text in enumerate(texts):
            hear("contributions: texts read", done, len(lengths) * samples)
            yield text

    scores = measure_contributions(model, counted())
    with beside(file) as whole:
        save_file({"scores": scores}, whole)


def selection_beside(wish: Wish, top_k: int, scores: Path | None) -> Setting:
    """Return the parameters that choose key dimensions by a file beside the output, measured where none is given.

    Raises:
        UsageError: the file lies elsewhere, or is there already and is not to be gone on with.
    """
    beside = scores or wish.output.with_suffix(".safetensors")
    if beside.parent.resolve() != wish.output.parent.resolve():
        raise UsageError(f"--scores {scores}: put it beside {wish.output}, where the preset will look for it")
    if scores is None and not (wish.asked["resume"] and beside.exists()):
        if beside.exists():
            raise UsageError(f"{beside} exists; remove it or name another")
        write_contributions(wish.model, beside, wish.asked, wish.hear, own=False)
    return {"top_k": top_k, "dimension_scores": beside.name}
