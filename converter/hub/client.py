"""Where a model comes from and goes to: a folder, or the Hugging Face Hub. The one place that talks to the Hub."""

from __future__ import annotations

import glob
import re
import struct
import warnings
from collections.abc import Collection, Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ropext.converter.errors import RopextError, UsageError

from .errors import reading, writing
from .types import Change, Committed, LocalSource, RemoteFile, Repository

if TYPE_CHECKING:
    from huggingface_hub import CommitOperationAdd, CommitOperationCopy, CommitOperationDelete
    from huggingface_hub.hf_api import RepoFile

__all__ = [
    "beginning",
    "can_copy",
    "commit",
    "create",
    "create_branch",
    "create_tag",
    "fetch",
    "fetch_files",
    "is_hub_id",
    "is_snapshot",
    "look_up",
    "pull_requests",
    "read",
    "resolve",
    "tensors",
]

SMALL = (
    "*.json",
    "*.model",
    "*.tiktoken",
    "*.txt",
    "*.jinja",
    "README.md",
    "*LICENSE*",
    "*NOTICE*",
    "*USE_POLICY*",
)
"""What a conversion can use of a repository, but for its weights."""

NEEDED = ("*.safetensors", *SMALL)
"""What a conversion can use of a repository."""

NOT_NEEDED = ("original/*", "consolidated*", "onnx/*", "*.safetensors.index.*.json", "*/*.safetensors")


# Reading


def resolve(source: str, revision: str | None = None, only: Sequence[str] = NEEDED) -> LocalSource:
    """Find a model folder, or download a Hub repository into the Hugging Face cache.

    Args:
        source: a folder or a Hub id, `organisation/name`; a folder of that name wins.
        revision: a branch, tag or commit of the repository, by default `main`; what it means now is pinned.
        only: patterns of the files to download.

    Raises:
        UsageError: `source` is neither, or a revision of a folder is asked for.
        RopextError: the Hub refuses, does not know it or cannot be reached; the message says what to do.
    """
    folder = Path(source).expanduser()
    if source and folder.is_dir():
        if revision is not None:
            raise UsageError(f"{source}: is a local folder, so --revision {revision} does not apply to it.")
        return _local(folder)
    if source and folder.exists():
        raise UsageError(f"{source}: is a file; name the folder that holds config.json.")
    if not is_hub_id(source):
        raise UsageError(
            f"{source or repr(source)}: there is no such folder, and it is no Hub id (`organisation/name`)."
        )
    return fetch(source, revision, only)


def is_hub_id(name: str) -> bool:
    """Whether a name has the form `organisation/name`."""
    return re.fullmatch(r"[\w-][\w.-]*/[\w.-]+", name) is not None


def _local(folder: Path) -> LocalSource:
    """Recognise a snapshot in the Hugging Face cache, and by its path the repository and the commit."""
    if not is_snapshot(folder):
        return LocalSource(folder)
    revision, _, repo = (*reversed(folder.resolve().parts),)[:3]
    return LocalSource(folder, repo.removeprefix("models--").replace("--", "/", 1), revision)


def is_snapshot(folder: Path) -> bool:
    """Whether a folder is one of the Hugging Face cache: `models--organisation--name/snapshots/<commit>`."""
    _, snapshots, repo = (*reversed(folder.resolve().parts), "", "", "")[:3]
    return snapshots == "snapshots" and repo.startswith("models--")


def fetch(repo_id: str, revision: str | None, only: Sequence[str] = NEEDED) -> LocalSource:
    """Download files of a repository into the Hugging Face cache.

    Args:
        repo_id: which.
        revision: branch, tag or commit, by default `main`.
        only: patterns of the files.

    Raises:
        RopextError: the Hub refuses, does not know it or cannot be reached; the message says what to do.
    """
    from huggingface_hub import snapshot_download

    with reading(repo_id, revision):
        folder = snapshot_download(
            repo_id, revision=revision, allow_patterns=list(only), ignore_patterns=list(NOT_NEEDED)
        )
        return LocalSource(Path(folder), repo_id, _commit(Path(folder).name))


def look_up(repo_id: str, revision: str | None = None) -> Repository:
    """Ask the Hub what a repository holds, without downloading it.

    Args:
        repo_id: which.
        revision: branch, tag or commit, by default `main`.

    Raises:
        NoSuchRepository: the Hub knows none of that name.
        NoSuchRevision: the repository has no such revision.
        RopextError: the Hub refuses or cannot be reached.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.hf_api import RepoFile

    with reading(repo_id, revision):
        info = HfApi().model_info(repo_id, revision=revision)
        entries = list(HfApi().list_repo_tree(repo_id, recursive=True, revision=info.sha))
        card = info.card_data
        return Repository(
            repo_id=repo_id,
            revision=_commit(info.sha),
            private=bool(info.private),
            gated=bool(info.gated),
            license=_text(card.get("license")) if card else None,
            files={entry.path: _remote_file(entry) for entry in entries if isinstance(entry, RepoFile)},
        )


def _commit(name: object) -> str:
    """Return the name of a commit, which becomes a folder's.

    Raises:
        ValueError: it is none.
    """
    if not isinstance(name, str) or not re.fullmatch("[0-9a-f]{40}", name):
        raise ValueError(f"{name!r} is no commit")
    return name


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _remote_file(entry: RepoFile) -> RemoteFile:
    sha256 = entry.lfs.sha256 if entry.lfs else None
    path, size = entry.path, entry.size
    if not isinstance(path, str) or not _is_plain(path) or type(size) is not int or not 0 <= size < 1 << 50:
        raise ValueError(f"{path!r} of {size!r} bytes is no file of a repository")
    if not _is_digest(entry.blob_id, 40) or not (sha256 is None or _is_digest(sha256, 64)):
        raise ValueError(f"{path!r} has no digest")
    return RemoteFile(entry.path, entry.size, entry.blob_id, sha256, getattr(entry, "xet_hash", None))


def _is_plain(path: str) -> bool:
    """Whether a path stays inside of the folder that it is put into."""
    return "\\" not in path and "\0" not in path and all(part not in ("", ".", "..") for part in path.split("/"))


def _is_digest(value: object, length: int) -> bool:
    return isinstance(value, str) and re.fullmatch(f"[0-9a-f]{{{length}}}", value) is not None


def fetch_files(repository: Repository, paths: Collection[str]) -> Path:
    """Download files of a repository, as it is at its commit, into the Hugging Face cache.

    Returns:
        The folder that they are in.

    Raises:
        HubFailure: the Hub refuses or cannot be reached.
    """
    from huggingface_hub import snapshot_download

    repo_id, revision = repository.repo_id, repository.revision
    with reading(repo_id, revision):
        names = [glob.escape(path) for path in paths]
        folder = Path(snapshot_download(repo_id, revision=revision, allow_patterns=names))
        for path in paths:  # where the Hub cannot be reached, the client takes what is in the cache for all there is
            if not (folder / path).is_file():
                raise ConnectionError(f"{path} was not received")
    return folder


def read(repository: Repository, path: str) -> bytes:
    """Read a small file of a repository.

    Raises:
        HubFailure: the Hub refuses or cannot be reached.
    """
    return (fetch_files(repository, [path]) / path).read_bytes()


def beginning(repository: Repository, path: str, count: int) -> bytes:
    """Read how a file begins, by a request for that alone.

    Raises:
        HubFailure: the Hub refuses or cannot be reached.
    """
    from huggingface_hub import get_session, hf_hub_url, utils

    client: Any = utils  # it exports them without saying so
    with reading(repository.repo_id, repository.revision):
        headers = {**client.build_hf_headers(), "Range": f"bytes=0-{count - 1}"}
        address = hf_hub_url(repository.repo_id, path, revision=repository.revision)
        answer = get_session().get(address, headers=headers, timeout=60)
        client.hf_raise_for_status(answer)
        return bytes(answer.content[:count])


def tensors(repository: Repository, path: str) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Read the header of a safetensors file, by a request for its first bytes alone.

    Returns:
        The tensors' types, as the format spells them, and shapes, by name.

    Raises:
        RopextError: it is no safetensors file, or cut off.
        HubFailure: the Hub refuses or cannot be reached.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, SafetensorsParsingError

    repo_id, revision, size = repository.repo_id, repository.revision, repository.files[path].size
    with reading(repo_id, revision):
        try:
            found = HfApi().parse_safetensors_file_metadata(repo_id, path, revision=revision).tensors
            types = {name: (str(tensor.dtype), tuple(map(int, tensor.shape))) for name, tensor in found.items()}
            extent = max((int(tensor.data_offsets[1]) for tensor in found.values()), default=0)
        except (
            SafetensorsParsingError,
            struct.error,
            LookupError,
            TypeError,
            AttributeError,
            ValueError,
            RecursionError,
        ) as error:
            if isinstance(error, HfHubHTTPError):
                raise
            raise RopextError(f"{repo_id}: {path}: not a safetensors file.") from None
    if 8 + extent > size:
        raise RopextError(
            f"{repo_id}: {path}: cut off: its header promises {extent} bytes of tensors, and it has {size} in all."
        )
    return types


def pull_requests(repo_id: str, title: str) -> list[int]:
    """Return the numbers of a repository's open pull requests of that title.

    Raises:
        RopextError: the Hub refuses or cannot be reached.
    """
    from huggingface_hub import HfApi

    with reading(repo_id, None):
        found = list(HfApi().get_repo_discussions(repo_id))
    return [each.num for each in found if each.is_pull_request and each.status == "open" and each.title == title]


# Writing


def can_copy() -> bool:
    """Whether the installed client can copy from one repository to another (huggingface_hub 1.17 and newer)."""
    from huggingface_hub import CommitOperationCopy

    return "src_repo_id" in {field.name for field in fields(CommitOperationCopy)}


def create(repo_id: str, *, private: bool | None) -> None:
    """Make a repository; `private=None` leaves it to the account's default.

    Raises:
        RopextError: the token may not, there is one already, or the Hub cannot be reached.
    """
    from huggingface_hub import HfApi

    with writing(repo_id):
        HfApi().create_repo(repo_id, private=private)


def create_branch(repo_id: str, branch: str) -> None:
    """Make a branch at the head of `main`.

    Raises:
        RopextError: the token may not, or the Hub cannot be reached.
    """
    from huggingface_hub import HfApi

    with writing(repo_id):
        HfApi().create_branch(repo_id, branch=branch)


def create_tag(repo_id: str, tag: str, revision: str) -> None:
    """Name a commit; one that has the name already keeps it.

    Raises:
        HubFailure: the token may not, or the Hub cannot be reached.
    """
    from huggingface_hub import HfApi

    with writing(repo_id):
        HfApi().create_tag(repo_id, tag=tag, revision=revision, exist_ok=True)


def commit(
    repo_id: str,
    changes: Sequence[Change],
    base: Repository | None,
    *,
    message: str,
    parent: str,
    branch: str | None = None,
    create_pr: bool = False,
) -> Committed:
    """Make one commit.

    Args:
        repo_id: where.
        changes: what it does.
        base: the repository from which files are copied.
        message: its first line.
        parent: the commit that it must follow.
        branch: by default `main`.
        create_pr: propose it in a pull request.

    Raises:
        CopyRefused: nothing was committed; with uploads in the place of copies it can be.
        RopextError: nothing was committed; the message says why.
    """
    from huggingface_hub import HfApi

    operations = [_operation(change, base) for change in changes]
    with writing(repo_id, base), warnings.catch_warnings(record=True) as remarks:
        warnings.simplefilter("always")
        done = HfApi().create_commit(
            repo_id, operations, commit_message=message, parent_commit=parent, revision=branch, create_pr=create_pr
        )
    about_card = [str(each.message) for each in remarks if "README.md" in str(each.message)]
    return Committed(
        done.oid, str(done.pr_url or done.commit_url), tuple(" ".join(text.split()) for text in about_card)
    )


def _operation(
    change: Change, base: Repository | None
) -> CommitOperationAdd | CommitOperationCopy | CommitOperationDelete:
    from huggingface_hub import CommitOperationAdd, CommitOperationCopy, CommitOperationDelete

    if change.action == "delete":
        return CommitOperationDelete(change.path, is_folder=False)
    if change.action == "copy" and base:
        origin: dict[str, Any] = {"src_repo_id": base.repo_id, "src_repo_type": "model", "src_revision": base.revision}
        return CommitOperationCopy(change.path, change.path, **origin)
    return CommitOperationAdd(change.path, change.data)
