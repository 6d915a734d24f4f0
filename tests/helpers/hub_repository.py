"""What a Hub keeps, in memory: repositories, their commits and files."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

LARGE = (".safetensors", ".bin", ".model", ".arrow", ".pt")
HUGE = 1 << 28
ATTRIBUTES = "".join(f"*{ending} filter=lfs diff=lfs merge=lfs -text\n" for ending in LARGE).encode()


@dataclass
class Blob:
    """The contents of a file, in memory or where they lie."""

    data: bytes | Path
    large: bool

    @property
    def size(self) -> int:
        return self.data.stat().st_size if isinstance(self.data, Path) else len(self.data)

    @cached_property
    def sha256(self) -> str:
        return hashlib.sha256(self.data if isinstance(self.data, bytes) else self.data.read_bytes()).hexdigest()

    @property
    def content(self) -> bytes:
        """What git holds: the file, or the pointer to it."""
        if self.large:
            pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{self.sha256}\nsize {self.size}\n"
            return pointer.encode()
        return self.data if isinstance(self.data, bytes) else self.data.read_bytes()

    @cached_property
    def oid(self) -> str:
        return hashlib.sha1(b"blob %d\0" % len(self.content) + self.content).hexdigest()


@dataclass
class Commit:
    oid: str
    title: str
    files: dict[str, Blob]


@dataclass
class Repo:
    name: str
    private: bool = False
    gated: str | bool = False
    license: str | None = None
    region: str = "us"
    xet: bool = True
    readers: set[str] = field(default_factory=set)
    commits: dict[str, Commit] = field(default_factory=dict)
    refs: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    history: list[str] = field(default_factory=list)
    pull_requests: dict[int, str] = field(default_factory=dict)
    objects: set[str] = field(default_factory=set)

    def add(self, title: str, files: dict[str, Blob], ref: str = "main") -> Commit:
        seed = f"{self.name} {len(self.commits)} {title} {[(path, blob.oid) for path, blob in files.items()]}"
        commit = Commit(hashlib.sha1(seed.encode()).hexdigest(), title, files)
        self.commits[commit.oid] = commit
        self.refs[ref] = commit.oid
        self.history.append(commit.oid)
        return commit

    def at(self, revision: str) -> Commit | None:
        return self.commits.get({**self.tags, **self.refs}.get(revision, revision))

    @property
    def head(self) -> Commit:
        return self.commits[self.refs["main"]]

    def digests(self, revision: str = "main") -> dict[str, str]:
        """What the repository holds, to compare two."""
        commit = self.at(revision)
        assert commit
        return {path: blob.oid for path, blob in sorted(commit.files.items())}


def is_large(path: str, size: int) -> bool:
    return path.endswith(LARGE) or size > 10 << 20


def xet_hash(sha256: str) -> str:
    return hashlib.sha256(f"xet {sha256}".encode()).hexdigest()


def entry(repo: Repo, path: str, blob: Blob) -> dict[str, Any]:
    found = {"type": "file", "path": path, "size": blob.size, "oid": blob.oid}
    if blob.large:
        found["lfs"] = {"oid": blob.sha256, "size": blob.size, "pointerSize": len(blob.content)}
        found |= {"xetHash": xet_hash(blob.sha256)} if repo.xet else {}
    return found


def preuploaded(file: dict[str, Any], there: Blob | None) -> dict[str, Any]:
    large = is_large(file["path"], file["size"])
    oid = (there.sha256 if there.large else there.oid) if there else None
    mode = "lfs" if large else "regular"
    return {"path": file["path"], "uploadMode": mode, "shouldIgnore": False, **({"oid": oid} if oid else {})}
