"""A model folder as it is found: its facts, its files, and whether all of it is there.

Everything is learnt from `config.json` and the headers of the safetensors files; weights are never read.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from ropext.converter.errors import RopextError
from ropext.converter.files.json_object import MAX_BYTES, read_bounded, read_object
from ropext.converter.files.safetensors_header import header_length, tensor_names
from ropext.converter.hub import client as hub
from ropext.converter.hub.types import LocalSource, Repository
from ropext.converter.text import printable

from .description import describe
from .facts import MAX_CONFIG_BYTES, ModelFacts, extended_class, facts_of, read_config
from .roles import SourceFile, carried_files, source_file

__all__ = ["Checkpoint", "findings", "read_checkpoint", "read_remote_checkpoint", "require_tensors", "shard_names"]

INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"
MAX_SHARDS = 5_000
MAX_HEADERS_BYTES = 4 * MAX_BYTES
"""Of all shards together."""


@dataclass(frozen=True)
class Checkpoint:
    """A base model, checked and ready to be converted.

    Attributes:
        folder: the folder it lies in, resolved.
        config: its `config.json` without private keys.
        facts: what methods need to know.
        files: those that a conversion may carry over, by path.
        notes: what the user should know of what was found.
    """

    folder: Path
    config: Mapping[str, Any]
    facts: ModelFacts
    files: tuple[SourceFile, ...]
    notes: tuple[str, ...]

    @property
    def weights(self) -> tuple[SourceFile, ...]:
        """The safetensors files that hold the model, and their index if there is one."""
        return tuple(file for file in self.files if file.role in ("weights", "index"))

    def text(self, path: str) -> str | None:
        """Return the text of a small file, or None if the checkpoint has no such file.

        Raises:
            RopextError: the file is not UTF-8, or longer than such a file can be.
        """
        found = next((file for file in self.files if file.path == path), None)
        return _read_text(found.real, path) if found else None


def read_checkpoint(folder: Path, source: str | None = None) -> Checkpoint:
    """Check a local model folder as a whole and describe it.

    Args:
        folder: where `config.json` and the weights lie.
        source: what to call it in messages and provenance; the folder itself by default.

    Raises:
        RopextError: it cannot be converted; the message says why and what to do.
    """
    folder = folder.resolve()
    config, dropped = read_config(folder)
    facts = facts_of(config, source or str(folder))
    extended_class(facts)  # or it cannot be converted
    weights, notes = _weights(folder)
    files = (*weights, *carried_files(folder))
    return Checkpoint(folder, config, facts, files, tuple(findings(config, dropped, files, _names(folder), notes)))


def findings(
    config: Mapping[str, Any],
    dropped: Sequence[str],
    files: Sequence[SourceFile],
    names: Set[str],
    about_weights: Sequence[str] = (),
) -> Iterator[str]:
    """Yield what the user should know of a checkpoint.

    Args:
        config: its configuration.
        dropped: the private keys that were dropped from there.
        files: those that a conversion carries over.
        names: of all its files and folders.
        about_weights: what was found of its weights.
    """
    if dropped:
        yield f"private keys of config.json dropped: {printable(', '.join(dropped))[:500]}"
    base = describe(config)
    if base.window:
        yield f"sliding_window of {base.window} tokens is turned off: every layer sees every token"
    elif len(base.layers) < base.num_layers:
        yield f"{len(base.layers)} of {base.num_layers} layers have full attention with RoPE; the others stay"
    yield from about_weights
    left_out = sorted(names - {file.path.split("/")[0] for file in files})
    if left_out:
        yield f"left out: {printable(', '.join(left_out))}"


def _read_text(file: Path, name: str) -> str:
    try:
        return read_bounded(file, name, MAX_CONFIG_BYTES).decode()
    except UnicodeDecodeError as error:
        raise RopextError(f"{name}: not UTF-8: {error}.") from None


def _names(folder: Path) -> set[str]:
    return {entry.name for entry in os.scandir(folder)}


# Weights


def _weights(folder: Path) -> tuple[tuple[SourceFile, ...], list[str]]:
    """Find and check the safetensors files that transformers would load."""
    if (folder / SINGLE).exists():
        single = source_file(folder, SINGLE, "weights")
        tensor_names(single.real, str(folder / SINGLE))
        note = f"{INDEX} is left out with its shards: transformers loads {SINGLE} where both are there"
        return (single,), [note] if (folder / INDEX).exists() else []
    if not (folder / INDEX).exists():
        raise RopextError(_no_weights(folder))
    index = source_file(folder, INDEX, "index")
    shards: dict[str, set[str]] = {}
    for tensor, name in shard_names(folder, index.real).items():
        shards.setdefault(name, set()).add(tensor)
    files, headers = [], 0
    for name, promised in sorted(shards.items()):
        if not (folder / name).is_file():
            raise RopextError(f"{folder / INDEX}: names {name}, which is not there; download it again.")
        file = source_file(folder, name, "weights")
        headers += header_length(file.real, str(folder / name))
        if headers > MAX_HEADERS_BYTES:
            raise RopextError(f"{folder / INDEX}: the headers of its files are longer than {MAX_HEADERS_BYTES} bytes.")
        require_tensors(tensor_names(file.real, str(folder / name)), promised, folder / name)
        files.append(file)
    return (*files, index), []


def _no_weights(folder: Path) -> str:
    names = _names(folder)
    if "adapter_config.json" in names:
        return f"{folder}: is a PEFT adapter; merge it into its base model first (`merge_and_unload`)."
    pickled = sorted(name for name in names if name.endswith((".bin", ".pth", ".pt")))
    found = f"only pickles, which can run code ({', '.join(pickled)})" if pickled else "neither"
    return (
        f"{folder}: ropext needs {SINGLE} or {INDEX} and found {found}. To convert pickled weights that you "
        "trust: load them with AutoModelForCausalLM.from_pretrained and save them with its save_pretrained."
    )


def shard_names(folder: Path, index: Path) -> dict[str, str]:
    """Read which file holds each tensor.

    Args:
        folder: what to name in messages.
        index: the file to read.

    Raises:
        RopextError: it names none, too many, or files outside the folder.
    """
    file = folder / INDEX
    mapping = read_object(index, str(file)).get("weight_map")
    if not isinstance(mapping, dict) or not mapping:
        raise RopextError(f"{file}: no weight_map; download it again.")
    for name in mapping.values():
        if not isinstance(name, str) or not _is_plain(name):
            raise RopextError(f"{file}: {name!r} is not the name of a safetensors file within the folder.")
    if len(set(mapping.values())) > MAX_SHARDS:
        raise RopextError(f"{file}: names more than {MAX_SHARDS} files.")
    return mapping


def _is_plain(name: str) -> bool:
    """Whether it is a relative path as it would be listed: printable, without `..`, backslashes or hidden parts."""
    path = PurePosixPath(name)
    plain = name.isprintable() and not ("\\" in name or ":" in name or len(name) > 240) and str(path) == name
    hidden = path.is_absolute() or any(part.startswith(".") for part in path.parts)
    return plain and not hidden and path.suffix == ".safetensors"


def require_tensors(held: Set[str], promised: Set[str], file: Path) -> None:
    """Refuse a file without the tensors that the index promises of it.

    Raises:
        RopextError: it names the first.
    """
    missing = sorted(promised - held)
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise RopextError(f"{file}: {INDEX} promises {missing[0]}{more}, which it does not hold; download both again.")


# Remote


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
    extended_class(facts)  # or it cannot be converted
    promised = _remote_weights(repository, folder)
    names = list(promised)
    for path, tensors in promised.items():
        require_tensors(hub.tensors(repository, path).keys(), tensors, Path(f"{repo_id}: {path}"))
    absent = [path for path in names if repository.files[path].sha256]
    if len(absent) < len(names):  # what git itself holds is small
        hub.fetch_files(repository, [path for path in names if path not in absent])
    weights = [_remote_source(repository, path, folder) for path in names]
    index = [] if SINGLE in names else [source_file(folder, INDEX, "index")]
    files = (*weights, *index, *carried_files(folder))
    found = {path.split("/")[0] for path in repository.files if not path.startswith(".")}
    notes = tuple(findings(config, dropped, files, found))
    return Checkpoint(folder, config, facts, files, notes), local, repository, absent


def _remote_source(repository: Repository, path: str, folder: Path) -> SourceFile:
    held = repository.files[path]
    return SourceFile(path, "weights", folder / path, held.size, held.sha256)


def _remote_weights(repository: Repository, folder: Path) -> dict[str, set[str]]:
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
