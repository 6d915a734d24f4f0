"""`ropext verify`, `ropext upgrade` and `ropext card`: a converted checkpoint, later."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import click

from ropext.converter import __version__
from ropext.converter.converted.upgrade import Upgraded, rewrite_card, upgrade
from ropext.converter.errors import RopextError, UsageError
from ropext.converter.hub import client as hub
from ropext.converter.text import in_markdown, printable
from ropext.converter.verify.checks import Report, verify
from ropext.converter.verify.report import EXIT_STATUS

from .progress import progress_line
from .push import quiet_client

__all__ = ["card_command", "upgrade_command", "verify_command"]

_FOLDER = click.Path(path_type=Path)


@click.command("verify", short_help="Check a converted folder or repository.")
@click.argument("source", metavar="DIR|REPO")
@click.option("--revision", metavar="REV", help="Branch, tag or commit of a Hub id.")
@click.option("--quick", is_flag=True, help="Read no weights but their headers, and run no model.")
@click.option("--forward", "whole", is_flag=True, help="Run the whole model of DIR, and not two layers of it.")
@click.option("--json", "as_json", is_flag=True, help="Report as JSON on stdout.")
@click.option("--quiet", "-q", is_flag=True, help="Report by the exit status only.")
def verify_command(source: str, revision: str | None, quick: bool, whole: bool, as_json: bool, quiet: bool) -> int:
    """Check that DIR or REPO is what it says.

    The exit status is 0 only if everything was checked and is good; 1 if something is bad; 3 if nothing is bad and
    something was not checked, as with --quick.

    Files are held against the digests in ropext.json, code against this ropext's, config.json against the recorded
    preset, headers of weights against config.json, and a model of two of its layers against dense attention and
    against the base. The folder's code is never executed. Of a REPO no weights are downloaded: the Hub knows their
    digests.
    """
    with progress_line(quiet_client(quiet=quiet), "reading") as reading:
        report = verify(source, revision, quick=quick, whole=whole, reading=reading)
    if as_json:
        click.echo(json.dumps(report.to_json(), indent=2, ensure_ascii=False))
    elif not quiet:
        click.echo("\n".join(_lines(report)))
    return EXIT_STATUS[report.verdict]


@click.command("upgrade", short_help="Bring a converted folder up to date.")
@click.argument("folder", metavar="DIR", type=_FOLDER)
@click.option("--json", "as_json", is_flag=True, help="Report as JSON on stdout.")
@click.option("--quiet", "-q", is_flag=True, help="Report errors only.")
def upgrade_command(folder: Path, as_json: bool, quiet: bool) -> None:
    """Give DIR, which an older ropext converted, this ropext's code and configuration block.

    The numbers come from the preset that ropext.json keeps. Weights, tokenizer and card stay as they are.
    """
    done = upgrade(folder)
    if as_json:
        click.echo(json.dumps(done.to_json(), indent=2, ensure_ascii=False))
    elif not quiet:
        click.echo(printable("\n".join(_upgraded(done))))


def _upgraded(done: Upgraded) -> Iterator[str]:
    if not (done.written or done.removed):
        yield f"{done.folder}: is what ropext {__version__} writes"
        return
    yield f"{done.folder}: from ropext {done.before} to {__version__}"
    yield f"  written: {', '.join(done.written)}"
    if done.removed:
        yield f"  removed: {', '.join(done.removed)}"
    if done.config_changes:
        yield f"  changed in config.json: {', '.join(key for key, _, _ in done.config_changes)}"


@click.command("card", short_help="Write a converted folder's model card anew.")
@click.argument("folder", metavar="DIR", type=_FOLDER)
@click.option("--repo", "repo_id", metavar="ORG/NAME", help="Where it is published: the snippet loads it from there.")
@click.option("--revision", metavar="SHA", help="The commit that the snippet loads.")
@click.option("--verify", "verified", is_flag=True, help="Verify DIR first, and say in the card what was checked.")
@click.option("--quiet", "-q", is_flag=True, help="Report errors only.")
def card_command(folder: Path, repo_id: str | None, revision: str | None, verified: bool, quiet: bool) -> None:
    """Write the README.md of DIR anew: method, numbers, preset, and a snippet that loads it.

    The base model's own card stays, and so do sections and metadata that others added.
    """
    if repo_id is not None and not hub.is_hub_id(repo_id):
        raise UsageError(f"--repo {repo_id}: is no Hub id (`organisation/name`).")
    checked: list[str] = []
    if verified:
        with progress_line(quiet_client(quiet=quiet), "reading") as reading:
            report = verify(str(folder), reading=reading)
        if report.bad:
            bad = ", ".join(report.bad)
            raise RopextError(f"{folder}: is bad ({bad}), and no card was written; see `ropext verify {folder}`.")
        checked = [f"By `ropext verify` of ropext {__version__}:", "", *_checked(report)]
    rewrite_card(folder, repo_id, revision, checked)
    if not quiet:
        click.echo(printable(f"{folder / 'README.md'}: written"))


def _checked(report: Report) -> Iterator[str]:
    for check in report.checks:
        yield f"- {check.name}: {'not checked: ' if check.status == 'unchecked' else ''}{in_markdown(check.text)}"


def _lines(report: Report) -> Iterator[str]:
    for check in report.checks:
        yield printable(f"{check.status:<9}  {check.name:<9}  {check.text}")
    place = report.name + (f" at {report.revision}" if report.revision else "")
    named = {
        "good": "",
        "bad": f": {', '.join(report.bad)}",
        "incomplete": f", not checked: {', '.join(report.unchecked)}",
    }
    yield printable(f"{place}: {report.verdict}{named[report.verdict]}")
