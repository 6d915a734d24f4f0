"""Checkpoints made up for tests: safetensors files of any size, without weights worth the name."""

import json
import struct

from ropext.converter.convert.record import Record

LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}
"""The scaling of Llama 3.1, on the scale of a tiny model."""


def write_shard(file, tensors, bytes_each=16):
    """Write a sparse safetensors file: as large as its header says, without blocks behind it."""
    header = {
        name: {"dtype": "U8", "shape": [bytes_each], "data_offsets": [i * bytes_each, (i + 1) * bytes_each]}
        for i, name in enumerate(tensors)
    }
    write_header(file, header, len(tensors) * bytes_each)


def write_header(file, header, data_bytes):
    data = json.dumps(header).encode()
    with file.open("wb") as stream:
        stream.write(struct.pack("<Q", len(data)) + data)
        stream.truncate(8 + len(data) + data_bytes)


def shard(folder, count=2, bytes_each=16):
    """Put `count` shards of two tensors and their index in the place of a folder's weights."""
    (folder / "model.safetensors").unlink()
    weight_map = {}
    for i in range(count):
        name = f"model-{i + 1:05}-of-{count:05}.safetensors"
        tensors = [f"layer.{i}.a", f"layer.{i}.b"]
        write_shard(folder / name, tensors, bytes_each)
        weight_map |= dict.fromkeys(tensors, name)
    write_index(folder, weight_map)


def write_index(folder, weight_map):
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))


def edit_config(folder, **changes):
    """Change keys of `config.json`; None removes one."""
    file = folder / "config.json"
    config = {**json.loads(file.read_text()), **changes}
    file.write_text(json.dumps({key: value for key, value in config.items() if value is not None}))


def snapshot(folder, cache, digests):
    """Lay a folder out as the Hugging Face cache does; `digests` names the blobs of some files."""
    repo = cache / "models--org--tiny"
    revision = repo / "snapshots" / ("c" * 40)
    revision.mkdir(parents=True)
    (repo / "blobs").mkdir()
    for file in folder.iterdir():
        blob = repo / "blobs" / digests.get(file.name, "0123" + file.name)
        blob.write_bytes(file.read_bytes())
        (revision / file.name).symlink_to(f"../../blobs/{blob.name}")
    return revision


def sealed(record):
    """Return the bytes of a `ropext.json` that somebody changed on purpose: with the digest that belongs to it."""
    return Record.parse(json.dumps(record).encode(), "changed").sealed().dump()
