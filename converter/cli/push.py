"""`ropext push`, and what `ropext convert --push` shares with it."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import click

from ropext.converter.publish.contents import read_folder
from ropext.converter.publish.plan import PushPlan, plan_push
from ropext.converter.publish.push import Pushed, push
from ropext.converter.text import size_text

from .progress import progress_line

__all__ = ["publish", "push_command", "push_options", "quiet_client"]

Command = TypeVar("Command", bound=Callable[..., Any])

_OPTIONS = (
    click.option(
        "--private/--public",
        default=None,
        help="Who sees a new repository [default: private, unless the base is open to all].",
    ),
    click.option("--create-pr", is_flag=True, help="Propose it in a pull request."),
    click.option("--message", "-m", metavar="TEXT", help="First line of the commit."),
)


def push_options(command: Command) -> Command:
    """Add the options that say how to push."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


@click.command("push", short_help="Publish a converted folder on the Hub.")
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.argument("repo_id", metavar="REPO")
@push_options
@click.option("--revision", "branch", metavar="BRANCH", help="Branch to push to; made if it is not there.")
@click.option("--dry-run", is_flag=True, help="Say what would be done, and send nothing.")
@click.option("--json", "as_json", is_flag=True, help="Report as JSON on stdout.")
@click.option("--quiet", "-q", is_flag=True, help="Report errors only.")
def push_command(
    folder: Path,
    repo_id: str,
    private: bool | None,
    create_pr: bool,
    message: str | None,
    branch: str | None,
    dry_run: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Publish DIR, which `ropext convert` wrote, as the Hub repository REPO, in one commit.

    What the base's repository holds byte for byte is copied within the Hub; the rest is uploaded. What is
    there already is left alone, so that the same command can be run again after a failure.
    """
    terminal = quiet_client(quiet=quiet)
    with progress_line(terminal, "reading") as reading:
        contents = read_folder(folder, reading)
        plan = plan_push(contents, repo_id, private=private, create_pr=create_pr, branch=branch, message=message)
    publish(plan, dry_run=dry_run, as_json=as_json, quiet=quiet)


def quiet_client(*, quiet: bool) -> bool:
    """Keep the Hub client's progress bars to terminals; return whether this is one."""
    terminal = sys.stderr.isatty() and not quiet
    if not terminal:
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")  # read when the Hub's client is imported
    return terminal


def publish(plan: PushPlan, *, dry_run: bool, as_json: bool, quiet: bool) -> None:
    """Carry a push out, or only show it, and report.

    Args:
        plan: what to do.
        dry_run: only show it.
        as_json: report as JSON.
        quiet: report nothing.
    """

    def say(note: str) -> None:
        if not quiet:
            click.echo(f"note: {note}", err=True)

    done: PushPlan | Pushed = plan
    if not dry_run:
        for note in plan.notes:
            say(note)
        done = push(plan, say)
    if as_json:
        click.echo(json.dumps(done.to_json(), indent=2, ensure_ascii=False))
    elif not quiet:
        click.echo("\n".join(_pushed(done) if isinstance(done, Pushed) else _planned(done)))


def _planned(plan: PushPlan) -> Iterator[str]:
    yield f"{plan.contents.name} → {_place(plan)}; nothing is sent\n"
    for step in plan.steps:
        yield f"{step.action:<7} {step.size:>16,}  {step.path:<32} {step.why}"
    yield f"\n{_sizes(plan)}"
    if plan.base and plan.size_of("copy"):
        yield f"copies come from {plan.base.repo_id} at {plan.base.revision}"
    if plan.tag:
        yield f"tag {plan.tag}, which the card's snippet loads" + (", is there" if plan.tagged else "")
    if plan.proposed:
        yield f"pull request {plan.proposed} proposes the same already"
    yield from (f"note: {note}" for note in plan.notes)


def _pushed(done: Pushed) -> Iterator[str]:
    plan = done.plan
    if plan.proposed:
        yield f"{plan.repo_id}: pull request {plan.proposed} proposes the same already; nothing was sent"
    elif done.url is None:
        tag = "" if plan.tagged or not plan.tag else f", but for the tag {plan.tag}, which was missing"
        yield f"{plan.repo_id}: holds all of it already{tag or '; nothing was sent'}"
    else:
        yield f"{_place(plan)}: {plan.contents.summary}"
        yield f"  {_sizes(plan)}"
        yield from (f"  {note}" for note in done.notes[len(plan.notes) :])
        if plan.tag:
            yield f"  tag {plan.tag}, which the card's snippet loads"
        yield f"\n{done.url}"


def _place(plan: PushPlan) -> str:
    visibility = {True: "new, private", False: "new, public", None: "new"}[plan.private]
    words = [*([visibility] if plan.parent is None else []), *([f"branch {plan.branch}"] if plan.branch else [])]
    words += ["as a pull request"] if plan.create_pr else []
    return plan.repo_id + (f" ({', '.join(words)})" if words else "")


def _sizes(plan: PushPlan) -> str:
    copied, uploaded, skipped = (size_text(plan.size_of(action)) for action in ("copy", "upload", "skip"))
    return f"{copied} copied within the Hub, {uploaded} uploaded, {skipped} there already"
