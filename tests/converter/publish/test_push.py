"""Publishing from the Hub to the Hub, once and again."""

import json
import os

import pytest

from ropext.converter.checkpoint import read as reading_checkpoints
from ropext.converter.files.safetensors_header import tensor_types
from ropext.converter.hub.types import LocalSource, RemoteFile, Repository
from tests.helpers.checkpoints import shard, snapshot, write_header
from tests.helpers.hub_server import Blob
from tests.helpers.pushing import WEIGHTS, convert, converted, copying, report


@copying
def test_four_gibibytes_cross_no_wire(machine, hub, client, base):
    shard(base, count=2, bytes_each=1 << 30)
    source = hub.publish("org/large", base, license="mit")
    assert sum(blob.size for blob in source.head.files.values()) > 4 << 30
    hub.watch()
    ran = client.run("convert", "org/large", "--preset", "preset.yaml", "--push", "me/large-256")
    made = hub.repos["me/large-256"]
    weights = [path for path in made.head.files if path.endswith(".safetensors")]
    assert len(weights) == 2
    assert all(made.head.files[path].oid == source.head.files[path].oid for path in weights)
    assert hub.received < 1_000_000
    assert hub.sent < 1_000_000
    assert client.cached < 1_000_000
    assert [call for call in hub.calls if "/commit/" in call] == ["POST /api/models/me/large-256/commit/main"]
    assert "4 GiB copied within the Hub" in ran.stdout
    assert set(os.listdir(client.work)) == {"base", "preset.yaml"}


@copying
def test_same_as_by_way_of_a_folder(hub, client):
    convert(client)
    converted(client)
    hub.watch()
    ran = client.run("push", "out", "me/other")
    direct, by_folder = hub.repos["me/tiny-256"].digests(), hub.repos["me/other"].digests()
    for path in ("ropext.json", "README.md"):  # how weights got there; what to load
        assert direct.pop(path) != by_folder.pop(path)
    assert direct == by_folder
    assert "429.3 KiB copied within the Hub" in ran.stdout
    assert hub.received < 300_000
    assert hub.repos["me/other"].head.title.startswith("dpe, 64 to 256 tokens, by ropext ")


def test_provenance_names_all_digests(hub, client):
    convert(client)
    files = hub.repos["me/tiny-256"].head.files
    provenance = json.loads(files["ropext.json"].content)
    assert {path: entry["sha256"] for path, entry in provenance["files"].items()} == {
        path: blob.sha256 for path, blob in files.items() if path not in ("ropext.json", ".gitattributes")
    }
    assert provenance["source"]["revision"] == hub.repos["org/tiny"].head.oid


def test_only_headers_of_weights_are_read(hub, client, base):
    shard(base, count=2, bytes_each=100_000)
    hub.publish("org/tiny", base, license="mit")
    hub.watch()
    convert(client, "--dry-run")
    read = [seen for seen in hub.seen if seen.path.endswith(".safetensors")]
    assert len(read) == 2
    assert all(seen.sent <= 100_001 for seen in read)


def test_the_index_is_read_once(base, monkeypatch):
    shard(base, count=30)
    files = {path.name: RemoteFile(path.name, path.stat().st_size, "", "0" * 64) for path in base.iterdir()}
    repository = Repository("org/tiny", "c" * 40, False, False, "mit", files)
    reads = []
    promised = reading_checkpoints.promised_tensors
    monkeypatch.setattr(reading_checkpoints, "promised_tensors", lambda *args: reads.append(args) or promised(*args))
    monkeypatch.setattr(reading_checkpoints.hub, "look_up", lambda *args: repository)
    monkeypatch.setattr(reading_checkpoints.hub, "fetch", lambda *args: LocalSource(base))
    monkeypatch.setattr(reading_checkpoints.hub, "tensors", lambda _, path: tensor_types(base / path, path))
    assert len(reading_checkpoints.read_remote_checkpoint("org/tiny").checkpoint.weights) == 31
    assert len(reads) == 1


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda base: shard(base) or (base / "model-00002-of-00002.safetensors").unlink(), "which is not there"),
        (lambda base: (base / "model.safetensors").write_bytes(b"nothing"), "not a safetensors file"),
        (lambda base: os.truncate(base / "model.safetensors", WEIGHTS // 2), "cut off"),
        (lambda base: (base / "model.safetensors").rename(base / "model.bin"), "only pickles, which can run code"),
    ],
)
def test_broken_base_is_refused_unseen(hub, client, base, spoil, message):
    spoil(base)
    hub.publish("org/tiny", base, license="mit")
    assert message in convert(client, status=1).error
    assert "me/tiny-256" not in hub.repos


@pytest.mark.parametrize(
    "header",
    [
        {"a": 3},
        {"a": {"dtype": "U8", "shape": [1], "data_offsets": ["x", "y"]}},
        {"a": {"dtype": "U8", "shape": [1], "data_offsets": [0]}},
        {"a": {"dtype": "U8"}},
        [],
    ],
)
def test_hostile_header(hub, client, base, header):
    write_header(base / "model.safetensors", header, 16)
    hub.publish("org/tiny", base, license="mit")
    assert convert(client, status=1).error == "org/tiny: model.safetensors: not a safetensors file."


def test_weights_that_git_holds_are_uploaded(hub, client):
    for path in ("model.safetensors", "tokenizer.model"):
        blob = hub.repos["org/tiny"].head.files[path]
        hub.repos["org/tiny"].head.files[path] = Blob(blob.data, large=False)
    ran = report(convert(client, "--json"))
    assert ran["actions"]["model.safetensors"] == "upload"
    assert hub.repos["me/tiny-256"].head.files["model.safetensors"].size == WEIGHTS


@copying
def test_snapshot_is_pushed_like_its_repository(hub, client, base):
    found = snapshot(base, client.work / "cache", {})
    sha = hub.repos["org/tiny"].head.oid
    found = found.rename(found.with_name(sha))
    ran = client.run("convert", found, "--preset", "preset.yaml", "--push", "me/tiny-256", "--json")
    assert report(ran)["actions"]["model.safetensors"] == "copy"


def test_revision_is_of_the_source(hub, client, base):
    first = hub.repos["org/tiny"].head.oid
    (base / "generation_config.json").write_text("{}")
    files = {**hub.repos["org/tiny"].head.files}
    files["generation_config.json"] = hub.stored(hub.repos["org/tiny"], base / "generation_config.json", "g.json")
    hub.repos["org/tiny"].add("later", files)
    convert(client, "--revision", first)
    made = hub.repos["me/tiny-256"].head.files
    assert made["generation_config.json"].size > 2
    assert json.loads(made["ropext.json"].content)["source"]["revision"] == first


def test_source_that_changes_under_way(hub, client):
    source = hub.repos["org/tiny"]
    first = source.head

    def somebody_else(at, seen):
        if source.head is first and seen.path.endswith("/model.safetensors"):
            source.add("other weights", {**first.files, "model.safetensors": hub.stored(source, b"x" * 99, "a.bin")})

    hub.watch(somebody_else)
    convert(client)
    made = hub.repos["me/tiny-256"].head.files
    assert source.head is not first
    assert made["model.safetensors"].oid == first.files["model.safetensors"].oid
    assert json.loads(made["ropext.json"].content)["source"]["revision"] == first.oid


def test_output_is_written_where_asked_for(hub, client):
    convert(client, "-o", "out")
    assert (client.work / "out" / "model.safetensors").stat().st_size == WEIGHTS
    assert "model.safetensors" in hub.repos["me/tiny-256"].head.files


# Again


def test_again_is_nothing(hub, client):
    convert(client)
    before = hub.repos["me/tiny-256"].history.copy()
    hub.watch()
    ran = convert(client)
    assert "holds all of it already; nothing was sent" in ran.stdout
    assert {call.split()[0] for call in hub.calls} <= {"GET", "HEAD"}
    assert hub.repos["me/tiny-256"].history == before


def test_only_what_changed_goes(hub, client):
    out = converted(client)
    client.run("push", out, "me/tiny-256")
    (out / "README.md").write_text("---\nlicense: mit\n---\n\nMine.\n")
    found = report(client.run("push", out, "me/tiny-256", "--json"))
    assert [path for path, action in found["actions"].items() if action != "skip"] == ["README.md", "ropext.json"]


def test_what_an_earlier_conversion_left_goes(hub, client, base):
    convert(client)
    shard(base)
    hub.publish("org/tiny", base, license="mit")
    actions = report(convert(client, "--json"))["actions"]
    assert actions["model.safetensors"] == "delete"
    assert "model.safetensors" not in hub.repos["me/tiny-256"].head.files
    assert "model-00001-of-00002.safetensors" in hub.repos["me/tiny-256"].head.files


def test_files_of_others_stay(hub, client):
    convert(client)
    repo = hub.repos["me/tiny-256"]
    repo.add("results", {**repo.head.files, "results.txt": Blob(b"12", large=False)})
    converted(client, "--set", "target_window=512")
    client.run("push", "out", "me/tiny-256")
    assert "results.txt" in repo.head.files


def test_nothing_goes_by_a_damaged_record(hub, client):
    convert(client)
    repo = hub.repos["me/tiny-256"]
    for record in (b"{}", b"{", b'{"format": 1, "files": {"results.txt": {}}}'):
        changed = {"results.txt": Blob(b"12", large=False), "ropext.json": Blob(record, large=False)}
        repo.add("damaged", repo.head.files | changed)
        actions = report(convert(client, "--json"))["actions"]
        assert "delete" not in actions.values()
        assert "results.txt" in repo.head.files
