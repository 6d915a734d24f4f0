"""`ropext report`: what measurements come to, as tables, pictures, a page, or a part of a model card."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ropext.converter.errors import UsageError
from ropext.converter.files.replace import replace_file
from ropext.converter.text import did_you_mean

from .completion import complete_presets
from .live import live
from .options import epilog
from .output import say
from .screen import is_terminal
from .tables import shown

if TYPE_CHECKING:
    from ropext.converter.evaluation.report.drawing import Picture
    from ropext.converter.evaluation.report.pictures import Kind, Measure
    from ropext.converter.evaluation.report.results import Experiment

__all__ = ["report"]

_FORMATS = ("md", "csv", "html", "json")
_KINDS = ("heatmap", "score", "perplexity", "attention")
_FILE = click.Path(dir_okay=False, path_type=Path)


@click.command(
    short_help="Make tables and pictures of results.",
    epilog=epilog("report results", "report results --output report.html --plot results.png", page="docs/reporting.md"),
)
@click.argument("results", metavar="RESULTS...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--format",
    "-f",
    "wanted",
    type=click.Choice(_FORMATS),
    show_default="by --output's suffix, or tables",
    help="Format of the report.",
)
@click.option("--json", "wanted", flag_value="json", help="Print JSON, as docs/json.md describes it.")
@click.option("--output", "-o", type=_FILE, help="Write the report to this file instead of printing it.")
@click.option("--plot", type=_FILE, metavar="FILE", help="Draw the results into a .png, .svg or .pdf file.")
@click.option(
    "--picture",
    "kinds",
    multiple=True,
    type=click.Choice(_KINDS),
    show_default="all",
    help="Draw only this kind. May be given several times.",
)
@click.option(
    "--measure",
    type=click.Choice(("exact", "log-probability")),
    default="exact",
    show_default=True,
    help="Measure that pictures of passkeys and needles show.",
)
@click.option(
    "--preset",
    "-p",
    "presets",
    multiple=True,
    metavar="NAME",
    shell_complete=complete_presets,
    help="Report only the base and this preset. May be given several times.",
)
@click.option(
    "--card",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    metavar="DIR",
    help="Put table and picture into the model card of this converted folder.",
)
@click.option(
    "--submit",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Prepare a folder for docs/results: raw lines, an index with digests, and their page.",
)
def report(
    results: tuple[Path, ...],
    wanted: str | None,
    output: Path | None,
    plot: Path | None,
    kinds: tuple[Kind, ...],
    measure: Measure,
    presets: tuple[str, ...],
    card: Path | None,
    submit: Path | None,
) -> None:
    """Report on RESULTS: files that `ropext eval` wrote, or folders of such.

    The report has tables of preset by length, with 95 % intervals and with differences to the base on the same prompts,
    and the commands that measured them. --card prints nothing: it renews its own section of DIR's README.md.
    """
    from ropext.converter.evaluation.report.drawing import check_file
    from ropext.converter.evaluation.report.pictures import KINDS, pictures
    from ropext.converter.evaluation.report.results import read_results

    form = _form(wanted, output)
    if plot:
        check_file(plot)
    experiments, left_out = read_results(results)
    for line in left_out:
        say(line, err=True)
    _refuse_inputs(results, output, plot)
    if presets:
        experiments = _chosen(experiments, presets)
    kinds = kinds or KINDS
    drawn = pictures(experiments, kinds, measure)
    if plot:
        _plot([picture for _, picture in drawn], plot)
    if card:
        _put_into_card(card, experiments, kinds, measure)
    if submit:
        _submit(results, submit)
    if output:
        replace_file(output, _written(form, experiments, drawn).encode())
        say(f"wrote {output}", err=True)
    elif card or submit:
        return
    elif not wanted and is_terminal():
        click.echo(shown(experiments), nl=False)
    else:
        say(_written(form, experiments, drawn), end="")


def _plot(drawn: Sequence[Picture], file: Path) -> None:
    from ropext.converter.evaluation.report.drawing import save

    if not drawn:
        raise UsageError(f"--plot {file}: these results have no such picture")
    with live(f"drawing {file}"):
        save(drawn, file)
    say(f"wrote {file}", err=True)


def _put_into_card(card: Path, experiments: Sequence[Experiment], kinds: Sequence[Kind], measure: Measure) -> None:
    from ropext.converter.evaluation.report.card_section import update_card

    with live(f"writing results into {card}"):
        written = update_card(card, experiments, kinds, measure)
    for file in written:
        say(f"wrote {file}", err=True)


def _submit(results: Sequence[Path], folder: Path) -> None:
    from ropext.converter.evaluation.report.submission import write_submission

    for file in write_submission(results, folder):
        say(f"wrote {file}", err=True)


def _form(form: str | None, output: Path | None) -> str:
    """The format that is asked for, by its name or by a suffix."""
    if form:
        return form
    suffix = output.suffix.lower()[1:] if output else "md"
    if suffix not in _FORMATS:
        raise UsageError(f"--output {output}: say by --format which of {', '.join(_FORMATS)} it is")
    return suffix


def _refuse_inputs(results: Sequence[Path], *outputs: Path | None) -> None:
    """Refuse to write over what was measured."""
    for output in outputs:
        if output and (output.suffix == ".jsonl" or output.resolve() in {each.resolve() for each in results}):
            raise UsageError(f"{output}: is, or is named as, a file of results; name another")


def _chosen(experiments: Sequence[Experiment], presets: Sequence[str]) -> list[Experiment]:
    """The experiments that have one of some presets, of these and the base alone."""
    measured = list(dict.fromkeys(preset for each in experiments for preset in each.presets))
    for preset in presets:
        if preset not in measured:
            near = did_you_mean(preset, measured) or ";"
            raise UsageError(f"--preset {preset}: was not measured{near} there are {', '.join(measured)}")
    return [each.only(presets) for each in experiments if set(presets) & set(each.presets)]


def _written(form: str, experiments: Sequence[Experiment], drawn: Sequence[tuple[Experiment, Picture]]) -> str:
    if form == "html":
        from ropext.converter.evaluation.report.page import as_html

        return as_html(experiments, drawn)
    from ropext.converter.evaluation.report.tables import as_csv, as_json, as_markdown

    writers: dict[str, Callable[[Sequence[Experiment]], str]] = {"md": as_markdown, "csv": as_csv, "json": as_json}
    return writers[form](experiments)
