"""`ropext verify`, `ropext upgrade` and `ropext card`: a converted checkpoint, later."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from ropext.converter import __version__
from ropext.converter.converted.upgrade import Upgraded, rewrite_card, upgrade
from ropext.converter.errors import RopextError, UsageError
from ropext.converter.hub import client as hub
from ropext.converter.text import in_markdown
from ropext.converter.verify.checks import Check, Report, verify
from ropext.converter.verify.model_process import MINUTES
from ropext.converter.verify.report import EXIT_STATUS, Verdict

from .live import live
from .options import AS_JSON, QUIET, epilog
from .output import say, say_json
from .progress import bytes_on
from .push import quiet_client

__all__ = ["card_command", "upgrade_command", "verify_command"]

_FOLDER = click.Path(path_type=Path)


@click.command(
    "verify",
    short_help="Check a converted folder or repository.",
    epilog=epilog("verify qwen3-4b-yarn", "verify my-name/qwen3-4b-yarn --json", page="docs/publishing.md"),
)
@click.argument("source", metavar="DIR|REPO")
@click.option("--revision", metavar="REV", help="Branch, tag or commit of a Hub repository.")
@click.option("--quick", is_flag=True, help="Read only the headers of weights, and run no model.")
@click.option("--forward", "whole", is_flag=True, help="Run all layers of DIR instead of two.")
@click.option("--minutes", type=float, default=MINUTES, show_default=True, help="Longest time to run the model.")
@click.option(
    "--memory",
    type=float,
    metavar="GIB",
    show_default="80 % of the machine's",
    help="Most memory for it. On Linux only.",
)
@AS_JSON
@click.option("--quiet", "-q", is_flag=True, help="Print nothing; the exit status tells.")
def verify_command(
    source: str,
    revision: str | None,
    quick: bool,
    whole: bool,
    minutes: float,
    memory: float | None,
    as_json: bool,
    quiet: bool,
) -> int:
    """Check that DIR or REPO is what it says.

    The exit status is 0 only if everything was checked and is good, 1 if something is bad, and 3 if nothing is bad but
    something was not checked, as with --quick.

    Files are compared with the checksums in ropext.json, the code with that of this ropext, config.json with the
    recorded preset, and the headers of weights with config.json. A model of two layers is compared with dense attention
    and with the base, in a process of its own, which is ended where it takes too long. The folder's own code is never
    executed. Of a REPO no weights are downloaded: the Hub knows their checksums.
    """
    how = {"quick": quick, "whole": whole, "minutes": minutes, "memory": memory}
    report = _verified(source, quiet=quiet, listed=not (as_json or quiet), revision=revision, **how)
    if as_json:
        say_json(report.to_json())
    elif not quiet:
        place = report.name + (f" at {report.revision}" if report.revision else "")
        named: dict[Verdict, str] = {
            "good": "",
            "bad": f": {', '.join(report.bad)}",
            "incomplete": f", not checked: {', '.join(report.unchecked)}",
        }
        say(f"{place}: {report.verdict}{named[report.verdict]}")
    return EXIT_STATUS[report.verdict]


def _verified(source: str, *, quiet: bool, listed: bool, **how: Any) -> Report:
    """Verify, showing which check is at work, and each as it ends if they are to be listed."""
    with live(f"verifying {source}", shown=quiet_client(quiet=quiet)) as bar:

        def hear(name: str, check: Check | None) -> None:
            if check is None:
                bar.start(f"checking {_CHECKED.get(name, name)}")
            elif listed:
                bar.say(f"{check.status:<9}  {check.name:<9}  {check.text}")

        return verify(source, **how, reading=bytes_on(bar, "reading"), hear=hear)


_CHECKED = {
    "record": "the record",
    "files": "files against their checksums",
    "weights": "weights against their checksums",
    "headers": "the headers of weights",
    "code": "the code",
    "config": "the configuration",
    "reference": "the model against a reference",
    "base": "the model against its base",
}


@click.command(
    "upgrade",
    short_help="Bring a converted folder up to date.",
    epilog=epilog("upgrade qwen3-4b-yarn", page="docs/publishing.md"),
)
@click.argument("folder", metavar="DIR", type=_FOLDER)
@AS_JSON
@QUIET
def upgrade_command(folder: Path, as_json: bool, quiet: bool) -> None:
    """Give DIR, which an older ropext converted, this ropext's code and configuration block.

    The parameters come from the preset that ropext.json keeps. Weights, tokenizer and card stay as they are.
    """
    done = upgrade(folder)
    if as_json:
        say_json(done.to_json())
    elif not quiet:
        say("\n".join(_upgraded(done)))


def _upgraded(done: Upgraded) -> Iterator[str]:
    if not (done.written or done.removed):
        yield f"{done.folder}: is up to date with ropext {__version__}"
        return
    yield f"{done.folder}: from ropext {done.before} to {__version__}"
    yield f"  written: {', '.join(done.written)}"
    if done.removed:
        yield f"  removed: {', '.join(done.removed)}"
    if done.config_changes:
        yield f"  changed in config.json: {', '.join(key for key, _, _ in done.config_changes)}"


@click.command(
    "card",
    short_help="Rewrite a converted folder's model card.",
    epilog=epilog("card qwen3-4b-yarn --repo my-name/qwen3-4b-yarn --verify", page="docs/publishing.md"),
)
@click.argument("folder", metavar="DIR", type=_FOLDER)
@click.option("--repo", "repo_id", metavar="ORG/NAME", help="Hub repository that the card's example loads.")
@click.option("--revision", metavar="SHA", help="Commit that the card's example loads.")
@click.option("--verify", "verified", is_flag=True, help="Verify DIR first, and list in the card what was checked.")
@QUIET
def card_command(folder: Path, repo_id: str | None, revision: str | None, verified: bool, quiet: bool) -> None:
    """Rewrite the README.md of DIR: method, numbers, preset, and an example that loads it.

    The base model's own card stays, and so do sections and metadata that others added.
    """
    if repo_id is not None and not hub.is_hub_id(repo_id):
        raise UsageError(f"--repo {repo_id}: is no Hub id (`organisation/name`).")
    checked: list[str] = []
    if verified:
        report = _verified(str(folder), quiet=quiet, listed=False)
        if report.bad:
            bad = ", ".join(report.bad)
            raise RopextError(f"{folder}: is bad ({bad}), and no card was written; see `ropext verify {folder}`.")
        checked = [f"By `ropext verify` of ropext {__version__}:", "", *_checked(report)]
    rewrite_card(folder, repo_id, revision, checked)
    if not quiet:
        say(f"wrote {folder / 'README.md'}")


def _checked(report: Report) -> Iterator[str]:
    for check in report.checks:
        yield f"- {check.name}: {'not checked: ' if check.status == 'unchecked' else ''}{in_markdown(check.text)}"
