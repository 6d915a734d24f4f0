"""A converted folder, changed as an attacker would, with digests brought up to date where that is part of it."""

import gzip
import json
import pickle
import shutil
from pathlib import Path

import torch

from ropext.converter import __version__
from ropext.converter.convert.config import dump_json
from ropext.converter.model_code import sha256

EVIL = "import os\nos.environ['ROPEXT_TAMPERED'] = '1'\n"
HEADER = "# Made by ropext {}, "


class Runs:
    """What a pickle calls."""

    def __reduce__(self):
        return (print, ("x",))


def record_of(folder):
    return json.loads((folder / "ropext.json").read_text())


def redigest(folder, *added, change=None):
    """Write the record anew, with more files in it; `change` edits it before it is sealed."""
    record = record_of(folder)
    for path in [*record["files"], *added]:
        if (folder / path).is_file():
            data = (folder / path).read_bytes()
            record["files"][path] = {"sha256": sha256(data), "bytes": len(data)}
    record["code"] = {path: entry["sha256"] for path, entry in record["files"].items() if path.endswith(".py")}
    if change:
        change(record)
    # What ropext itself would refuse to read is sealed too.
    rest = {key: value for key, value in record.items() if key not in ("sha256", "files")}
    sealed = {**rest, "sha256": sha256(dump_json(rest)), "files": record["files"]}
    (folder / "ropext.json").write_bytes(dump_json(sealed))


def edited(name, change):
    """A tampering that edits a JSON file and its digest."""

    def tamper(folder):
        file = folder / name
        value = json.loads(file.read_text()) if file.exists() else {}
        change(value)
        file.write_bytes(dump_json(value))
        redigest(folder, name)

    return tamper


def config(**keys):
    return edited("config.json", lambda value: value.update(keys))


def block(change):
    return edited("config.json", lambda value: change(value["rope_ext"]))


def recorded(change):
    """A tampering of the record alone, sealed again."""
    return lambda folder: redigest(folder, change=change)


def added(path, content=b"{}", *, in_record=False):
    """A tampering that puts a file there, and into the record perhaps."""

    def tamper(folder):
        (folder / path).parent.mkdir(exist_ok=True, parents=True)
        (folder / path).write_bytes(content)
        if in_record:
            redigest(folder, path)

    return tamper


def appended(path, *, digest):
    def tamper(folder):
        with (folder / path).open("ab") as stream:
            stream.write(b"\n" if path.endswith(".json") else EVIL.encode())
        if digest:
            redigest(folder)

    return tamper


def removed(path):
    return lambda folder: (folder / path).unlink()


def linked(path):
    """A tampering that leads a name out of the folder, to the same content."""

    def tamper(folder):
        outside = folder.parent / f"outside-{Path(path).name}"
        shutil.move(folder / path, outside)
        (folder / path).symlink_to(outside)

    return tamper


def linked_folder(folder):
    outside = folder.parent / "outside"
    outside.mkdir()
    (outside / "x.jinja").write_text("x")
    (folder / "additional_chat_templates").symlink_to(outside)
    redigest(folder, "additional_chat_templates/x.jinja")


def of_version(version, plant=None):
    """A tampering that says that another ropext made it; without code planted, an honest variation."""

    def tamper(folder):
        for file in folder.glob("*.py"):
            file.write_text(file.read_text().replace(HEADER.format(__version__), HEADER.format(version), 1))
        if plant:
            (folder / plant).write_text((folder / plant).read_text() + EVIL)
        edited("config.json", lambda value: value["rope_ext"].update(ropext_version=version))(folder)
        redigest(folder, change=lambda record: record.update(ropext_version=version))

    return tamper


def other_weights(folder):
    from safetensors.torch import load_file

    zeros = {name: torch.zeros_like(value) for name, value in load_file(folder / "model.safetensors").items()}
    torch.save(zeros, folder / "evil.dat")
    index = {"metadata": {}, "weight_map": dict.fromkeys(zeros, "evil.dat")}
    (folder / "evil.safetensors.index.json").write_text(json.dumps(index))
    config(transformers_weights="evil.safetensors.index.json")(folder)
    redigest(folder, "evil.safetensors.index.json", "evil.dat")


def flipped(path, at):
    def tamper(folder):
        data = bytearray((folder / path).read_bytes())
        data[at] ^= 1
        (folder / path).write_bytes(data)

    return tamper


PICKLES = {
    "0": pickle.dumps(Runs(), 0),
    "2": pickle.dumps(Runs(), 2),
    "4": pickle.dumps(Runs(), 4),
    "4, gzipped": gzip.compress(pickle.dumps(Runs(), 4)),
    "0, with more after it": pickle.dumps(Runs(), 0) + b"\n\xff",
}
