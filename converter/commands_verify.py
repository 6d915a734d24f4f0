"""`ropext verify`, `ropext upgrade` and `ropext card`: a converted checkpoint, later."""

from __future__ import annotations

import json
from collections.abc import Iterator

import click

from .commands_push import quiet_client
from .progress import progress_line
from .verify import Report, verify

__all__ = ["verify_command"]


@click.command("verify", short_help="Check a converted folder or repository.")
@click.argument("source", metavar="DIR|REPO")
@click.option("--revision", metavar="REV", help="Branch, tag or commit of a Hub id.")
@click.option("--quick", is_flag=True, help="Read no weights but their headers, and run no model.")
@click.option("--forward", "whole", is_flag=True, help="Run the whole model, and not two layers of it.")
@click.option("--json", "as_json", is_flag=True, help="Report as JSON on stdout.")
@click.option("--quiet", "-q", is_flag=True, help="Report by the exit status only.")
def verify_command(source: str, revision: str | None, quick: bool, whole: bool, as_json: bool, quiet: bool) -> int:
    """Check that DIR or REPO is what it says, and exit with 1 if it is not.

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
    return 0 if report.good else 1


def _lines(report: Report) -> Iterator[str]:
    for check in report.checks:
        yield f"{check.status:<9}  {check.name:<9}  {check.text}"
    yield f"{report.name}: " + ("good" if report.good else f"bad: {', '.join(report.bad)}")
