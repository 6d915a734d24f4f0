"""`ropext calibrate`: a method's numbers for a model and a length, found by measuring the model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ropext.converter.calibration.dpe import (
    CONTRIBUTION_TEXTS,
    Candidate,
    contribution_lengths,
    expected_runs,
    find_candidate,
    group_borders,
)
from ropext.converter.calibration.grids import SEARCHED, settings
from ropext.converter.calibration.pictures import scale_picture
from ropext.converter.calibration.report import comparison, disturbances, group_curves
from ropext.converter.calibration.search import Factors, first_as_good, race
from ropext.converter.checkpoint.wanted import want
from ropext.converter.errors import RopextError, UsageError
from ropext.converter.evaluation.report.drawing import check_file, save
from ropext.converter.preset import Preset
from ropext.converter.presets.load import found_preset, write_preset

from .options import DEVICE, SEED, TARGET, TEXT, Length, Lengths, options

if TYPE_CHECKING:
    from ropext.converter.calibration.study import Study
    from ropext.converter.checkpoint.facts import ModelFacts
    from ropext.converter.evaluation.run.transformers_model import SwitchableModel

__all__ = ["calibrate"]

_FILE = click.Path(dir_okay=False, path_type=Path)
Setting = dict[str, Any]


@click.group(short_help="Find a method's numbers for a model by measuring it.")
def calibrate() -> None:
    """Find a method's parameters for a model and a length, and write them as a preset.

    Numbers are hidden in prose and asked for: the parameters under which the model knows the right answers best win.
    Every measurement is written down beside the preset as it comes; --resume goes on after an interruption.
    """


_WISH = options(
    click.argument("source"),
    TARGET,
    click.option("--output", "-o", type=_FILE, required=True, help="The preset to write."),
)
_QUESTIONS = options(
    click.option("--lengths", "-l", type=Lengths(), default=(), help="Of the prompts, such as 12k,16k [default: N]."),
    click.option("--samples", "-n", type=click.IntRange(1), default=4, show_default=True, help="Of each, at most."),
    click.option("--needles", type=click.IntRange(1, 100), default=8, show_default=True, help="Questions of each."),
    click.option("--resume", is_flag=True, help="Go on with the measurements beside the output."),
    TEXT,
    SEED,
    DEVICE,
)


@dataclass(frozen=True)
class _Wish:
    """What is asked for, checked."""

    source: str
    output: Path
    facts: ModelFacts
    inv_freq: list[float]
    trained: int
    target: int
    asked: Mapping[str, Any]

    @property
    def records(self) -> Path:
        return self.output.with_suffix(".jsonl")

    @cached_property
    def model(self) -> SwitchableModel:
        return _load(self.source, self.asked)

    def preset(self, method: str) -> Setting:
        return found_preset(self.output, self.facts, self.trained, self.target, method)


def _wish(
    source: str, output: Path, target: int, initial_window: int | None, asked: Mapping[str, Any] | None = None
) -> _Wish:
    if output.suffix not in (".yaml", ".yml"):
        raise UsageError(f"--output {output}: a preset's file ends in .yaml")
    _require_new(output)
    found = want(source, target, initial_window)
    for note in found.notes:
        click.echo(f"note: {note}", err=True)
    return _Wish(source, output, found.facts, found.inv_freq, found.trained.tokens, target, asked or {})


def _require_new(file: Path) -> None:
    if file.exists():
        raise UsageError(f"{file} exists; remove it or name another")


def _calibrate(wish: _Wish, method: str, find: Callable[[Study], Setting], expected: int) -> None:
    """Measure, write the preset of the best setting and show how all compare."""
    from tqdm import tqdm

    from ropext.converter.calibration.study import Questions, Study
    from ropext.converter.evaluation.run.records import Records
    from ropext.converter.evaluation.tasks.texts import load_text

    asked = wish.asked
    lengths = asked["lengths"] or (wish.target,)
    text = load_text(asked["texts"]).half(0)
    questions = Questions(text, lengths, asked["samples"], asked["needles"], asked["seed"])
    wanted = {"source": wish.source, "method": method, "target": wish.target, "dtype": asked["dtype"]}
    preset = wish.preset(method)
    with closing(Records(wish.records, wanted | questions.describe(), resume=asked["resume"])) as records:
        model = wish.model
        with tqdm(total=expected * len(lengths), unit="text", smoothing=0.1) as bar:

            def tell(preset: Preset | None, result: Mapping[str, Any]) -> None:
                bar.total = max(bar.total or 0, bar.n + 1)
                bar.update()

            study = Study(model, questions, records, preset, wish.output.parent, tell)
            best = find(study)
            for sample in range(questions.samples):
                study.scores(best, sample)
            bar.total = bar.n
            bar.refresh()
        click.echo(comparison(study, best))
        _write(wish, {**preset, **best, "calibration": study.describe(best)})


def _write(wish: _Wish, preset: Setting) -> None:
    write_preset(wish.output, preset)
    click.echo(f"wrote {wish.output}; convert with: ropext convert {wish.source} --preset {wish.output}", err=True)


def _load(source: str, asked: Mapping[str, Any]) -> SwitchableModel:
    from ropext.converter.evaluation.run.transformers_model import SwitchableModel
    from ropext.converter.hub import client as hub

    return SwitchableModel(hub.resolve(source).folder, device=asked["device"], dtype=asked["dtype"])


# One method


@calibrate.command(short_help="DPE: scale factors and, with --top-k, key dimensions.")
@_WISH
@click.option(
    "--local-window",
    type=Length(),
    help="W [default: searched, from 1024 and 512, or less for a shorter initial window].",
)
@click.option("--groups", type=click.IntRange(1), default=8, show_default=True, help="Groups of frequency pairs.")
@click.option(
    "--search",
    type=click.Choice(["climb", "published"]),
    default="climb",
    show_default=True,
    help="climb: from the best published or uniform factors, first many groups together; published: each group alone, "
    "the others at 2 * target / initial window.",
)
@click.option("--scale-factors", metavar="S,S,...", help="Take these, from high to low frequency; search none.")
@click.option("--top-k", type=click.IntRange(1), help="Scale only the K pairs of each head that contribute most.")
@click.option("--plot", type=_FILE, metavar="PNG|SVG", help="Draw the score against the scale of each group.")
@click.option("--scores", type=_FILE, help="Contributions that `calibrate contributions` wrote [default: measure].")
@_QUESTIONS
def dpe(
    source: str,
    target: int,
    initial_window: int | None,
    output: Path,
    local_window: int | None,
    groups: int,
    search: str,
    scale_factors: str | None,
    top_k: int | None,
    plot: Path | None,
    scores: Path | None,
    **asked: Any,
) -> None:
    """Find DPE's scale factors and local window by retrieval, and each head's key dimensions by their contribution.

    The publication's steps (arXiv 2504.18857, section 3), in a row or each by itself: contributions alone by `calibrate
    contributions`, factors alone without --top-k, the selection alone with --scale-factors.
    """
    wish = _wish(source, output, target, initial_window, asked)
    if plot:
        check_file(plot)
    given = _factors(scale_factors)
    groups = len(given) if given else groups
    pairs = wish.facts.rotary_dim // 2
    if groups > pairs:
        raise UsageError(f"{groups} groups: {source} has {pairs} frequency pairs")
    widest = min(1024, max(2, wish.trained // 4))
    windows = [local_window] if local_window else [widest, widest // 2]
    parameters: Setting = {"dimension_groups": group_borders(pairs, groups)}
    if top_k:
        parameters |= {"top_k": top_k, "dimension_scores": _scores_beside(wish, scores)}

    def setting(factors: Factors, window: int) -> Setting:
        return {"parameters": {"local_window": window, **parameters, "scale_factors": list(factors)}}

    if given:
        _write(wish, {**wish.preset("dpe"), **setting(given, windows[0])})
        return

    def find(study: Study) -> Setting:
        def score(candidate: Candidate, sample: int) -> list[float]:
            return study.scores(setting(*candidate), sample)

        best = setting(*find_candidate(search, groups, wish.trained, target, windows, score, asked["samples"]))
        if plot:
            save([scale_picture(group_curves(study, best))], plot)
        return best

    _calibrate(wish, "dpe", find, expected_runs(search, groups, wish.trained, target, len(windows)))


def _factors(text: str | None) -> Factors:
    try:
        return tuple(int(each) for each in text.replace(",", " ").split()) if text else ()
    except ValueError:
        raise UsageError(f"--scale-factors {text}: write whole numbers, such as 2,8,2,8") from None


def _scores_beside(wish: _Wish, scores: Path | None) -> str:
    """The name of a file of contributions beside the output; measured, where none is given."""
    beside = scores or wish.output.with_suffix(".safetensors")
    if beside.parent.resolve() != wish.output.parent.resolve():
        raise UsageError(f"--scores {scores}: put it beside {wish.output}, where the preset will look for it")
    if scores is None and not (wish.asked["resume"] and beside.exists()):
        _require_new(beside)
        _measure_contributions(wish.model, contribution_lengths(wish.trained), CONTRIBUTION_TEXTS, beside, wish.asked)
    return beside.name


@calibrate.command(short_help="What each frequency pair contributes, for DPE's --top-k.")
@click.argument("source")
@click.option("--lengths", "-l", type=Lengths(), default=(), help="[default: the trained one, its half, ..., 2048]")
@click.option(
    "--samples", "-n", type=click.IntRange(1), default=CONTRIBUTION_TEXTS, show_default=True, help="Of each length."
)
@click.option("--output", "-o", type=_FILE, required=True, help="The safetensors file to write.")
@TEXT
@SEED
@DEVICE
def contributions(source: str, output: Path, **asked: Any) -> None:
    """Measure the contribution of every frequency pair to attention, for each layer and query head.

    The mean over tokens of |q| |k| in a pair (arXiv 2504.18857, section 3.1), averaged over texts and lengths. The
    file's tensor `scores` [layers, query heads, pairs] is what a preset's dimension_scores names.
    """
    _require_new(output)
    model = _load(source, asked)
    lengths = asked["lengths"] or contribution_lengths(model.facts.trained_length)
    _measure_contributions(model, lengths, asked["samples"], output, asked)
    click.echo(f"wrote {output}", err=True)


def _measure_contributions(
    model: SwitchableModel, lengths: Sequence[int], samples: int, file: Path, asked: Mapping[str, Any]
) -> None:
    from safetensors.torch import save_file
    from tqdm import tqdm

    from ropext.converter.calibration.contributions import measure_contributions, passages
    from ropext.converter.evaluation.tasks.texts import load_text
    from ropext.converter.files.replace import beside

    texts = passages(model.tokenizer, load_text(asked["texts"]).half(0), lengths, samples, asked["seed"])
    scores = measure_contributions(model, tqdm(texts, unit="text", total=len(lengths) * samples))
    with beside(file) as whole:
        save_file({"scores": scores}, whole)


@calibrate.command(short_help="DPRoPE: candidates and threshold; nothing is measured.")
@_WISH
@click.option("--candidates", help="Comma-separated: extrapolation,interpolation,ntk,yarn [default: the first two].")
@click.option("--threshold", type=float, help="How much closer another candidate than the first has to be.")
@click.option("--interpolated", type=int, metavar="N", help="The threshold at which N dimensions leave the first.")
def dprope(
    source: str,
    target: int,
    initial_window: int | None,
    output: Path,
    candidates: str | None,
    threshold: float | None,
    interpolated: int | None,
) -> None:
    """Choose DPRoPE's candidates and threshold, and show how far they disturb rotary angles (arXiv 2410.01490).

    The paper tuned its threshold to 80 of 128 dimensions interpolated for twice the length, and to 64 for four times.
    """
    from ropext.converter.methods.dprope import solve, threshold_for

    wish = _wish(source, output, target, initial_window)
    if threshold is not None and interpolated is not None:
        raise UsageError("--threshold and --interpolated: give one of them")
    names = [each.strip() for each in (candidates or "extrapolation,interpolation").split(",")]
    try:
        free = solve(wish.inv_freq, wish.trained, target, candidates=names)
        if interpolated is not None:
            if interpolated % 2:
                raise ValueError(f"{interpolated} dimensions: two make a pair; give an even number")
            threshold = threshold_for(free, interpolated // 2)
        solved = solve(wish.inv_freq, wish.trained, target, candidates=names, threshold=threshold or 0.0)
    except ValueError as error:
        raise UsageError(str(error)) from None
    parameters: Setting = {"candidates": names} | ({"threshold": threshold} if threshold else {})
    click.echo(disturbances(solved, wish.inv_freq, wish.trained, target))
    _write(wish, {**wish.preset("dprope"), "parameters": parameters, "references": ["DPRoPE, arXiv 2410.01490"]})


def _grid_command(method: str) -> click.Command:
    @_WISH
    @_QUESTIONS
    def command(source: str, target: int, initial_window: int | None, output: Path, **asked: Any) -> None:
        wish = _wish(source, output, target, initial_window, asked)
        tried = settings(method, wish.facts, wish.inv_freq, wish.trained, target)
        if not tried:
            raise RopextError(f"{method}: no setting reaches {target} tokens on {source}; see `ropext suggest`")

        def find(study: Study) -> Setting:
            numbers = range(len(tried))
            standings = race(numbers, lambda n, sample: study.scores(tried[n], sample), asked["samples"])
            return tried[first_as_good(standings, numbers)]

        _calibrate(wish, method, find, len(tried))

    help_text = (
        f"Race settings of {method}: those of `ropext suggest`, and others near them. The first of those within one "
        "standard error of the best is taken."
    )
    return click.command(method, short_help="Settings near the suggested ones.", help=help_text)(command)


for _method in SEARCHED:
    calibrate.add_command(_grid_command(_method))
