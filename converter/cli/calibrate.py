"""`ropext calibrate`: a method's parameters for a model and a length, found by measuring the model."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ropext.converter.calibration.dpe import CONTRIBUTION_TEXTS
from ropext.converter.calibration.pictures import scale_picture
from ropext.converter.calibration.report import comparison, disturbances, elsewhere, group_curves
from ropext.converter.calibration.search import Factors
from ropext.converter.checkpoint.wanted import Wanted, want
from ropext.converter.errors import UsageError
from ropext.converter.evaluation.report.drawing import check_file, save
from ropext.converter.evaluation.tasks.mixed import PURPOSES
from ropext.converter.methods import registry
from ropext.converter.methods.registry import SEARCHED
from ropext.converter.methods.schemas import schema_for
from ropext.converter.presets.load import found_preset, write_preset

from .live import live
from .options import DEVICE, SEED, TARGET, TEXT, Length, Lengths, epilog, options
from .output import say

if TYPE_CHECKING:
    from ropext.converter.calibration.run import Setting, Wish
    from ropext.converter.calibration.study import Study

__all__ = ["calibrate"]

_FILE = click.Path(dir_okay=False, path_type=Path)
_PAGE = "docs/calibrating.md"


def _example(command: str) -> str:
    return epilog(f"calibrate {command}", page=_PAGE)


@click.group(
    short_help="Find a method's parameters for a model by measuring it.",
    epilog=_example("self_extend Qwen/Qwen3-0.6B --target 128k --lengths 64k --output qwen3-self_extend.yaml"),
)
def calibrate() -> None:
    """Find a method's parameters for a model and a length, and write them as a preset.

    Numbers are hidden in several ways and asked for, and prose is read: the parameters under which the model knows best
    what comes win.
    Every measurement is written down beside the preset as it comes; --resume goes on after an interruption.
    """


_WISH = options(
    click.argument("source"),
    TARGET,
    click.option("--output", "-o", type=_FILE, required=True, help="File of the preset to write."),
)
_QUESTIONS = options(
    click.option(
        "--lengths",
        "-l",
        type=Lengths(),
        default=(),
        show_default="the target",
        help="Prompt lengths, e.g. 12k,16k.",
    ),
    click.option(
        "--samples", "-n", type=click.IntRange(1), default=4, show_default=True, help="Most samples per length."
    ),
    click.option(
        "--questions",
        type=click.IntRange(1, 100),
        default=8,
        show_default=True,
        help="Questions of each kind about each text.",
    ),
    click.option(
        "--for",
        "purpose",
        type=click.Choice(list(PURPOSES)),
        default="balanced",
        show_default=True,
        help="What the model is for: what each kind of question weighs.",
    ),
    click.option("--resume", is_flag=True, help="Go on with the measurements beside the output."),
    TEXT,
    SEED,
    DEVICE,
)


def _check_output(output: Path) -> None:
    if output.suffix not in (".yaml", ".yml"):
        raise UsageError(f"--output {output}: a preset's file ends in .yaml")
    _require_new(output)


def _require_new(file: Path) -> None:
    if file.exists():
        raise UsageError(f"{file} exists; remove it or name another")


def _known(source: str, target: int, initial_window: int | None) -> Wanted:
    """Read the base's configuration, and pass on what is doubtful about it."""
    found = want(source, target, initial_window)
    for note in found.notes:
        say(f"note: {note}", err=True)
    return found


@contextmanager
def _wish(
    source: str, output: Path, target: int, initial_window: int | None, asked: Mapping[str, Any]
) -> Iterator[Wish]:
    """Check what is wanted, and show how far it is as long as the block runs."""
    _check_output(output)
    known = _known(source, target, initial_window)
    longest = max(asked["lengths"], default=target)
    if longest < target:
        say(f"note: what is best at {longest} tokens need not be best at the target of {target}", err=True)
    with live(f"{source}: starting") as bar:
        from ropext.converter.calibration.run import Wish

        yield Wish(source, output, known.facts, known.inv_freq, known.trained.tokens, target, asked, bar.hear)


def _say_found(study: Study, best: Setting, preset: Setting) -> None:
    say(f"{comparison(study, best)}\n\n{elsewhere(preset['calibration'])}")


def _wrote(source: str, output: Path) -> None:
    say(f"wrote {output}; convert with: ropext convert {source} --preset {output}", err=True)


# One method


@calibrate.command(
    short_help="DPE: scale factors and, with --top-k, key dimensions.",
    epilog=_example("dpe SmolLM2-135M-Instruct --target 16k --lengths 10k --samples 2 --output my-dpe.yaml"),
)
@_WISH
@click.option(
    "--local-window",
    type=Length(),
    show_default="searched, from 1024 and 512",
    help="Distance W up to which nothing changes.",
)
@click.option(
    "--groups", type=click.IntRange(1), default=8, show_default=True, help="Number of groups of frequency pairs."
)
@click.option(
    "--search",
    type=click.Choice(["climb", "published"]),
    default="climb",
    show_default=True,
    help="Kind of search. climb: from the best published or uniform factors, first many groups together. published: "
    "each group alone, the others at 2 * target / initial window.",
)
@click.option("--scale-factors", metavar="S,S,...", help="Take these, from high to low frequency, and search none.")
@click.option("--top-k", type=click.IntRange(1), help="Scale only the K pairs of each head that contribute most.")
@click.option("--plot", type=_FILE, metavar="PNG|SVG", help="Draw the score against the scale of each group.")
@click.option(
    "--scores",
    type=_FILE,
    show_default="measured",
    help="File of contributions that `calibrate contributions` wrote.",
)
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

    These are the publication's steps (arXiv 2504.18857, section 3). Each can be taken alone: contributions by
    `calibrate contributions`, factors without --top-k, the selection with --scale-factors.
    """
    if plot:
        check_file(plot)

    def draw(study: Study, best: Setting) -> None:
        if plot:
            save([scale_picture(group_curves(study, best))], plot)

    given = _factors(scale_factors)
    found: tuple[Study, Setting, Setting] | None = None
    with _wish(source, output, target, initial_window, asked) as wish:
        from ropext.converter.calibration.run import calibrate_dpe, dpe_setting, selection_beside

        groups = len(given) if given else groups
        if groups > (pairs := wish.facts.rotary_dim // 2):
            raise UsageError(f"{groups} groups: {source} has {pairs} frequency pairs")
        widest = min(1024, max(2, wish.trained // 4))
        windows = [local_window] if local_window else [widest, widest // 2]
        selection = selection_beside(wish, top_k, scores) if top_k else {}
        if given:
            write_preset(output, {**wish.preset("dpe"), **dpe_setting(wish, given, windows[0], selection)})
        else:
            found = calibrate_dpe(wish, search, groups, windows, selection, draw)
    if found:
        _say_found(*found)
    _wrote(source, output)


def _factors(text: str | None) -> Factors:
    try:
        return tuple(int(each) for each in text.replace(",", " ").split()) if text else ()
    except ValueError:
        raise UsageError(f"--scale-factors {text}: write whole numbers, such as 2,8,2,8") from None


@calibrate.command(
    short_help="What each frequency pair contributes, for DPE's --top-k.",
    epilog=_example("contributions SmolLM2-135M-Instruct --output scores.safetensors"),
)
@click.argument("source")
@click.option(
    "--lengths",
    "-l",
    type=Lengths(),
    default=(),
    show_default="the trained one, its half, ..., 2048",
    help="Prompt lengths, e.g. 4k,8k.",
)
@click.option(
    "--samples", "-n", type=click.IntRange(1), default=CONTRIBUTION_TEXTS, show_default=True, help="Prompts per length."
)
@click.option("--output", "-o", type=_FILE, required=True, help="Safetensors file to write.")
@TEXT
@SEED
@DEVICE
def contributions(source: str, output: Path, **asked: Any) -> None:
    """Measure the contribution of every frequency pair to attention, for each layer and query head.

    The mean over tokens of |q| |k| in a pair (arXiv 2504.18857, section 3.1), averaged over texts and lengths. The
    file's tensor `scores` [layers, query heads, pairs] is what a preset's dimension_scores names.
    """
    _require_new(output)
    with live(f"{source}: loading") as bar:
        from ropext.converter.calibration.run import load, write_contributions

        write_contributions(load(source, asked), output, asked, bar.hear)
    say(f"wrote {output}", err=True)


@calibrate.command(
    short_help="DPRoPE: candidates and threshold; nothing is measured.",
    epilog=_example("dprope Qwen/Qwen3-0.6B --target 128k --output my-dprope.yaml"),
)
@_WISH
@click.option(
    "--candidates",
    default="extrapolation,interpolation",
    show_default=True,
    help="Candidate frequencies, separated by commas: extrapolation, interpolation, ntk, yarn.",
)
@click.option("--threshold", type=float, help="Least advantage of another candidate over the first.")
@click.option(
    "--interpolated", type=int, metavar="N", help="Choose the threshold at which N dimensions leave the first."
)
def dprope(
    source: str,
    target: int,
    initial_window: int | None,
    output: Path,
    candidates: str,
    threshold: float | None,
    interpolated: int | None,
) -> None:
    """Choose DPRoPE's candidates and threshold, and show how far they disturb rotary angles (arXiv 2410.01490).

    The paper tuned its threshold to 80 of 128 dimensions interpolated for twice the length, and to 64 for four times.
    """
    from ropext.converter.calibration.dprope import choose

    _check_output(output)
    if threshold is not None and interpolated is not None:
        raise UsageError("--threshold and --interpolated: give one of them")
    known = _known(source, target, initial_window)
    names = [each.strip() for each in candidates.split(",")]
    solved, parameters = choose(known.inv_freq, known.trained.tokens, target, names, threshold, interpolated)
    say(disturbances(solved, known.inv_freq, known.trained.tokens, target))
    found = {"parameters": parameters, "references": ["DPRoPE, arXiv 2410.01490"]}
    write_preset(output, {**found_preset(output, known.facts, known.trained.tokens, target, "dprope"), **found})
    _wrote(source, output)


def _named(method: str, command: Callable[..., None], short: str, help_text: str) -> click.Command:
    ending = _example(f"{method} SmolLM2-135M-Instruct --target 10k --lengths 10k --output my-{method}.yaml")
    return click.command(method, short_help=short, help=help_text, epilog=ending)(command)


def _profile_command(method: str, window: int | None) -> click.Command:
    @_WISH
    @click.option(
        "--groups",
        type=click.IntRange(0),
        default=8,
        show_default=True,
        help="Number of groups of frequency pairs that are moved in the end. 0 keeps a named shape.",
    )
    @_QUESTIONS
    def command(source: str, target: int, initial_window: int | None, output: Path, groups: int, **asked: Any) -> None:
        with _wish(source, output, target, initial_window, asked) as wish:
            from ropext.converter.calibration.run import calibrate_profile

            if groups > (pairs := wish.facts.rotary_dim // 2):
                raise UsageError(f"{groups} groups: {source} has {pairs} frequency pairs")
            fitting = window and min(window, max(2, wish.trained // 4))
            found = calibrate_profile(wish, method, fitting, groups)
        _say_found(*found)
        _wrote(source, output)

    help_text = (
        f"Find a shape for {method}: the named shapes first, then their numbers, each a step up or down, then the "
        "divisors of groups of frequency pairs."
    )
    return _named(method, command, "Shape, its numbers, divisors.", help_text)


calibrate.add_command(_profile_command("profile", None))
calibrate.add_command(_profile_command("local_profile", 512))


def _grid_command(method: str) -> click.Command:
    grid = registry.method(method).grid
    by_layer = "by_layer" in schema_for(method)["properties"] and grid is not None and grid.around

    @_WISH
    @click.option(
        "--layers",
        type=click.IntRange(2),
        metavar="N",
        hidden=not by_layer,
        show_default="all layers have the same numbers",
        help="Move the numbers of N groups of layers in the end.",
    )
    @_QUESTIONS
    def command(
        source: str,
        target: int,
        initial_window: int | None,
        output: Path,
        layers: int | None,
        **asked: Any,
    ) -> None:
        with _wish(source, output, target, initial_window, asked) as wish:
            from ropext.converter.calibration.run import calibrate_grid

            if layers and not by_layer:
                raise UsageError(f"--layers: {method} has no numbers that could differ by layer")
            if (layers or 0) > (most := len(wish.facts.acted_layers)):
                raise UsageError(f"--layers {layers}: a method acts on {most} layers of {source}")
            found = calibrate_grid(wish, method, layers or 0)
        _say_found(*found)
        _wrote(source, output)

    help_text = (
        f"Race settings of {method}: those of `ropext suggest`, and others near them. The first of those within one "
        "standard error of the best is taken."
    )
    tried = ", ".join(grid.around) if grid and grid.around else "regions"
    return _named(method, command, f"Suggested {tried}, and others near.", help_text)


for _method in SEARCHED:
    calibrate.add_command(_grid_command(_method))
