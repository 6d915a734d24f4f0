"""`ropext push`, and what `ropext convert --push` shares with it."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import click

from ropext.converter.publish.contents import read_folder
from ropext.converter.publish.plan import PushPlan, plan_push
from ropext.converter.publish.push import Pushed, push
from ropext.converter.text import size_text

from .live import Bar, live
from .options import AS_JSON, QUIET, epilog
from .output import say, say_json
from .progress import progress_line
from .screen import is_terminal

__all__ = ["Pushing", "publish", "push_command", "push_options", "quiet_client", "waiting_for_hub"]

Command = TypeVar("Command", bound=Callable[..., Any])


@dataclass(frozen=True)
class Pushing:
    """What `push_options` say, named as `plan_push` takes it."""

    private: bool | None = None
    create_pr: bool = False
    message: str | None = None


_OPTIONS = (
    click.option(
        "--private/--public",
        default=None,
        show_default="private, unless the base is open to all",
        help="Visibility of a new repository.",
    ),
    click.option("--create-pr", is_flag=True, help="Open a pull request instead of pushing."),
    click.option("--message", "-m", metavar="TEXT", help="Commit message."),
)


def push_options(command: Command) -> Command:
    """Add the options that say how to push."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


@click.command(
    "push",
    short_help="Publish a converted folder on the Hub.",
    epilog=epilog("push qwen3-4b-yarn my-name/qwen3-4b-yarn --dry-run", page="docs/publishing.md"),
)
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.argument("repo_id", metavar="REPO")
@push_options
@click.option("--revision", "branch", metavar="BRANCH", help="Branch to push to. It is created if it does not exist.")
@click.option("--dry-run", is_flag=True, help="Show what would be sent, and send nothing.")
@AS_JSON
@QUIET
def push_command(
    folder: Path,
    repo_id: str,
    branch: str | None,
    dry_run: bool,
    as_json: bool,
    quiet: bool,
    **pushing: Any,
) -> None:
    """Publish DIR, which `ropext convert` wrote, as the Hub repository REPO, in one commit.

    Files that the base's repository holds byte for byte are copied within the Hub; the others are uploaded. Files that
    are there already are not sent again, so the same command can be repeated after a failure.
    """
    with progress_line(quiet_client(quiet=quiet), "reading") as reading:
        contents = read_folder(folder, reading)
        plan = plan_push(contents, repo_id, branch=branch, **vars(Pushing(**pushing)))
    publish(plan, dry_run=dry_run, as_json=as_json, quiet=quiet)


def waiting_for_hub(doing: str, *, quiet: bool) -> AbstractContextManager[Bar]:
    """Show that something waits for the Hub, where its client shows no bars of its own."""
    return live(doing, shown=not quiet and not is_terminal(sys.stderr))


def quiet_client(*, quiet: bool) -> bool:
    """Keep the Hub client's progress bars to terminals; return whether progress is to be shown."""
    if quiet or not is_terminal(sys.stderr):
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")  # read when the Hub's client is imported
    return not quiet


def publish(plan: PushPlan, *, dry_run: bool, as_json: bool, quiet: bool) -> None:
    """Carry a push out, or only show it, and report.

    Args:
        plan: what to do.
        dry_run: only show it.
        as_json: report as JSON.
        quiet: report nothing.
    """

    def tell(note: str) -> None:
        if not quiet:
            say(f"note: {note}", err=True)

    done: PushPlan | Pushed = plan
    if not dry_run:
        for note in plan.notes:
            tell(note)
        with waiting_for_hub(f"sending to {plan.repo_id}", quiet=quiet):
            done = push(plan, tell)
    if as_json:
        say_json(done.to_json())
    elif not quiet:
        say("\n".join(_pushed(done) if isinstance(done, Pushed) else _planned(done)))


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
