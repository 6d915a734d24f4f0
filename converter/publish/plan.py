"""What a push would do: what of a checkpoint the Hub can copy from the base, and what has to be sent.

It is decided from the contents and from what both repositories hold. What the Hub keeps as a large file and the base
holds too, at the commit that was converted, is copied within the Hub.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from ropext.converter import __version__
from ropext.converter.convert.record import Record
from ropext.converter.errors import RopextError, UsageError
from ropext.converter.files.contents import Outgoing, matches, outgoing
from ropext.converter.hub import client as hub
from ropext.converter.hub.errors import HubFailure, NoSuchRepository, NoSuchRevision
from ropext.converter.hub.types import Repository
from ropext.converter.names import CONFIG, PROVENANCE

from .contents import Contents, for_repository

__all__ = ["PushPlan", "Step", "plan_push"]

Action = Literal["copy", "upload", "delete", "skip"]

_TERMS = ("*licen[cs]e*", "notice*", "*use_policy*", "*use-policy*")
_OPEN = ("apache-2.0", "mit", "bsd", "bsd-2-clause", "bsd-3-clause", "isc", "cc0-1.0", "cc-by-4.0", "unlicense")
"""Licences that let anybody publish what is made of a model. A base under another is published privately."""


@dataclass(frozen=True)
class Step:
    """What a push does with one file.

    Attributes:
        path: its name within the repository.
        action: `copy` within the Hub, `upload`, `delete`, or `skip` what is there already.
        size: in bytes.
        why: the reason, for the reader of a plan.
        file: where it comes from; None for one that is deleted.
    """

    path: str
    action: Action
    size: int
    why: str
    file: Outgoing | None = None


@dataclass(frozen=True)
class PushPlan:
    """A push, ready to be carried out.

    Attributes:
        contents: what is published.
        repo_id: where.
        steps: file by file.
        base: the base's repository, where the Hub has it.
        parent: the commit that was found; None where there is no repository yet.
        private: whether a new repository is to be; None for the account's default.
        branch: the branch, by default `main`.
        new_branch: there is no such branch yet.
        create_pr: propose it in a pull request.
        message: of the commit.
        notes: what the user should know.
        proposed: the open pull request that proposes the same, if there is one.
        tagged: the tag that the card names is there already.
    """

    contents: Contents
    repo_id: str
    steps: tuple[Step, ...]
    base: Repository | None
    parent: str | None
    private: bool | None
    branch: str | None
    new_branch: bool
    create_pr: bool
    message: str
    notes: tuple[str, ...]
    proposed: int | None = None
    tagged: bool = False

    @property
    def tag(self) -> str | None:
        """The tag that the card's snippet loads, if it does."""
        return self.contents.tag

    @property
    def changes(self) -> tuple[Step, ...]:
        """The steps that change anything."""
        return tuple(step for step in self.steps if step.action != "skip")

    def size_of(self, action: Action) -> int:
        """Sum up the files with one action, in bytes."""
        return sum(step.size for step in self.steps if step.action == action)

    def to_json(self) -> dict[str, Any]:
        """Return the plan as JSON values."""
        return {
            "repo_id": self.repo_id,
            "base": self.base.repo_id if self.base else None,
            "revision": self.base.revision if self.base else None,
            "exists": self.parent is not None,
            "private": self.private,
            "branch": self.branch,
            "tag": self.tag,
            "create_pr": self.create_pr,
            "files": [{"path": s.path, "action": s.action, "bytes": s.size, "why": s.why} for s in self.steps],
            "bytes": {action: self.size_of(action) for action in ("copy", "upload", "skip")},
            "notes": list(self.notes),
        }


def plan_push(
    contents: Contents,
    repo_id: str,
    *,
    private: bool | None = None,
    create_pr: bool = False,
    branch: str | None = None,
    message: str | None = None,
) -> PushPlan:
    """Compare a checkpoint with what the Hub holds and decide what to do, and do nothing.

    Args:
        contents: what to publish.
        repo_id: where.
        private: make a new repository private, or public; by default private, unless the base is open to all.
        create_pr: propose it in a pull request.
        branch: by default `main`.
        message: of the commit.

    Raises:
        UsageError: this checkpoint does not belong there.
        RopextError: the Hub refuses or cannot be reached.
    """
    target, new_branch = _checked_target(contents, repo_id, branch, create_pr=create_pr)
    base, reason = _base(contents)
    closed = _closed(base)
    if target:
        _require_fit(target, private, closed, create_pr=create_pr)
    elif private is None:
        private = True if closed else None
    contents = for_repository(_with_terms(contents, base), repo_id, tagged=not create_pr)
    steps = [*_steps(contents, target, base, reason), *_deletions(contents, target)]
    message = message or f"{contents.summary}, by ropext {__version__}"
    changes = [step for step in steps if step.action != "skip"]
    notes = [*contents.notes, *_about_uploads(steps)]
    if closed and private is False and not target:
        notes.append(f"the base {closed}: see that its terms let you publish this")
    return PushPlan(
        contents=contents,
        repo_id=repo_id,
        steps=tuple(steps),
        base=base,
        parent=target.revision if target else None,
        private=private,
        branch=branch,
        new_branch=new_branch,
        create_pr=create_pr,
        message=message,
        notes=tuple(notes),
        proposed=_proposed(contents, repo_id, message) if create_pr and changes else None,
        tagged=target is not None and _tagged(contents, repo_id),
    )


def _checked_target(
    contents: Contents, repo_id: str, branch: str | None, *, create_pr: bool
) -> tuple[Repository | None, bool]:
    """Look the repository up as `_target` does, and refuse what can be no place for these contents."""
    if not hub.is_hub_id(repo_id):
        raise UsageError(f"{repo_id}: is no Hub id (`organisation/name`).")
    if repo_id == contents.base:
        raise UsageError(f"{repo_id}: is the base itself; push to a repository of its own.")
    target, new_branch = _target(repo_id, branch)
    if create_pr and (target is None or new_branch):
        raise UsageError(f"{repo_id}: there is no such repository or branch to propose anything to; see --create-pr.")
    return target, new_branch


def _target(repo_id: str, branch: str | None) -> tuple[Repository | None, bool]:
    """Look the repository up; of a branch that is still to be made, where it will start."""
    try:
        return hub.look_up(repo_id, branch), False
    except NoSuchRepository:
        return None, branch is not None
    except NoSuchRevision:
        return hub.look_up(repo_id), True


def _base(contents: Contents) -> tuple[Repository | None, str]:
    """Look the base up; where nothing can be copied from it, say why."""
    if not contents.base or not contents.revision:
        return None, "the base is a folder that is no Hub snapshot"
    try:
        base = contents.origin or hub.look_up(contents.base, contents.revision)
    except (NoSuchRepository, NoSuchRevision):
        return None, f"the Hub shows no {contents.base} at {contents.revision[:12]}"
    return base, "" if hub.can_copy() else "huggingface_hub before 1.17 copies nothing between repositories"


def _closed(base: Repository | None) -> str | None:
    """Say why a base may not be published for all to see; None for one that may."""
    if base is None:
        return "is not known to the Hub"
    if base.private:
        return "is private"
    if base.gated:
        return "is gated"
    return None if base.license in _OPEN else f"has the licence {base.license or '(none)'}"


def _require_fit(target: Repository, private: bool | None, closed: str | None, *, create_pr: bool) -> None:
    """Refuse a repository that holds something else, or that more people see than should."""
    repo_id = target.repo_id
    if CONFIG in target.files and PROVENANCE not in target.files and not create_pr:
        raise UsageError(f"{repo_id}: holds a model that ropext did not write; push to a repository of its own.")
    if private and not target.private:
        raise UsageError(f"{repo_id}: is public; make it private in its settings, or leave out --private.")
    if closed and private is None and not target.private and not create_pr:
        raise UsageError(
            f"{repo_id}: is public, and the base {closed}; if its terms let you publish this, say so by --public."
        )


def _with_terms(contents: Contents, base: Repository | None) -> Contents:
    """Add the base's licence and use policy where they are missing."""
    held = {file.path for file in contents.files}
    terms = [path for path in (base.files if base else {}) if "/" not in path and matches(path, _TERMS)]
    wanted = [path for path in terms if path not in held]
    if not base or not wanted:
        return contents
    added = [outgoing(path, hub.read(base, path)) for path in wanted]
    note = f"the base's terms are added: {', '.join(wanted)}"
    return replace(contents, files=(*contents.files, *added), notes=(*contents.notes, note))


def _steps(contents: Contents, target: Repository | None, base: Repository | None, reason: str) -> Iterator[Step]:
    for file in contents.files:
        origin = base.files.get(file.path) if base else None
        if target and file.equals(target.files.get(file.path)):
            yield Step(file.path, "skip", file.size, "is there already", file)
        # What git itself holds is small, and the client would fetch it only to send it again.
        elif origin and origin.sha256 and not reason and file.equals(origin):
            why = "" if origin.xet_hash else "the Hub has not moved it to Xet storage"
            yield Step(file.path, "upload" if why else "copy", file.size, why or "the base's, within the Hub", file)
        elif reason and (_is_weights(file.path) or (origin and origin.sha256)):
            yield Step(file.path, "upload", file.size, reason, file)
        else:
            why = "new" if not origin else "the base's, small" if file.equals(origin) else "differs from the base's"
            yield Step(file.path, "upload", file.size, why, file)


def _is_weights(path: str) -> bool:
    return path.endswith(".safetensors")


def _deletions(contents: Contents, target: Repository | None) -> Iterator[Step]:
    """Yield what an earlier conversion wrote there and this one does not have."""
    if not target or PROVENANCE not in target.files:
        return
    kept = {file.path for file in contents.files}
    others = [path for path in target.files if path not in kept and not path.startswith(".")]
    if not others:
        return
    try:
        listed = Record.parse(hub.read(target, PROVENANCE), target.repo_id).files
    except HubFailure:
        raise
    except RopextError:  # a damaged record does not say which files were the conversion's, and all stay
        return
    for path in others:
        if path in listed:
            yield Step(path, "delete", target.files[path].size, "of the conversion that was there")


def _about_uploads(steps: Sequence[Step]) -> Iterator[str]:
    """Say so where weights have to be uploaded."""
    uploads = [step for step in steps if step.action == "upload" and _is_weights(step.path)]
    if uploads:
        yield f"weights are uploaded, {sum(step.size for step in uploads):,} bytes: {uploads[0].why}"


def _proposed(contents: Contents, repo_id: str, title: str) -> int | None:
    """Find an open pull request that proposes the same."""
    for number in hub.pull_requests(repo_id, title):
        files = hub.look_up(repo_id, f"refs/pr/{number}").files
        if all(file.equals(files.get(file.path)) for file in contents.files):
            return number
    return None


def _tagged(contents: Contents, repo_id: str) -> bool:
    """Whether the card's tag is there.

    Raises:
        UsageError: somebody gave that name to something else.
    """
    if not contents.tag:
        return False
    try:
        files = hub.look_up(repo_id, contents.tag).files
    except NoSuchRevision:
        return False
    other = next((file.path for file in contents.files if not file.equals(files.get(file.path))), None)
    if other:
        raise UsageError(
            f"{repo_id}: its tag {contents.tag}, which is the name of what is pushed, holds another {other}; "
            f"delete the tag: `hf repos tag delete {repo_id} {contents.tag}`."
        )
    return True
