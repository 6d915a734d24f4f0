"""A base model as it is found, in a folder or on the Hub: its facts, its files, and whether all of it is there.

Everything is learnt from `config.json` and the headers of the safetensors files; weights are never read.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from ropext.converter.errors import RopextError
from ropext.converter.files.json_object import parse_object, read_bounded
from ropext.converter.hub import client as hub
from ropext.converter.hub.types import LocalSource, Repository
from ropext.converter.text import printable

from .config_keys import without_unknown
from .description import describe
from .facts import MAX_CONFIG_BYTES, ModelFacts, extended_class, facts_of, read_config, require_no_adapter
from .places import Place, in_folder, on_hub
from .roles import SourceFile, carried_files, source_file
from .tensors import notes_on_tensors

__all__ = [
    "Checkpoint",
    "Remote",
    "promised_tensors",
    "read_checkpoint",
    "read_remote_checkpoint",
    "require_metadata",
    "require_tensors",
]

INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"
MAX_SHARDS = 5_000
MAX_TENSORS = 1_000_000
"""Of all shards together."""


@dataclass(frozen=True)
class Checkpoint:
    """A base model, checked and ready to be converted.

    Attributes:
        folder: the folder it lies in, resolved.
        config: its `config.json` without private keys and those that its family does not know.
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


@dataclass(frozen=True)
class Remote:
    """A base model on the Hub.

    Attributes:
        checkpoint: what it is.
        local: where its small files are.
        repository: what the Hub says of it.
        absent: the weights that were not downloaded.
    """

    checkpoint: Checkpoint
    local: LocalSource
    repository: Repository
    absent: tuple[str, ...]


def read_checkpoint(folder: Path, source: str | None = None) -> Checkpoint:
    """Check a local model folder as a whole and describe it.

    Args:
        folder: where `config.json` and the weights lie.
        source: what to call it in messages; the folder itself by default.

    Raises:
        RopextError: it cannot be converted; the message says why and what to do.
    """
    folder = folder.resolve()
    return _read(in_folder(folder), source or str(folder))


def read_remote_checkpoint(repo_id: str, revision: str | None = None) -> Remote:
    """Check a model on the Hub as a whole and describe it; no more than small files and headers are downloaded.

    Args:
        repo_id: which.
        revision: branch, tag or commit, by default `main`.

    Raises:
        RopextError: it cannot be converted, or the Hub refuses or cannot be reached.
    """
    repository = hub.look_up(repo_id, revision)
    place = on_hub(repository)
    checkpoint = _read(place, repo_id)
    names = [file.path for file in checkpoint.files if file.role == "weights"]
    absent = tuple(path for path in names if repository.files[path].sha256)
    if len(absent) < len(names):  # what git itself holds is small
        hub.fetch_files(repository, [path for path in names if path not in absent])
    return Remote(checkpoint, LocalSource(place.folder, repo_id, repository.revision), repository, absent)


def _read(place: Place, source: str) -> Checkpoint:
    config, dropped = read_config(place.folder)
    facts = facts_of(config, source)
    extended_class(facts)  # or it cannot be converted
    config, unknown = without_unknown(config)
    require_no_adapter(place.entries, place.name)
    weights, notes, names = _weights(place)
    notes += notes_on_tensors(config, names, place.name)
    files = (*weights, *carried_files(place.folder))
    found = _findings(config, [*dropped, *unknown], files, place.entries, notes)
    return Checkpoint(place.folder, config, facts, files, tuple(found))


def _findings(
    config: Mapping[str, Any],
    dropped: Sequence[str],
    files: Sequence[SourceFile],
    names: Set[str],
    about_weights: Sequence[str],
) -> Iterator[str]:
    """Yield what the user should know: of the configuration, the weights, and the files that are not carried over."""
    if dropped:
        named = printable(", ".join(dropped))[:500]
        yield f"keys of config.json dropped, as they are private or no class of this family knows them: {named}"
    base = describe(config)
    if len(base.layers) < base.num_layers and not base.window:
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


# Weights


def _weights(place: Place) -> tuple[tuple[SourceFile, ...], list[str], Set[str]]:
    """Find and check the safetensors files that transformers would load; with notes, and the tensors' names."""
    if place.has(SINGLE):
        single = place.weights(SINGLE)
        names = _tensors(place, SINGLE)
        note = f"{INDEX} is left out with its shards: transformers loads {SINGLE} where both are there"
        return (single,), [note] if place.has(INDEX) else [], names
    if not place.has(INDEX):
        raise RopextError(_no_weights(place))
    index = source_file(place.folder, INDEX, "index")
    files, count = [], 0
    found: set[str] = set()
    holders: dict[str, list[str]] = {}
    promises = promised_tensors(read_bounded(index.real, _called(place, INDEX)), place.name)
    for path, promised in promises.items():
        if not place.has(path):
            raise RopextError(f"{_called(place, INDEX)}: names {path}, which is not there; download it again.")
        files.append(place.weights(path))
        held = _tensors(place, path)
        count += len(held)
        if count > MAX_TENSORS:
            raise RopextError(f"{_called(place, INDEX)}: its files hold more than {MAX_TENSORS} tensors.")
        require_tensors(held, promised, _called(place, path))
        found |= held
        for name in held - promised:
            holders.setdefault(name, []).append(path)
    return (*files, index), list(_beside_the_index(holders, set().union(*promises.values()))), found


def _beside_the_index(holders: Mapping[str, Sequence[str]], promised: Set[str]) -> Iterator[str]:
    """Note tensors that lie in files of which the index does not say so.

    Args:
        holders: of each such tensor, the files.
        promised: all tensors that the index names.
    """
    for twice, what in (
        (False, "which {index} does not name: versions of transformers differ in whether they load it"),
        (True, "and {index} names another file for it: versions of transformers differ in which they load"),
    ):
        names = sorted(name for name in holders if (name in promised) is twice)
        if names:
            more = f" and {len(names) - 1} more" if len(names) > 1 else ""
            held = f"weights: {printable(holders[names[0]][0])} holds {printable(names[0])}{more}"
            yield f"{held}, {what.format(index=INDEX)}"


def _called(place: Place, path: str) -> str:
    """Return what to call a file in messages."""
    return str(place.folder / path) if place.here else f"{place.name}: {path}"


def _tensors(place: Place, path: str) -> Set[str]:
    return place.shapes(path).keys()


def _no_weights(place: Place) -> str:
    needed = f"{place.name}: ropext needs {SINGLE} or {INDEX} and found"
    held = sorted(name for name in place.entries if name.endswith(".safetensors"))
    named = printable(", ".join(held[:_NAMED]))
    if any("-of-" in name for name in held):
        return f"{needed} only {named}: without the index nobody knows whether that is all; download {INDEX} too."
    if held:
        return (
            f"{needed} only {named}, which transformers does not load by itself. If that is the whole model in "
            f"transformers' own names, rename it to {SINGLE}."
        )
    pickled = sorted(name for name in place.entries if name.endswith((".bin", ".pth", ".pt")))
    found = f"only pickles, which can run code ({', '.join(pickled)})" if pickled else "neither"
    return (
        f"{needed} {found}. To convert pickled weights that you "
        "trust: load them with AutoModelForCausalLM.from_pretrained and save them with its save_pretrained."
    )


_NAMED = 4
"""Files that a message names."""


def promised_tensors(index: bytes, name: str) -> dict[str, set[str]]:
    """Read which tensors each file holds, by its index.

    Args:
        index: what it says.
        name: of the folder or repository, for messages.

    Raises:
        RopextError: it names none, too many, or files outside the folder.
    """
    name = f"{name}: {INDEX}"
    content = parse_object(index, name)
    require_metadata(content, name)
    mapping = content.get("weight_map")
    if not isinstance(mapping, dict) or not mapping:
        raise RopextError(f"{name}: no weight_map; download it again.")
    shards: dict[str, set[str]] = {}
    for tensor, path in mapping.items():
        if not isinstance(path, str) or not _is_plain(path):
            raise RopextError(f"{name}: {path!r} is not the name of a safetensors file within the folder.")
        shards.setdefault(path, set()).add(tensor)
    if len(shards) > MAX_SHARDS:
        raise RopextError(f"{name}: names more than {MAX_SHARDS} files.")
    return dict(sorted(shards.items()))


def require_metadata(index: Mapping[str, Any], name: str) -> None:
    """Refuse an index that no transformers reads.

    Raises:
        RopextError: it has no `metadata`.
    """
    if not isinstance(index.get("metadata"), dict):
        raise RopextError(f'{name}: no metadata, without which transformers does not load it; add `"metadata": {{}}`.')


def _is_plain(name: str) -> bool:
    """Whether it is a relative path as it would be listed: printable, without `..`, backslashes or hidden parts."""
    path = PurePosixPath(name)
    plain = name.isprintable() and not ("\\" in name or ":" in name or len(name) > 240) and str(path) == name
    hidden = path.is_absolute() or any(part.startswith(".") for part in path.parts)
    return plain and not hidden and path.suffix == ".safetensors"


def require_tensors(held: Set[str], promised: Set[str], name: str) -> None:
    """Refuse a file without the tensors that the index promises of it.

    Raises:
        RopextError: it names the first.
    """
    missing = sorted(promised - held)
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise RopextError(f"{name}: {INDEX} promises {missing[0]}{more}, which it does not hold; download both again.")
