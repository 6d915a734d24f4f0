"""Whether a converted checkpoint is what it says: files, code and numbers as recorded, and a model that computes them.

Nothing of the checkpoint is executed: its code is compared, byte by byte, with this ropext's, which runs instead, in
a process of its own.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from ropext.converter import __version__, model_code
from ropext.converter.checkpoint.config_keys import known_generation_keys, unknown_keys
from ropext.converter.checkpoint.facts import without_private
from ropext.converter.checkpoint.places import Place, find_place
from ropext.converter.checkpoint.read import INDEX, SINGLE, require_metadata, require_tensors
from ropext.converter.convert.config import FORMAT
from ropext.converter.convert.record import Entry, Record, stray_faults
from ropext.converter.convert.tokenizer import FILE as TOKENIZER_CONFIG
from ropext.converter.convert.tokenizer import GENERATION, keys_of_elsewhere
from ropext.converter.converted.read import Converted, Rebuilt, differences, parse_converted, rebuild
from ropext.converter.errors import RopextError, UsageError
from ropext.converter.files.contents import Reading
from ropext.converter.files.json_object import parse_object
from ropext.converter.files.pickles import is_pickled
from ropext.converter.names import CARD, CONFIG, PROVENANCE
from ropext.converter.text import printable, size_text

from .loaded import is_carried, is_loaded
from .model_process import Bounds, ModelProcess
from .report import Check, Faults, Report, Unchecked, Unpromised, carried_out, require_none, summary

__all__ = ["Check", "Hear", "Report", "verify"]

Hear = Callable[[str, Check | None], None]


def verify(
    source: str | Path,
    revision: str | None = None,
    *,
    quick: bool = False,
    whole: bool = False,
    minutes: float | None = None,
    memory: float | None = None,
    reading: Reading | None = None,
    hear: Hear | None = None,
) -> Report:
    """Check a converted folder, or a repository as far as that goes without its weights.

    The model runs in a process of its own. What that takes beyond its bounds is given up, and the report is not good.

    Args:
        source: a folder or a Hub id; a folder of that name wins.
        revision: branch, tag or commit of a Hub id.
        quick: read no weights, and run no model.
        whole: run the model as it is, and not a part of it.
        minutes: bound on the time of the checks that run a model, together; 20 by default.
        memory: bound on the memory of these, in GiB; by default 80 % of the machine's. On Linux only.
        reading: told of bytes as they are read.
        hear: called when a check begins, with its name and None, and when it ends, with its name and what came out.

    Raises:
        UsageError: it is nothing that ropext converted, a repository that is to be run whole, or a bound is none.
        HubFailure: the Hub refuses or cannot be reached.
    """
    place = find_place(str(source), revision, reading)
    if whole and not place.here:
        raise UsageError(f"{source}: its weights are not here, so --forward does not apply to it; download it first.")
    bounds = Bounds.of(minutes, memory)
    return _Verification(place, bounds, quick=quick, whole=whole, hear=hear).report()


class _Verification:
    """The checks of one checkpoint. Each returns what it did, or raises what it found."""

    def __init__(self, place: Place, bounds: Bounds, *, quick: bool, whole: bool, hear: Hear | None) -> None:
        self.place, self.quick, self.whole, self.hear = place, quick, whole, hear or (lambda name, check: None)
        self.bounds = bounds
        self.process: ModelProcess | None = None
        self.found: Record | None = None
        self.checks: list[Check] = []

    def report(self) -> Report:
        """Do all of them."""
        self._carry_out("record")
        try:
            for name in ("files", "weights", "headers", "code", "config", "reference", "base") if self.found else ():
                self._carry_out(name)
        finally:
            if self.process:
                self.process.close()
        return Report(
            self.place.name, self.found.ropext_version if self.found else "", tuple(self.checks), self.place.revision
        )

    def _carry_out(self, name: str) -> None:
        self.hear(name, None)
        self.checks.append(carried_out(name, getattr(self, f"check_{name}")))
        self.hear(name, self.checks[-1])

    @property
    def record(self) -> Record:
        """What `ropext.json` says, once it is read."""
        assert self.found
        return self.found

    @cached_property
    def converted(self) -> Converted:
        """What the two files say together."""
        if CONFIG not in self.place.paths:
            raise RopextError(f"{CONFIG} is missing")
        return parse_converted(self.place.name, self.place.read(CONFIG), self.record)

    @cached_property
    def rebuilt(self) -> Rebuilt:
        """What the recorded preset gives."""
        return rebuild(self.converted)

    @property
    def files(self) -> Mapping[str, Entry]:
        """The recorded files."""
        return self.record.files

    @property
    def same_version(self) -> bool:
        """Whether this ropext made it."""
        return self.record.ropext_version == __version__

    def check_record(self) -> str:
        """`ropext.json`: as ropext writes it, and of the same conversion as `config.json`."""
        data = self.place.read(PROVENANCE)
        self.found = Record.parse(data, self.place.name)
        self.place.fetch(path for path in {CONFIG, TOKENIZER_CONFIG, GENERATION, *self.files} if not _is_weights(path))
        version = self.record.ropext_version
        faults = [] if _VERSION.fullmatch(version) else [f"{PROVENANCE}: ropext_version: {version!r} is none"]
        faults += stray_faults(data, self.record)
        for key, found, given in self._named_twice():
            faults += [f"{PROVENANCE}: {key} is {given!r}, and {CONFIG} says {found!r}"] if found != given else []
        require_none(faults)
        return f"made by ropext {self.record.ropext_version}, {self.record.method}"

    def _named_twice(self) -> Iterator[tuple[str, Any, Any]]:
        try:
            block = self.converted.block
        except RopextError:
            return  # and said where it is checked
        yield "method", block.get("method"), self.record.method
        yield "preset", block.get("preset"), self.record.preset.name
        yield "ropext_version", block.get("ropext_version"), self.record.ropext_version

    def check_files(self) -> str:
        """Every file but weights: there, of its size and its digest; none beside them that loading would use."""
        paths = [path for path in self.files if not _is_weights(path)]
        edited = [CARD] if CARD in paths and list(self._file_faults(CARD)) else []
        faults = [fault for path in paths if path != CARD for fault in self._file_faults(path)]
        faults += [f"{path}: no digest of it is recorded" for path in paths if not self.files[path].sha256]
        faults += [f"{printable(path)}: is no file that a conversion makes" for path in paths if not is_carried(path)]
        faults += [f"{printable(path)}: {why}" for path, why in self.place.astray() if not _is_weights(path)]
        pickled = [path for path in paths if path in self.place.paths and is_pickled(self.place.head(path))]
        faults += [
            f"{printable(path)}: is a pickle or an archive, which a conversion does not carry" for path in pickled
        ]
        others = sorted(self.place.paths - set(self.files) - {PROVENANCE})
        used = [path for path in others if is_loaded(path)]
        faults += [f"{printable(path)}: was added, and loading would use it" for path in used]
        require_none(faults)
        size = size_text(sum(self.place.size(path) for path in paths if path in self.place.paths))
        notes = ["; the card was written anew since"] * bool(edited)
        notes += [f"; not of the conversion: {printable(', '.join(others))}"] if others else []
        return f"{len(paths)} files, {size}, as recorded{''.join(notes)}"

    def _file_faults(self, path: str) -> Iterator[str]:
        entry = self.files[path]
        if path not in self.place.paths:
            yield f"{path}: is missing"
        elif self.place.size(path) != entry.size:
            yield f"{path}: has {self.place.size(path)} bytes, and {entry.size} were recorded"
        elif entry.sha256 and self.place.sha256(path) != entry.sha256:
            yield f"{path}: is not what was recorded: its SHA-256 is another"

    def check_weights(self) -> str:
        """The digests of weights."""
        if self.quick and self.place.here:
            raise Unchecked("not read (--quick)")
        paths = [path for path in self.files if _is_weights(path)]
        astray = [(path, why) for path, why in self.place.astray() if _is_weights(path)]
        if "symlink" not in self.record.link:
            require_none([f"{printable(path)}: {why}" for path, why in astray])
        require_none([fault for path in paths for fault in self._file_faults(path)])
        if astray:
            raise Unchecked(
                f"{printable(astray[0][0])}: {astray[0][1]}: what is there can change; copy it into the folder"
            )
        unknown = [path for path in paths if not self.files[path].sha256]
        if unknown:
            raise Unchecked(
                f"{len(unknown)} of {len(paths)} files have no digest, as they were linked unread; "
                "convert again with --digests"
            )
        size = size_text(sum(self.place.size(path) for path in paths))
        return f"{len(paths)} files, {size}, as recorded"

    def check_headers(self) -> str:
        """The weights' headers: whole, as the index says, and of the shapes that the configuration asks for."""
        if not self.place.here and self.quick:
            raise Unchecked("not fetched (--quick)")
        wanted = {path for path in self.files if _is_weights(path)}
        if SINGLE in self.place.paths:
            promised: dict[str, set[str]] = {SINGLE: set()}
        else:
            promised = self._index()
        if set(promised) != wanted:
            raise Faults([f"transformers would load {_listed(promised)}, and {_listed(wanted)} were recorded"])
        held: dict[str, Any] = {}
        for path, names in promised.items():
            if path not in self.place.paths:
                raise Faults([f"{path}: is missing"])
            shapes = self.place.shapes(path)
            require_tensors(shapes.keys(), names, path)
            held |= shapes
        if self.quick:
            return f"{len(held)} tensors; not compared with {CONFIG} (--quick)"
        self._require_readable()
        self._ask("headers", shapes={name: list(shape) for name, shape in held.items()})
        about = (
            "; of quantized ones, the names are the quantizer's"
            if "quantization_config" in self.converted.config
            else ""
        )
        return f"{len(held)} tensors, as {CONFIG} asks for{about}"

    def _index(self) -> dict[str, set[str]]:
        """The tensors that the index promises of each file."""
        if INDEX not in self.place.paths:
            raise Faults([f"neither {SINGLE} nor {INDEX} is there"])
        index = parse_object(self.place.read(INDEX), INDEX)
        require_metadata(index, INDEX)
        mapping = index.get("weight_map")
        promised: dict[str, set[str]] = {}
        for tensor, path in mapping.items() if isinstance(mapping, dict) else ():
            promised.setdefault(str(path), set()).add(tensor)
        return promised

    def check_code(self) -> str:
        """The shipped code: byte for byte what ropext ships."""
        held = {path for path in self.place.paths if path.endswith(".py")}
        if self.record.native:
            require_none([f"{path}: a native export has no code" for path in sorted(held)])
            return "none, as a native export has none"
        version = self.record.ropext_version
        wanted = model_code.under_version(self.converted.family, self.rebuilt.preset.method, version)
        faults = [f"{path}: is missing" for path in sorted(wanted.keys() - held)]
        faults += [
            f"{printable(path)}: ropext {__version__} ships no such file" for path in sorted(held - wanted.keys())
        ]
        faults += [
            f"{path}: is not that of ropext {__version__}"
            for path in sorted(held & wanted.keys())
            if self.place.read(path) != wanted[path]
        ]
        if faults and not self.same_version:
            raise Unchecked(
                f"not known: {printable(faults[0])}; it says that ropext {version} made it, and this one, "
                f"{__version__}, knows no code but its own; do not load it before `ropext upgrade` has replaced that"
            )
        require_none([self._of_older_format()] if faults and self.older_format else faults)
        as_of = "" if self.same_version else f", as ropext {version} has them"
        return f"{len(wanted)} files, those of ropext {__version__}{as_of}"

    def check_config(self) -> str:
        """`config.json`: what the recorded preset gives for the base, and no way to code from elsewhere."""
        config = self.converted.config
        require_none(list(self._strays(config)))
        rebuilt = self.rebuilt.config if self.same_version else _with_version(self.rebuilt.config, config)
        faults = list(differences(config, rebuilt))
        if faults and not self.same_version:
            raise Unchecked(
                f"made by ropext {self.record.ropext_version}; this one, {__version__}, would write it otherwise: "
                f"{summary(faults)}"
            )
        require_none(([self._of_older_format()] if self.older_format else []) + faults)
        if GENERATION in self.place.paths and not self.quick:
            self._ask("config", generation=parse_object(self.place.read(GENERATION), GENERATION))
        numbers = len(self.converted.block["inv_freq"])
        return f"what the preset {self.rebuilt.preset.name} gives: {numbers} frequencies, {self._tables()}, guards"

    def _tables(self) -> str:
        tables = self.converted.block["tables"]
        return f"tables {', '.join(tables)}" if tables else "no tables"

    def _strays(self, config: Mapping[str, Any]) -> Iterator[str]:
        """Name what would make transformers run code that is not the conversion's."""
        strange = [*without_private(config)[1], *unknown_keys(config, converted=True)]
        yield from (
            f"{printable(key)}: is no key that ropext knows; convert the base again, which leaves it out"
            for key in dict.fromkeys(strange)
        )
        references = config.get("auto_map", {})
        for reference in references.values() if isinstance(references, dict) else [references]:
            file = reference.partition(".")[0] + ".py" if isinstance(reference, str) else ""
            if not re.fullmatch(r"[\w.]+", str(reference)) or file not in self.files:
                yield f"auto_map: {printable(repr(reference))} is no class of this checkpoint"
        if TOKENIZER_CONFIG in self.place.paths:
            tokenizer = parse_object(self.place.read(TOKENIZER_CONFIG), TOKENIZER_CONFIG)
            for key in keys_of_elsewhere(tokenizer):
                yield f"{TOKENIZER_CONFIG}: {printable(key)}: names code or files for the tokenizer"
        if GENERATION in self.place.paths:
            settings = parse_object(self.place.read(GENERATION), GENERATION)
            for key in sorted(settings.keys() - known_generation_keys()):
                yield f"{GENERATION}: {printable(key)}: is no setting of generation"

    def check_reference(self) -> str:
        """The model loads, and reads as a reference does."""
        self._require_runnable()
        return self._ask("reference")

    def check_base(self) -> str:
        """Within the method's windows, the model is the base."""
        self._require_runnable()
        return self._ask("base")

    def _ask(self, name: str, **more: Any) -> str:
        """Let the process of the model do a check."""
        if self.process is None:
            paths = sorted(path for path in self.files if _is_weights(path)) if self.place.here else []
            checkpoint = {
                "name": self.place.name,
                "record": self.place.read(PROVENANCE).decode(),
                "config": self.place.read(CONFIG).decode(),
                "weights": [str(self.place.file(path)) for path in paths],
                "whole": self.whole and self.place.here,
            }
            self.process = ModelProcess(checkpoint, self.bounds)
        check = self.process.ask({"check": name, **more})
        require_none(check.faults)
        if check.status != "good":
            raise (Unpromised if check.status == "none" else Unchecked)(check.text)
        return check.text

    def _require_runnable(self) -> None:
        if self.quick:
            raise Unchecked("no model is run (--quick)")
        bad = [check.name for check in self.checks if check.name in ("headers", "config") and check.status == "bad"]
        if bad:
            raise Unchecked(f"no model is run, as {bad[0]} is bad")
        self._require_readable()

    def _require_readable(self) -> None:
        found = self.converted.block.get("format")
        if self.older_format:
            raise Unchecked(self._of_older_format())
        if found != FORMAT and not self.same_version:
            raise Unchecked(f"rope_ext.format: is {found!r}, and this ropext reads {FORMAT}; upgrade ropext first")

    @property
    def older_format(self) -> bool:
        """Whether the block is laid out as an earlier ropext did it."""
        found = self.converted.block.get("format")
        return type(found) is int and found < FORMAT

    def _of_older_format(self) -> str:
        found = self.converted.block.get("format")
        return f"rope_ext.format: is {found}, and this ropext reads {FORMAT}; `ropext upgrade` brings it up to date"


_VERSION = re.compile(r"\d{1,4}(\.\d{1,4}){1,3}((a|b|rc|\.dev|\.post)\d{1,4})?")


def _with_version(rebuilt: Mapping[str, Any], config: Mapping[str, Any]) -> dict[str, Any]:
    """The rebuilt configuration under the name of the version that made the checkpoint."""
    version = config["rope_ext"].get("ropext_version")
    return {**rebuilt, "rope_ext": {**rebuilt["rope_ext"], "ropext_version": version}}


def _is_weights(path: str) -> bool:
    return path.endswith(".safetensors")


def _listed(paths: Any) -> str:
    return printable(", ".join(sorted(paths))) or "nothing"
