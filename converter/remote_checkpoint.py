"""A model on the Hub, checked without its weights: of those, the headers alone are fetched."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from . import hub
from .checkpoint import (
    INDEX,
    SINGLE,
    Checkpoint,
    SourceFile,
    _check_tensors,
    _others,
    _shards,
    _source_file,
    facts_of,
    read_config,
    require_supported,
)
from .config import sliding_window
from .errors import RopextError
from .hub import LocalSource, Repository

__all__ = ["read_remote_checkpoint"]


def read_remote_checkpoint(
    repo_id: str, revision: str | None = None
) -> tuple[Checkpoint, LocalSource, Repository, list[str]]:
    """Check a model on the Hub as a whole and describe it.

    Args:
        repo_id: which.
        revision: branch, tag or commit, by default `main`.

    Returns:
        The checkpoint, where its small files are, the repository, and the weights that were not downloaded.

    Raises:
        RopextError: it cannot be converted, or the Hub refuses or cannot be reached.
    """
    repository = hub.look_up(repo_id, revision)
    local = hub.fetch(repo_id, repository.revision, hub.SMALL)
    folder = local.folder.resolve()
    config, dropped = read_config(folder)
    facts = facts_of(config, repo_id)
    require_supported(facts)
    names = list(_weights(repository, folder))
    for path in names:
        _check_header(repository, path, folder)
    absent = [path for path in names if repository.files[path].sha256]
    if len(absent) < len(names):  # what git itself holds is small
        hub.fetch(repo_id, repository.revision, [path for path in names if path not in absent])
    weights = [_source(repository, path, folder) for path in names]
    index = [] if SINGLE in names else [_source_file(folder, INDEX, "index")]
    files = (*weights, *index, *_others(folder))
    notes = tuple(_notes(config, dropped, repository, files))
    return Checkpoint(folder, config, facts, files, notes), local, repository, absent


def _source(repository: Repository, path: str, folder: Path) -> SourceFile:
    held = repository.files[path]
    return SourceFile(path, "weights", folder / path, held.size, held.sha256)


def _weights(repository: Repository, folder: Path) -> Iterator[str]:
    """Yield the safetensors files that transformers would load."""
    if SINGLE in repository.files:
        yield SINGLE
        return
    if INDEX not in repository.files:
        pickled = ", ".join(path for path in repository.files if path.endswith((".bin", ".pth", ".pt")))
        found = f"only pickles, which can run code ({pickled})" if pickled else "neither"
        raise RopextError(f"{repository.repo_id}: ropext needs {SINGLE} or {INDEX} and found {found}.")
    for name in sorted(set(_shards(folder, folder / INDEX).values())):
        if name not in repository.files:
            raise RopextError(f"{repository.repo_id}: {INDEX} names {name}, which is not there.")
        yield name


def _check_header(repository: Repository, path: str, folder: Path) -> None:
    """Hold a file's header against its size and against the index."""
    name, size = f"{repository.repo_id}: {path}", repository.files[path].size
    held, extent = hub.tensors(repository, path)
    if 8 + extent > size:
        raise RopextError(f"{name}: cut off: its header promises {extent} bytes of tensors, and it has {size} in all.")
    if path != SINGLE:
        promised = {tensor for tensor, shard in _shards(folder, folder / INDEX).items() if shard == path}
        _check_tensors(held, promised, Path(name))


def _notes(
    config: Mapping[str, object], dropped: list[str], repository: Repository, files: tuple[SourceFile, ...]
) -> Iterator[str]:
    carried = {file.path.split("/")[0] for file in files}
    left_out = sorted({path.split("/")[0] for path in repository.files if not path.startswith(".")} - carried)
    if dropped:
        yield f"private keys of config.json dropped: {', '.join(dropped)}"
    if window := sliding_window(config):
        yield f"sliding_window of {window} tokens is turned off: every layer sees every token"
    if left_out:
        yield f"left out: {', '.join(left_out)}"
