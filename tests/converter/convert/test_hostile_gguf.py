"""GGUF files made to do harm."""

import struct

import pytest
from click.testing import CliRunner

from ropext.converter.cli.app import main
from ropext.converter.files.gguf_structure import check_structure
from tests.helpers.refusals import refused


def _gguf(*keys, tensors=b"", counts=None):
    counts = counts or (0, len(keys))
    return b"GGUF" + struct.pack("<IQQ", 3, *counts) + b"".join(keys) + tensors


def _key(kind, value):
    return struct.pack("<Q", 1) + b"a" + struct.pack("<I", kind) + value


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"GGUF" + b"\3\0", "claims 4 bytes"),
        (_gguf(_key(8, struct.pack("<Q", 2**62))), "claims 4611686018427387904 bytes"),
        (_gguf(_key(9, struct.pack("<IQ", 4, 2**40))), "more than 4000000 entries"),
        (_gguf(_key(9, struct.pack("<IQ", 4, 1000))), "claims 4000 bytes"),
        (_gguf(_key(9, struct.pack("<IQ", 9, 1) * 5_000)), "arrays of arrays"),
        (_gguf(_key(77, b"")), "there is no type 77"),
    ],
)
def test_gguf_structure(tmp_path, data, message):
    (tmp_path / "x.gguf").write_bytes(data)
    with pytest.raises(ValueError, match=message):
        check_structure(tmp_path / "x.gguf")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"GGML" + b"\0" * 40,
        _gguf(counts=(2**63, 0)),
        _gguf(counts=(0, 2**40)),
        _gguf(tensors=struct.pack("<QI", 0, 99), counts=(1, 0)),
        _gguf(tensors=struct.pack("<QIQIQ", 0, 1, 2**62, 0, 0), counts=(1, 0)),
    ],
)
def test_gguf_files_that_are_refused(tmp_path, data):
    pytest.importorskip("gguf")
    (tmp_path / "x.gguf").write_bytes(data)
    args = ["gguf-patch", str(tmp_path / "x.gguf"), str(tmp_path / "y.gguf"), "-p", "smollm2-135m-yarn"]
    refused(CliRunner().invoke(main, args), "not a GGUF file that can be read")
    assert not (tmp_path / "y.gguf").exists()
