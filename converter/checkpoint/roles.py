"""The files of a model folder: what each is there for, and which a conversion may carry over."""

from __future__ import annotations

import fnmatch
import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ropext.converter.errors import RopextError
from ropext.converter.files.links import real_path
from ropext.converter.files.pickles import HEAD, is_pickled
from ropext.converter.hub import client as hub

__all__ = [
    "Role",
    "SourceFile",
    "Stamp",
    "carried_files",
    "inside",
    "is_within",
    "role_of",
    "source_file",
    "stamp_of",
]

Role = Literal["weights", "index", "config", "card", "tokenizer", "generation", "quantization", "license", "other"]

# First match wins; names are compared in lower case.
_ROLES: tuple[tuple[Role, tuple[str, ...]], ...] = (
    ("config", ("config.json",)),
    ("card", ("readme.md",)),
    ("generation", ("generation_config.json",)),
    ("quantization", ("quantize_config.json", "quant_config.json", "hf_quant_config.json")),
    (
        "tokenizer",
        (
            "tokenizer*.json",
            "special_tokens_map.json",
            "added_tokens.json",
            "vocab.json",
            "vocab.txt",
            "vocab.bpe",
            "vocab.model",
            "merges.txt",
            "*.model",
            "*.tiktoken",
            "chat_template*.jinja",
            "chat_template*.json",
            "additional_chat_templates/*.jinja",
        ),
    ),
    ("license", ("*licen[cs]e*", "notice*", "copying*", "*use_policy*", "*use-policy*")),
)
_NEVER_COPIED = (
    "*.py",
    "*.py[cdo]",
    "*.so",
    "*.dll",
    "*.dylib",
    "*.exe",
    "*.sh",
    "*.bat",
    "*.safetensors",
    "*.bin",
    "*.pth",
    "*.pt",
    "*.pkl",
    "*.pickle",
    "*.ckpt",
    "*.joblib",
    "*.dill",
    "*.np[yz]",
    "*.h5",
    "*.keras",
    "*.msgpack",
    "*.gguf",
    "*.onnx",
    "*.zip",
    "*.tar*",
    "*.?z",
    ".*",
)
Stamp = tuple[int, int, int, int]
"""Device, inode, size and time of change of a file: another file, or another content, has another."""


@dataclass(frozen=True)
class SourceFile:
    """One file of a checkpoint.

    Attributes:
        path: its name within the folder, with forward slashes.
        role: what it is there for.
        real: the file itself, symbolic links resolved.
        size: in bytes.
        sha256: of its contents, where a download cache already names it so; otherwise None.
        cached: it lies in the download cache, which is others' too.
        stamp: by which `convert.write` knows it again.
    """

    path: str
    role: Role
    real: Path
    size: int
    sha256: str | None = None
    cached: bool = False
    stamp: Stamp | None = None


def carried_files(folder: Path) -> Iterator[SourceFile]:
    """Yield everything that a conversion carries over beside the weights.

    Raises:
        RopextError: a file is a link that leads elsewhere.
    """
    templates = folder / "additional_chat_templates"
    held = templates.iterdir() if templates.is_dir() and inside(folder, templates.name) else ()
    nested = [f"{templates.name}/{file.name}" for file in held]
    for path in sorted([entry.name for entry in os.scandir(folder)] + nested):
        role = role_of(path)
        if role != "other" and (folder / path).is_file():
            file = source_file(folder, path, role)
            if not is_pickled(_head(file.real)):
                yield file


def _head(file: Path) -> bytes:
    with file.open("rb") as stream:
        return stream.read(HEAD)


def role_of(path: str) -> Role:
    """Say what a file is there for, by its name."""
    name = path.lower()
    if not path.isprintable() or any(fnmatch.fnmatchcase(name, pattern) for pattern in _NEVER_COPIED):
        return "other"
    if name in ("config.json", "readme.md") and path not in ("config.json", "README.md"):
        return "other"
    for role, patterns in _ROLES:
        if any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns):
            return role
    return "other"


def source_file(folder: Path, path: str, role: Role) -> SourceFile:
    """Describe a file of a folder.

    Raises:
        RopextError: it is a link that leads elsewhere, or no regular file.
    """
    real = inside(folder, path)
    found = real.stat()
    if not stat.S_ISREG(found.st_mode):
        raise RopextError(f"{folder / path}: is no regular file.")
    return SourceFile(
        path,
        role,
        real,
        found.st_size,
        sha256=_cached_sha256(folder / path),
        cached=_in_cache(folder / path) or hub.is_snapshot(folder),
        stamp=stamp_of(found),
    )


def stamp_of(found: os.stat_result) -> Stamp:
    """Return that by which a file is known again."""
    return (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)


def inside(folder: Path, path: str) -> Path:
    """Resolve a file of a folder.

    Raises:
        RopextError: it is a link that leads out of the folder, and not into the download cache, or to itself.
    """
    file = folder / path
    real = real_path(file)
    if real.is_relative_to(folder.resolve()) or _in_cache(file):
        return real
    raise RopextError(
        f"{file}: is a symbolic link to {real}, outside the checkpoint; "
        "only links within a folder and into the Hugging Face cache are followed. Copy or hard-link the file."
    )


def is_within(folder: Path, path: str) -> bool:
    """Whether a path of a folder is a place in it: no part above the last leads elsewhere."""
    return (folder / path).parent.resolve().is_relative_to(folder.resolve())


def _in_cache(file: Path) -> bool:
    """Whether `snapshots/<revision>/<file>` is a link to `blobs/<name>`, a file that lies there itself."""
    snapshot = next((parent for parent in file.parents if parent.parent.name == "snapshots"), None)
    if snapshot is None or not file.is_symlink():
        return False
    target = Path(os.path.normpath(file.parent / os.readlink(file)))
    blobs = snapshot.parent.parent / "blobs"
    real = snapshot.parent.parent.resolve() / "blobs"
    return target.parent == blobs and file.resolve().parent == real


def _cached_sha256(file: Path) -> str | None:
    """Return the digest by which the download cache calls a large file."""
    name = Path(os.readlink(file)).name if file.is_symlink() and _in_cache(file) else ""
    return name if re.fullmatch("[0-9a-f]{64}", name) else None
