"""`ropext.json` as a value: read with every fault, written the same."""

import json
from pathlib import Path

import pytest

from ropext.converter.convert.record import Entry, Record, RecordedPreset, WrittenFile, read_record, stray_faults
from ropext.converter.errors import RopextError, UsageError
from ropext.converter.hub.types import LocalSource

WRITTEN = (
    WrittenFile("model.safetensors", "hardlink", 7, None),
    WrittenFile("a.py", "generate", 3, "a" * 64),
    WrittenFile("config.json", "generate", 9, "b" * 64),
)


@pytest.fixture
def record():
    begun = Record("dpe", False, RecordedPreset("p", "name: p\n", ("target_window=9",)), LocalSource(Path("/x/tiny")))
    return begun.with_written(WRITTEN, ["model.safetensors"])


def test_round_trip(record):
    data = record.dump()
    again = Record.parse(data, "x")
    assert again.dump() == data
    assert again.files["model.safetensors"] == Entry(None, 7)
    assert list(stray_faults(data, again)) == []


def test_what_it_says(record):
    said = json.loads(record.dump())
    assert list(said)[-2:] == ["sha256", "files"]
    assert said["link"] == "hardlink"
    assert said["code"] == {"a.py": "a" * 64}
    assert said["source"] == {"repo_id": None, "revision": None, "folder": "tiny"}
    assert said["preset"] == {"name": "p", "text": "name: p\n", "overrides": ["target_window=9"]}


def test_a_repository_hides_the_folder():
    source = LocalSource(Path("/home/me/x"), "org/tiny", "c" * 40)
    said = json.loads(Record("dpe", False, RecordedPreset("p", ""), source).sealed().dump())
    assert said["source"] == {"repo_id": "org/tiny", "revision": "c" * 40, "folder": None}


def test_files_do_not_change_its_digest(record):
    other = record.with_files({"model.safetensors": Entry("c" * 64, 7), "new.png": Entry("d" * 64, 1)})
    assert other.sha256 == record.sha256 == other.sealed().sha256
    assert list(other.files)[-1] == "new.png"


def damaged(record, **changes):
    return json.dumps({**json.loads(record.dump()), **changes}).encode()


@pytest.mark.parametrize(
    ("changes", "faults"),
    [
        ({"method": 1, "native": "no"}, ["method: is damaged", "native: is damaged"]),
        ({"preset": {"text": ""}}, ["preset.name: is missing", "preset.overrides: is missing"]),
        ({"preset": {"name": "", "text": "", "overrides": [1]}, "link": None}, ["link: is", "preset.overrides: is"]),
        ({"preset": None, "source": []}, ["preset: is damaged", "source: is damaged"]),
        (
            {"files": {"../x": {"sha256": None, "bytes": 1}, "y": 2}},
            ["files: ../x: is damaged", "files: y: is damaged"],
        ),
        ({"files": {"\x1b": {"sha256": 1, "bytes": 1}}}, ["files: \\x1b: is damaged"]),
        ({"files": {"a": {"sha256": None, "bytes": True}}}, ["files: a: is damaged"]),
        ({"files": {"a": {"bytes": 1}}, "sha256": None}, ["sha256: is damaged", "files: a: is damaged"]),
    ],
)
def test_every_fault_is_named(record, changes, faults):
    with pytest.raises(RopextError) as caught:
        Record.parse(damaged(record, **changes), "here")
    lines = str(caught.value).splitlines()
    assert len(lines) == len(faults)
    for line, fault in zip(lines, faults, strict=True):
        assert line.startswith(f"here: ropext.json: {fault}")
        assert line.endswith("; convert again.")


def test_thousands_of_faults(record):
    with pytest.raises(RopextError) as caught:
        Record.parse(damaged(record, files=dict.fromkeys(map(str, range(5_000)))), "here")
    assert len(str(caught.value).splitlines()) == 21
    assert str(caught.value).endswith("and 4980 more faults.")


def test_new_digests_of_files_hide_no_change(record):
    changed = Record.parse(damaged(record, method="yarn"), "here").with_files({"README.md": Entry("e" * 64, 1)})
    assert "is not what its sha256 says" in " ".join(stray_faults(changed.dump(), changed))


def test_another_format(record):
    with pytest.raises(RopextError, match=r"has format 2, and this ropext, .*, reads 1\."):
        Record.parse(damaged(record, format=2), "here")


@pytest.mark.parametrize(
    ("changes", "faults"),
    [
        ({"method": "yarn"}, ["not laid out", "sha256"]),
        ({"mine": 1}, ["not laid out"]),
        ({"code": {}}, ["not laid out", "code"]),
    ],
)
def test_what_ropext_did_not_write(record, changes, faults):
    data = damaged(record, **changes)
    found = list(stray_faults(data, Record.parse(data, "here")))
    assert len(found) == len(faults)
    assert all(part in fault for part, fault in zip(faults, found, strict=True))


def test_folder_without_one(tmp_path):
    with pytest.raises(UsageError, match="is no folder that ropext converted"):
        read_record(tmp_path)
