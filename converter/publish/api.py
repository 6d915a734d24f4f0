"""Publishing as a function: of a folder, or of a conversion that is written nowhere."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ropext.converter.checkpoint.read import read_checkpoint, read_remote_checkpoint
from ropext.converter.convert.api import base_of, plan_checkpoint
from ropext.converter.files.contents import Reading
from ropext.converter.hub import client as hub
from ropext.converter.preset import Preset

from .contents import Contents, contents_of, read_folder
from .plan import plan_push
from .push import Pushed
from .push import push as carry_out

__all__ = ["converted_contents", "push"]


def push(
    folder: str | Path,
    repo_id: str,
    *,
    private: bool | None = None,
    create_pr: bool = False,
    branch: str | None = None,
    message: str | None = None,
    reading: Reading | None = None,
    say: Callable[[str], None] | None = None,
) -> Pushed:
    """Publish a converted folder on the Hub, in one commit.

    What the base's repository holds byte for byte is copied within the Hub, and the rest is uploaded.

    Args:
        folder: as `convert` wrote it.
        repo_id: where to, `organisation/name`; made if it is not there.
        private: make a new repository private, or public; by default private, unless the base is open to all.
        create_pr: propose it in a pull request.
        branch: by default `main`.
        message: first line of the commit.
        reading: called with a file's path, its bytes read so far and its size.
        say: called with what the user should know while it goes on.

    Returns:
        What was done, where it is, and notes.

    Raises:
        UsageError: the folder is no converted one, or does not belong there.
        RopextError: the Hub refuses or cannot be reached.
    """
    contents = read_folder(Path(folder), reading)
    plan = plan_push(contents, repo_id, private=private, create_pr=create_pr, branch=branch, message=message)
    return carry_out(plan, say or (lambda text: None))


def converted_contents(
    preset: Preset,
    source: str | None,
    revision: str | None = None,
    *,
    native: bool = False,
    reading: Reading | None = None,
) -> Contents:
    """Convert for publishing: nothing is written, and of a Hub repository no weights are downloaded.

    Args:
        preset: what to convert with.
        source: a folder or a Hub id; the preset's `base_model` by default.
        revision: branch, tag or commit of a Hub id.
        native: write stock keys and no code.
        reading: called with a file's path, its bytes read so far and its size.

    Raises:
        RopextError: as `convert.api.plan_conversion`.
    """
    place = base_of(preset) if source is None else source
    if not hub.is_hub_id(place) or Path(place).expanduser().exists():
        local = hub.resolve(place, revision)
        plan = plan_checkpoint(preset, read_checkpoint(local.folder, place), local, native=native)
        return contents_of(plan, reading=reading)
    remote = read_remote_checkpoint(place, revision)
    plan = plan_checkpoint(preset, remote.checkpoint, remote.local, native=native)
    return contents_of(plan, remote.repository, remote.absent, reading)
