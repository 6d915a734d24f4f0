"""Publishing a converted checkpoint: a plan carried out in one commit, and a tag that names it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ropext.converter.errors import RopextError
from ropext.converter.hub import client as hub
from ropext.converter.hub.errors import CopyRefused, HubFailure
from ropext.converter.hub.types import Change, Committed

from .plan import PushPlan, Step

__all__ = ["Pushed", "push"]


@dataclass(frozen=True)
class Pushed:
    """A finished push.

    Attributes:
        plan: what was done in the end.
        url: of the commit or pull request; None where nothing was left to do.
        notes: what the user should know.
    """

    plan: PushPlan
    url: str | None
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the result as JSON values."""
        return {**self.plan.to_json(), "url": self.url, "notes": list(self.notes)}


def push(plan: PushPlan, say: Callable[[str], None] = lambda text: None) -> Pushed:
    """Publish in one commit; where the Hub refuses to copy, upload. Then name the commit by the tag in the card.

    Args:
        plan: what to do.
        say: told what the user should know before it takes time.

    Raises:
        RopextError: nothing was committed, or all but the tag was done; the same command can be run again.
    """
    if plan.proposed:
        return Pushed(plan, None, plan.notes)
    if not plan.changes:
        assert plan.parent is not None
        _tag(plan, plan.parent)
        return Pushed(plan, None, plan.notes)
    parent = plan.parent
    if parent is None:
        hub.create(plan.repo_id, private=plan.private)
        parent = hub.look_up(plan.repo_id).revision
    if plan.new_branch and plan.branch:
        hub.create_branch(plan.repo_id, plan.branch)
    try:
        done = _commit(plan, parent)
    except CopyRefused as refusal:
        plan = _without_copies(plan, str(refusal))
        say(plan.notes[-1])
        done = _commit(plan, parent)
    _tag(plan, done.oid)
    return Pushed(plan, done.url, (*plan.notes, *done.remarks))


def _tag(plan: PushPlan, revision: str) -> None:
    if not plan.tag or plan.tagged:
        return
    try:
        hub.create_tag(plan.repo_id, plan.tag, revision)
    except HubFailure as failure:
        todo = f"The commit was made; its tag {plan.tag}, which the card names, was not: run the same command again."
        raise RopextError(f"{failure} {todo}") from None


def _commit(plan: PushPlan, parent: str) -> Committed:
    plan = _downloaded(plan)
    return hub.commit(
        plan.repo_id,
        [_change(step) for step in plan.changes],
        plan.base,
        message=plan.message,
        parent=parent,
        branch=plan.branch,
        create_pr=plan.create_pr,
    )


def _change(step: Step) -> Change:
    data = step.file.data if step.file and step.action == "upload" else None
    action = step.action
    assert action != "skip"
    return Change(step.path, action, b"" if data is None else data)


def _without_copies(plan: PushPlan, reason: str) -> PushPlan:
    copies = [step for step in plan.steps if step.action == "copy"]
    steps = tuple(replace(step, action="upload", why=reason) if step in copies else step for step in plan.steps)
    note = f"{reason}: uploading {sum(step.size for step in copies):,} bytes instead"
    return replace(plan, steps=steps, notes=(*plan.notes, note))


def _downloaded(plan: PushPlan) -> PushPlan:
    """Fetch what has to be uploaded and lies on the Hub alone."""
    absent = {step.path for step in plan.steps if step.action == "upload" and step.file and step.file.data is None}
    if not absent or not plan.base:
        return plan
    folder = hub.fetch_files(plan.base, sorted(absent))
    steps = tuple(_from_folder(step, folder) if step.path in absent else step for step in plan.steps)
    return replace(plan, steps=steps)


def _from_folder(step: Step, folder: Path) -> Step:
    assert step.file is not None
    return replace(step, file=replace(step.file, data=folder / step.path))
