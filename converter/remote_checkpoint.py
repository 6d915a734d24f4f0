"""A model on the Hub, checked without its weights: of those, the headers alone are fetched."""

from __future__ import annotations

from pathlib import Path

from . import hub
from .checkpoint import INDEX, SINGLE, Checkpoint, findings, require_tensors, shard_names
from .errors import RopextError
from .hub import LocalSource, Repository
from .model_facts import facts_of, read_config, require_supported
from .source_files import SourceFile, carried_files, source_file

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
    promised = _weights(repository, folder)
    names = list(promised)
    for path, tensors in promised.items():
        require_tensors(hub.tensors(repository, path).keys(), tensors, Path(f"{repo_id}: {path}"))
    absent = [path for path in names if repository.files[path].sha256]
    if len(absent) < len(names):  # what git itself holds is small
        hub.fetch_files(repository, [path for path in names if path not in absent])
    weights = [_source(repository, path, folder) for path in names]
    index = [] if SINGLE in names else [source_file(folder, INDEX, "index")]
    files = (*weights, *index, *carried_files(folder))
    found = {path.split("/")[0] for path in repository.files if not path.startswith(".")}
    notes = tuple(findings(config, dropped, files, found))
    return Checkpoint(folder, config, facts, files, notes), local, repository, absent


def _source(repository: Repository, path: str, folder: Path) -> SourceFile:
    held = repository.files[path]
    return SourceFile(path, "weights", folder / path, held.size, held.sha256)


def _weights(repository: Repository, folder: Path) -> dict[str, set[str]]:
    """Find the safetensors files that transformers would load, and the tensors that the index promises of each."""
    if SINGLE in repository.files:
        return {SINGLE: set()}
    if INDEX not in repository.files:
        pickled = ", ".join(path for path in repository.files if path.endswith((".bin", ".pth", ".pt")))
        found = f"only pickles, which can run code ({pickled})" if pickled else "neither"
        raise RopextError(f"{repository.repo_id}: ropext needs {SINGLE} or {INDEX} and found {found}.")
    promised: dict[str, set[str]] = {}
    for tensor, name in shard_names(folder, folder / INDEX).items():
        promised.setdefault(name, set()).add(tensor)
    for name in promised:
        if name not in repository.files:
            raise RopextError(f"{repository.repo_id}: {INDEX} names {name}, which is not there.")
    return dict(sorted(promised.items()))
