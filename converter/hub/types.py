"""What is said to the Hub and by it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

__all__ = ["Change", "Committed", "LocalSource", "RemoteFile", "Repository"]


@dataclass(frozen=True)
class LocalSource:
    """A model that lies on this machine.

    Attributes:
        folder: where.
        repo_id: the Hub repository it was downloaded from, if that is known.
        revision: the commit of that repository, if it is known.
    """

    folder: Path
    repo_id: str | None = None
    revision: str | None = None


@dataclass(frozen=True)
class RemoteFile:
    """A file of a repository.

    Attributes:
        path: its name within the repository.
        size: in bytes.
        blob_id: git's digest of its contents; for a large file, of the pointer that stands for it.
        sha256: of a large file's contents; None for one that git itself holds.
        xet_hash: by which the Hub's storage knows a large file, if it does.
    """

    path: str
    size: int
    blob_id: str
    sha256: str | None = None
    xet_hash: str | None = None


@dataclass(frozen=True)
class Repository:
    """A repository as it is at one commit.

    Attributes:
        repo_id: `organisation/name`.
        revision: the commit.
        private: only its owners see it.
        gated: it is given to those who accept its terms.
        license: as its card names it, if it does.
        files: by path.
    """

    repo_id: str
    revision: str
    private: bool
    gated: bool
    license: str | None
    files: Mapping[str, RemoteFile]


@dataclass(frozen=True)
class Change:
    """What a commit does to one file.

    Attributes:
        path: its name within the repository.
        action: `copy` it from the base within the Hub, `upload` or `delete` it.
        data: what to upload.
    """

    path: str
    action: Literal["copy", "upload", "delete"]
    data: bytes | Path = b""


@dataclass(frozen=True)
class Committed:
    """A commit that was made.

    Attributes:
        oid: which.
        url: its address, or that of the pull request.
        remarks: what the Hub remarks on the card.
    """

    oid: str
    url: str
    remarks: tuple[str, ...]
