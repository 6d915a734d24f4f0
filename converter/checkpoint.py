"""A model folder as it is found: its facts, its files, and whether all of it is there.

Everything is learnt from `config.json` and the headers of the safetensors files; weights are never read.
"""

from __future__ import annotations

import fnmatch
import os
import re
import stat
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from . import hub
from .config import sliding_window
from .errors import RopextError, printable
from .json_object import MAX_BYTES, read_bounded, read_object
from .rope import head_dim_of, rope_of, rotary_dim, rotary_factor_of
from .safetensors_header import header_length, tensor_names
from .shipped import extended_class, families
from .unsupported import reason

__all__ = [
    "Checkpoint",
    "ModelFacts",
    "Role",
    "SourceFile",
    "Stamp",
    "carried_files",
    "facts_of",
    "findings",
    "read_checkpoint",
    "read_config",
    "read_facts",
    "require_supported",
    "require_tensors",
    "role_of",
    "shard_names",
    "source_file",
    "stamp_of",
    "without_private",
]

Role = Literal["weights", "index", "config", "card", "tokenizer", "generation", "quantization", "license", "other"]

INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"
MAX_CONFIG_BYTES = 4_000_000
MAX_SHARDS = 5_000
MAX_HEADERS_BYTES = 4 * MAX_BYTES
"""Of all shards together."""

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
_PICKLED = re.compile(rb"\x80[\x01-\x05]|PK\x03\x04")
"""How a pickle begins, or the archive that torch puts one into."""


@dataclass(frozen=True)
class ModelFacts:
    """What a method needs to know of a base model.

    Attributes:
        source: the folder or Hub id, as the user named it.
        model_type: the family, such as `llama`.
        architecture: the class that the checkpoint names, such as `LlamaForCausalLM`.
        head_dim: dimensions of a head.
        num_hidden_layers: decoder layers.
        num_attention_heads: query heads of a layer.
        num_key_value_heads: key heads of a layer.
        rope_theta: RoPE's base.
        rope_type: its scaling, `default` where there is none.
        trained_length: `max_position_embeddings`, tokens.
        partial_rotary_factor: the part of each head that RoPE turns.
    """

    source: str
    model_type: str
    architecture: str
    head_dim: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    rope_theta: float
    rope_type: str
    trained_length: int
    partial_rotary_factor: float = 1.0

    @property
    def rotary_dim(self) -> int:
        """Dimensions of a head that RoPE turns, in half as many frequency pairs."""
        return rotary_dim(self.head_dim, self.partial_rotary_factor)


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
        stamp: by which `emit` knows it again.
    """

    path: str
    role: Role
    real: Path
    size: int
    sha256: str | None = None
    cached: bool = False
    stamp: Stamp | None = None


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


def read_facts(source: str) -> ModelFacts:
    """Read what methods need to know of a model; of a Hub id only `config.json` is fetched.

    Args:
        source: a local folder or a Hub id.

    Raises:
        RopextError: there is no such model, or its configuration is not one of a base model with RoPE.
    """
    local = hub.resolve(source, only=("config.json",))
    return facts_of(read_config(local.folder)[0], source)


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
    require_supported(facts)
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
    if window := sliding_window(config):
        yield f"sliding_window of {window} tokens is turned off: every layer sees every token"
    yield from about_weights
    left_out = sorted(names - {file.path.split("/")[0] for file in files})
    if left_out:
        yield f"left out: {printable(', '.join(left_out))}"


def read_config(folder: Path) -> tuple[dict[str, Any], list[str]]:
    """Read `config.json` without its private keys.

    Keys that begin with `_` are transformers' own state; some make it load code (CVE-2026-4372). Those inside
    `quantization_config` are the quantizer's own and stay: torchao's settings cannot be read without. By
    `configuration_files` it would read another file in the place of this one.

    Args:
        folder: where it lies.

    Returns:
        The configuration and the dotted names of the keys that were dropped.

    Raises:
        RopextError: there is none, or it is not a JSON object.
    """
    file = folder / "config.json"
    if not file.is_file():
        raise RopextError(f"{folder}: no config.json: this is not a Hugging Face checkpoint.")
    config = read_object(_inside(folder, "config.json"), str(file), MAX_CONFIG_BYTES)
    return without_private(config)


def without_private(config: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Drop the keys by which transformers would load other code, or another configuration; see `read_config`.

    Returns:
        The configuration and the dotted names of the keys that were dropped.
    """
    dropped: list[str] = []
    return _without_private(config, "", dropped), dropped


def facts_of(config: Mapping[str, Any], source: str) -> ModelFacts:
    """Read a configuration, in either spelling, as the facts of a base model.

    Args:
        config: a `config.json`.
        source: what to call the model.

    Raises:
        RopextError: a fact is missing or out of range, or this is no plain base model.
    """
    _refuse_unplain(config, source)
    try:
        model_type = _model_type(config)
        theta, scaling = rope_of(config)
        heads = _count(config, "num_attention_heads")
        head_dim, factor = head_dim_of(config), rotary_factor_of(config)
        rotary_dim(head_dim, factor)
        return ModelFacts(
            source=source,
            model_type=model_type,
            architecture=_architecture(config),
            head_dim=head_dim,
            num_hidden_layers=_count(config, "num_hidden_layers"),
            num_attention_heads=heads,
            num_key_value_heads=_count(config, "num_key_value_heads", default=heads),
            rope_theta=theta,
            rope_type=scaling["rope_type"] if scaling else "default",
            trained_length=_count(config, "max_position_embeddings"),
            partial_rotary_factor=factor,
        )
    except RopextError as error:
        raise RopextError(f"{source}: {error}") from None


def require_supported(facts: ModelFacts) -> None:
    """Refuse a family or a class for which ropext ships no model code.

    Raises:
        RopextError: it names those that there are.
    """
    known = families()
    if facts.model_type not in known:
        raise RopextError(
            f"{facts.source}: model_type {facts.model_type!r} is not supported; ropext converts {', '.join(known)}."
        )
    extended_class(facts.model_type, facts.architecture)


def _refuse_unplain(config: Mapping[str, Any], source: str) -> None:
    if "rope_ext" in config:
        raise RopextError(f"{source}: has been converted by ropext already; convert its base model instead.")
    model_type = config.get("model_type")
    why = reason(model_type)
    if why:
        raise RopextError(
            f"{source}: model_type {model_type!r} cannot be converted: {why}; ropext converts {', '.join(families())}."
        )
    if config.get("auto_map"):
        raise RopextError(
            f"{source}: brings its own code (auto_map), which a converted checkpoint could not use as well; "
            "start from one whose model class is part of transformers."
        )


def _model_type(config: Mapping[str, Any]) -> str:
    value = config.get("model_type")
    if not isinstance(value, str) or not re.fullmatch(r"[a-z0-9_\-]+", value):
        raise RopextError(f"config.json: model_type: {value!r} does not name a model family.")
    return value


def _architecture(config: Mapping[str, Any]) -> str:
    names = config.get("architectures")
    if not isinstance(names, list) or len(names) != 1 or not isinstance(names[0], str):
        raise RopextError(f"config.json: architectures: expected one class name, found {names!r}.")
    return names[0]


def _count(config: Mapping[str, Any], key: str, default: int | None = None) -> int:
    value = config.get(key)
    value = default if value is None else value
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value < 2**31:
        raise RopextError(f"config.json: {key}: {value!r} is not a positive whole number of 31 bits.")
    return value


def _without_private(value: Any, path: str, dropped: list[str]) -> Any:
    """Copy a JSON value without keys that begin with an underscore, and list those."""
    if isinstance(value, list):
        return [_without_private(entry, path, dropped) for entry in value]
    if not isinstance(value, dict):
        return value
    kept = {}
    for key, entry in value.items():
        kernel = key == "attn_implementation" and not _is_word(entry)
        if key.startswith("_") or kernel or path + key == "configuration_files":
            dropped.append(path + key)
        elif path + key == "quantization_config":
            kept[key] = entry
        else:
            kept[key] = _without_private(entry, f"{path}{key}.", dropped)
    return kept


def _is_word(value: object) -> bool:
    """Whether it is the name of a kernel of transformers itself: one with a slash is fetched from the Hub, and run."""
    return value is None or (isinstance(value, str) and re.fullmatch(r"\w+", value) is not None)


# Files


def _names(folder: Path) -> set[str]:
    return {entry.name for entry in os.scandir(folder)}


def carried_files(folder: Path) -> Iterator[SourceFile]:
    """Yield everything that a conversion carries over beside the weights."""
    templates = folder / "additional_chat_templates"
    nested = [f"{templates.name}/{file.name}" for file in templates.iterdir()] if templates.is_dir() else []
    for path in sorted([entry.name for entry in os.scandir(folder)] + nested):
        role = role_of(path)
        if role != "other" and (folder / path).is_file():
            file = source_file(folder, path, role)
            if not _is_pickled(file.real):
                yield file


def _is_pickled(file: Path) -> bool:
    with file.open("rb") as stream:
        return _PICKLED.match(stream.read(4)) is not None


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
    real = _inside(folder, path)
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


def _inside(folder: Path, path: str) -> Path:
    """Resolve a file; refuse a link that leads out of the folder, except into the download cache."""
    file = folder / path
    real = file.resolve()
    if real.is_relative_to(folder.resolve()) or _in_cache(file):
        return real
    raise RopextError(
        f"{file}: is a symbolic link to {real}, outside the checkpoint; "
        "only links within a folder and into the Hugging Face cache are followed. Copy or hard-link the file."
    )


def _in_cache(file: Path) -> bool:
    """Whether `snapshots/<revision>/<file>` is a link to `blobs/<name>`, which may be a link itself."""
    snapshot = next((parent for parent in file.parents if parent.parent.name == "snapshots"), None)
    if snapshot is None or not file.is_symlink():
        return False
    target = Path(os.path.normpath(file.parent / os.readlink(file)))
    return target.parent == snapshot.parent.parent / "blobs"


def _cached_sha256(file: Path) -> str | None:
    """Return the digest by which the download cache calls a large file."""
    name = Path(os.readlink(file)).name if file.is_symlink() and _in_cache(file) else ""
    return name if re.fullmatch("[0-9a-f]{64}", name) else None


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


def _read_text(file: Path, name: str) -> str:
    try:
        return read_bounded(file, name, MAX_CONFIG_BYTES).decode()
    except UnicodeDecodeError as error:
        raise RopextError(f"{name}: not UTF-8: {error}.") from None
