"""Publishing, by the Hub's real client and a Hub on loopback that can break at any request."""

import json
import os
import re
import shutil
import signal
import time
from pathlib import Path

import pytest

from ropext.converter.checkpoint import read as reading_checkpoints
from ropext.converter.files.safetensors_header import tensor_shapes
from ropext.converter.hub.client import can_copy
from ropext.converter.hub.types import LocalSource, RemoteFile, Repository
from tests.helpers.checkpoints import sealed, shard, snapshot, write_header
from tests.helpers.hub_client import running
from tests.helpers.hub_server import Blob, Hub

if not hasattr(os, "fork"):
    pytest.skip("the client is forked", allow_module_level=True)

PRESET = """\
name: tiny-dpe
description: DPE for a tiny model.
base_model: org/tiny
initial_window: 64
target_window: 256
method: dpe
parameters: {local_window: 16, scale_factors: [2, 8, 4, 16], dimension_groups: [0, 2, 4, 6, 8]}
"""
WEIGHTS = 439032
copying = pytest.mark.skipif(not can_copy(), reason="huggingface_hub before 1.17 copies nothing")


@pytest.fixture(scope="module")
def machine(tmp_path_factory):
    """A Hub, and a machine whose client talks to it."""
    place = tmp_path_factory.mktemp("machine")
    with Hub().running() as hub, running(hub.url, place / "home", place) as client:
        yield hub, client


@pytest.fixture
def hub(machine, base):
    """The Hub, with `org/tiny` on it."""
    hub, _ = machine
    hub.repos.clear()
    hub.store.clear()
    hub.copies_refused = None
    hub.publish("org/tiny", base, license="mit")
    hub.watch()
    return hub


@pytest.fixture
def client(machine, hub, tmp_path):
    """The machine's client, with nothing in its cache."""
    _, client = machine
    client.work = tmp_path
    client.forget()
    (tmp_path / "preset.yaml").write_text(PRESET)
    return client


@pytest.fixture
def base(tmp_path):
    """A small model as it lies on the Hub."""
    folder = tmp_path / "base"
    shutil.copytree(Path(__file__).parents[2] / "data" / "tiny-llama", folder)
    (folder / "tokenizer.model").write_bytes(b"pieces" * 100)
    (folder / "README.md").write_text("---\nlicense: mit\n---\n\n# Tiny\n")
    (folder / "LICENSE").write_text("Do as you like.\n")
    return folder


def convert(client, *args, to="me/tiny-256", **how):
    return client.run("convert", "org/tiny", "--preset", "preset.yaml", "--push", to, *args, **how)


def converted(client, *args):
    """Convert into a folder, and return it."""
    client.run("convert", "org/tiny", "--preset", "preset.yaml", "-o", "out", "-q", *args)
    return client.work / "out"


def report(ran):
    found = json.loads(ran.stdout)
    found["actions"] = {file["path"]: file["action"] for file in found["files"]}
    return found


def snippet(repo):
    """What the card's snippet loads."""
    card = repo.head.files["README.md"].data.decode()
    return {key: re.search(rf'^{key} = "(.*?)"', card, re.MULTILINE)[1] for key in ("path", "revision")}


# From the Hub to the Hub


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
    monkeypatch.setattr(reading_checkpoints.hub, "tensors", lambda _, path: tensor_shapes(base / path, path))
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


# The tag that the card names


def test_snippet_loads_this_very_content(hub, client):
    ran = convert(client)
    repo = hub.repos["me/tiny-256"]
    named = snippet(repo)
    assert named["path"] == "me/tiny-256"
    assert re.fullmatch("ropext-[0-9a-f]{10}", named["revision"])
    assert repo.tags == {named["revision"]: repo.head.oid}
    assert f"tag {named['revision']}, which the card's snippet loads" in ran.stdout
    convert(client, "--set", "target_window=512")
    other = snippet(repo)["revision"]
    assert repo.tags == {named["revision"]: repo.history[1], other: repo.history[2]}
    convert(client)  # back again: the first tag names it still
    assert snippet(repo) == named
    assert len(repo.tags) == 2
    client.run("verify", "me/tiny-256", "--revision", named["revision"], "--quick")


def test_what_was_downloaded_has_its_tag(hub, client):
    convert(client)
    repo = hub.repos["me/tiny-256"]
    (client.work / "out").mkdir()
    for path, blob in repo.head.files.items():
        (client.work / "out" / path).write_bytes(blob.data)
    assert "nothing was sent" in client.run("push", "out", "me/tiny-256").stdout
    (client.work / "out" / "LICENSE").write_text("Another.\n")
    client.run("push", "out", "me/tiny-256")
    assert repo.tags[snippet(repo)["revision"]] == repo.history[2]
    assert len(repo.tags) == 2


def test_tag_that_is_missing_is_made(hub, client):
    convert(client)
    repo = hub.repos["me/tiny-256"]
    before, tags = repo.history.copy(), repo.tags.copy()
    repo.tags.clear()
    hub.watch()
    ran = convert(client)
    assert f"holds all of it already, but for the tag {next(iter(tags))}, which was missing" in ran.stdout
    assert [call for call in hub.calls if call.startswith("POST")] == [f"POST /api/models/me/tiny-256/tag/{before[-1]}"]
    assert (repo.history, repo.tags) == (before, tags)


def test_tag_of_another_content(hub, client):
    convert(client)
    repo = hub.repos["me/tiny-256"]
    tag = snippet(repo)["revision"]
    repo.tags[tag] = repo.history[0]
    assert f"me/tiny-256: its tag {tag}, which" in convert(client, status=2).error


def test_tag_that_the_hub_refuses(hub, client):
    hub.watch(lambda at, seen: 403 if "/tag/" in seen.path else None)
    error = convert(client, status=1).error
    assert "your token may not write there" in error
    assert error.endswith("which the card names, was not: run the same command again.")
    hub.watch()
    convert(client)
    assert len(hub.repos["me/tiny-256"].tags) == 1


def test_card_that_names_a_commit_keeps_it(hub, client):
    out = converted(client)
    client.run("card", out, "--repo", "me/tiny-256", "--revision", "c" * 40)
    ran = client.run("push", out, "me/tiny-256")
    assert snippet(hub.repos["me/tiny-256"])["revision"] == "c" * 40
    assert hub.repos["me/tiny-256"].tags == {}
    assert "tag" not in ran.stdout


# Faults


def broken_at_each(hub, client, how, command, which=("GET", "HEAD", "POST", "PUT")):
    """Break a command at each of its requests in turn; yield what it said, once run again in peace."""
    hub.repos.pop("me/tiny-256", None)
    client.forget()
    hub.watch()
    command()
    methods, whole = [seen.method for seen in hub.seen], hub.repos["me/tiny-256"]
    assert len(methods) > 10
    for number in [number for number, method in enumerate(methods) if method in which]:
        hub.repos.pop("me/tiny-256")
        client.forget()
        hub.watch(lambda at, seen, number=number: how(at, number, seen))
        ran = command(status=None)
        hub.watch()
        command()
        made = hub.repos["me/tiny-256"]
        assert made.digests() == whole.digests()
        assert (made.private, len(made.history), made.pull_requests) == (whole.private, 2, {})
        assert made.tags == {snippet(made)["revision"]: made.head.oid}
        yield ran


@pytest.mark.parametrize("how", ["503", "drop", "lose"])
def test_fault_at_each_request(hub, client, base, how):
    (base / "LICENSE").unlink()
    (base / "generation_config.json").unlink()
    hub.publish("org/tiny", base, license="mit")

    def fault(at, number, seen):
        if how == "503":
            return 503 if at >= number else None
        return how if at == number else None

    which = ("POST",) if how == "lose" else ("GET", "HEAD", "POST")
    ended = list(broken_at_each(hub, client, fault, lambda **how: convert(client, **how), which))
    assert {ran.status for ran in ended} <= {0, 1}
    failed = [ran for ran in ended if ran.status]
    assert len(failed) == len(ended) if how == "503" else failed
    assert all("run the same command again" in ran.error or "try again later" in ran.error for ran in failed)


def test_kill_at_each_request(hub, client, base):
    (base / "LICENSE").unlink()
    (base / "generation_config.json").unlink()
    hub.publish("org/tiny", base, license="mit")

    def fault(at, number, seen):
        if at == number:
            while client.pid is None:
                time.sleep(0.001)
            os.kill(client.pid, signal.SIGKILL)
        return "drop" if at >= number else None

    def command(**options):
        client.pid = None
        return convert(client, **options)

    assert {ran.status for ran in broken_at_each(hub, client, fault, command)} == {-signal.SIGKILL}


def test_fault_at_each_request_of_an_upload(hub, client):
    converted(client)
    hub.copies_refused = 400

    def fault(at, number, seen):
        return "drop" if at == number else None

    def command(**how):
        return client.run("push", "out", "me/tiny-256", **how)

    ended = list(broken_at_each(hub, client, fault, command))
    assert all("run the same command again" in ran.error for ran in ended if ran.status)


def test_race_fails_cleanly(hub, client):
    converted(client)
    client.run("push", "out", "me/tiny-256")
    converted(client, "--force", "--set", "target_window=512")
    repo = hub.repos["me/tiny-256"]

    def somebody_else(at, seen):
        if "/preupload/" in seen.path:
            repo.add("mine", {**repo.head.files})

    hub.watch(somebody_else)
    ran = client.run("push", "out", "me/tiny-256", status=1)
    assert ran.error.startswith("me/tiny-256: somebody else has written to it meanwhile, and nothing was changed")
    assert repo.head.title == "mine"
    hub.watch()
    client.run("push", "out", "me/tiny-256")
    assert repo.head.title.startswith("dpe, 64 to 512 tokens")


def test_race_for_a_new_name(hub, client):
    def somebody_else(at, seen):
        if seen.path == "/api/repos/create":
            hub.publish("me/tiny-256", client.work / "base")

    hub.watch(somebody_else)
    assert "somebody else has written to it meanwhile" in convert(client, status=1).error
    assert len(hub.repos["me/tiny-256"].history) == 2


# Who may see it


@pytest.mark.parametrize(
    ("about", "args", "private"),
    [
        ({"license": "mit"}, (), False),
        ({"license": "mit"}, ("--private",), True),
        ({"license": "llama3"}, (), True),
        ({"license": "llama3"}, ("--public",), False),
        ({"license": None}, (), True),
        ({"license": "mit", "gated": "manual", "readers": {"me"}}, (), True),
    ],
)
def test_who_sees_a_new_repository(hub, client, base, about, args, private):
    hub.publish("org/tiny", base, **about)
    ran = convert(client, *args)
    assert hub.repos["me/tiny-256"].private is private
    assert ("see that its terms let you publish this" in ran.stderr) is ("--public" in args)


def test_private_base_makes_a_private_repository(hub, client, base):
    hub.publish("me/mine", base, license="mit", private=True)
    client.run("convert", "me/mine", "--preset", "preset.yaml", "--push", "me/tiny-256")
    assert hub.repos["me/tiny-256"].private


def test_public_repository_needs_a_word_for_a_gated_base(hub, client, base):
    convert(client)
    hub.publish("org/tiny", base, license="mit", gated="auto", readers={"me"})
    (base / "generation_config.json").write_text("{}")
    ran = convert(client, "--set", "target_window=512", status=2)
    assert ran.error == (
        "me/tiny-256: is public, and the base is gated; if its terms let you publish this, say so by --public."
    )
    convert(client, "--set", "target_window=512", "--public")
    ran = convert(client, "--private", status=2)
    assert "is public; make it private in its settings" in ran.error


def test_terms_are_carried(hub, client, base):
    (base / "USE_POLICY.md").write_text("Be kind.")
    hub.publish("org/tiny", base, license="llama3")
    out = converted(client)
    (out / "LICENSE").unlink()
    for name in ("LICENSE", "USE_POLICY.md"):
        (out / name).unlink(missing_ok=True)
    provenance = json.loads((out / "ropext.json").read_text())
    for name in ("LICENSE", "USE_POLICY.md"):
        del provenance["files"][name]
    (out / "ropext.json").write_text(json.dumps(provenance))
    ran = client.run("push", out, "me/tiny-256")
    assert "note: the base's terms are added: LICENSE, USE_POLICY.md" in ran.stderr
    files = hub.repos["me/tiny-256"].head.files
    assert (files["LICENSE"].content, files["USE_POLICY.md"].content) == (b"Do as you like.\n", b"Be kind.")


def test_gated_base_without_access(hub, client, base):
    hub.publish("org/tiny", base, license="llama3", gated="manual")
    assert "access to this model is gated: ask for access at" in convert(client, status=1).error


@pytest.mark.parametrize(("token", "to"), [("hf_reader", "me/tiny-256"), ("hf_me", "org/tiny-256"), (None, "me/x")])
def test_token_that_may_not(hub, client, token, to):
    error = convert(client, to=to, token=token, status=1).error
    assert error.startswith(f"{to}: your token may not write there (")
    assert error.endswith("run `hf auth login` with a token that may, or name a repository of your own.")
    assert to not in hub.repos


# What cannot be copied is uploaded


def falls_back(hub, client, expected, command, **how):
    ran = command(**how)
    assert expected in ran.stderr
    assert hub.repos["me/tiny-256"].head.files["model.safetensors"].size == WEIGHTS
    assert len(hub.repos["me/tiny-256"].history) == 2
    assert "/lfs/me/tiny-256/" in " ".join(hub.calls)
    return ran


@copying
@pytest.mark.parametrize("refused", [400, 403, 404, "no room"])
@pytest.mark.parametrize("by_folder", [True, False])
def test_server_that_does_not_copy(hub, client, refused, by_folder):
    hub.copies_refused = refused
    if by_folder:
        converted(client)
        client.forget()

    def command(**how):
        return client.run("push", "out", "me/tiny-256", **how) if by_folder else convert(client, **how)

    size = WEIGHTS + 600
    ran = falls_back(hub, client, f"uploading {size:,} bytes instead", command)
    assert "note: the Hub does not copy from org/tiny (" in ran.stderr
    assert ("no room" if refused == "no room" else "Copies are not possible") in ran.stderr
    assert "0 B copied within the Hub" in ran.stdout
    assert (client.cached > WEIGHTS) is not by_folder


@copying
def test_other_storage_region(hub, client):
    hub.repos["org/tiny"].region = "eu"
    falls_back(hub, client, "different storage regions", lambda **how: convert(client, **how))


@copying
def test_file_that_is_not_on_xet(hub, client):
    hub.repos["org/tiny"].xet = False
    falls_back(hub, client, "the Hub has not moved it to Xet storage", lambda **how: convert(client, **how))
    assert not any("duplicate" in call for call in hub.calls)


def test_client_that_cannot_copy(hub, client):
    why = "huggingface_hub before 1.17 copies nothing between repositories"
    falls_back(hub, client, why, lambda **how: convert(client, **how), without=("can_copy",))


@copying
def test_weights_that_were_changed(hub, client):
    out = converted(client, "--link", "copy")
    with (out / "model.safetensors").open("r+b") as stream:
        stream.seek(-1, os.SEEK_END)
        stream.write(b"\x7f")
    falls_back(hub, client, "differs from the base's", lambda **how: client.run("push", out, "me/tiny-256", **how))
    assert "POST /api/models/org/tiny/lfs-files/duplicate" in hub.calls  # the tokenizer


def test_base_from_a_folder(hub, client, base):
    client.run("convert", base, "--preset", "preset.yaml", "-o", "out", "-q")
    why = "the base is a folder that is no Hub snapshot"
    falls_back(hub, client, why, lambda **how: client.run("push", "out", "me/tiny-256", **how))
    assert hub.repos["me/tiny-256"].private


def test_base_that_is_gone(hub, client):
    converted(client)
    del hub.repos["org/tiny"]
    why = "the Hub shows no org/tiny at"
    falls_back(hub, client, why, lambda **how: client.run("push", "out", "me/tiny-256", **how))


# Dry runs, pull requests, branches


@copying
def test_dry_run_says_what_the_run_does(hub, client):
    planned = report(convert(client, "--dry-run", "--json"))
    assert "me/tiny-256" not in hub.repos
    assert {seen.method for seen in hub.seen} <= {"GET", "HEAD"}
    done = report(convert(client, "--json"))
    assert planned["files"] == done["files"]
    assert planned["bytes"] == done["bytes"]
    assert done["bytes"]["copy"] == WEIGHTS + 600
    assert planned["exists"] is False
    again = report(convert(client, "--dry-run", "--json"))
    assert set(again["actions"].values()) == {"skip"}


@copying
def test_dry_run_as_text(hub, client):
    converted(client)
    text = client.run("push", "out", "me/tiny-256", "--dry-run").stdout
    assert "out → me/tiny-256 (new); nothing is sent" in text
    assert "copy             439,032  model.safetensors" in text
    assert re.search(r"^tag ropext-[0-9a-f]{10}, which the card's snippet loads$", text, re.MULTILINE)
    assert f"copies come from org/tiny at {hub.repos['org/tiny'].head.oid}" in text
    assert "me/tiny-256" not in hub.repos


def test_pull_request(hub, client, base):
    repo = hub.publish("org/shared", base, license="mit")
    before = repo.head
    ran = convert(client, "--create-pr", "--message", "Longer", to="org/shared")
    assert repo.head is before
    assert repo.pull_requests == {1: "Longer"}
    assert "rope_ext" in json.loads(repo.at("refs/pr/1").files["config.json"].content)
    assert ran.stdout.strip().endswith("/org/shared/discussions/1")
    assert b'revision = "main"' in repo.at("refs/pr/1").files["README.md"].data
    assert repo.tags == {}
    again = convert(client, "--create-pr", "--message", "Longer", to="org/shared")
    assert "pull request 1 proposes the same already; nothing was sent" in again.stdout
    assert len(repo.pull_requests) == 1


def test_pull_request_whose_answer_was_lost(hub, client, base):
    repo = hub.publish("org/shared", base, license="mit")
    hub.watch(lambda at, seen: "lose" if "/commit/" in seen.path else None)
    assert "broke off" in convert(client, "--create-pr", to="org/shared", status=1).error
    hub.watch()
    convert(client, "--create-pr", to="org/shared")
    assert len(repo.pull_requests) == 1


def test_branch(hub, client):
    converted(client)
    client.run("push", "out", "me/tiny-256", "--revision", "longer")
    repo = hub.repos["me/tiny-256"]
    assert list(repo.head.files) == [".gitattributes"]
    assert "config.json" in repo.at("longer").files
    assert list(repo.tags.values()) == [repo.at("longer").oid]
    ran = client.run("push", "out", "me/tiny-256", "--revision", "longer")
    assert "nothing was sent" in ran.stdout


def test_what_the_hub_remarks_on_the_card(hub, client):
    out = converted(client)
    (out / "README.md").write_text("no metadata\n")
    assert "empty or missing yaml metadata" in client.run("push", out, "me/tiny-256").stdout
    (out / "README.md").write_text("---\nlicense: nonsense\n---\n")
    assert "Invalid metadata in README.md" in client.run("push", out, "me/other", status=1).error


# Misuse


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("push", "base", "me/x"), "base: is no folder that ropext converted: it needs config.json and ropext.json."),
        (("push", "nowhere", "me/x"), "is no folder that ropext converted"),
        (("push", "out", "x"), "x: is no Hub id (`organisation/name`)."),
        (("push", "out", "org/tiny"), "org/tiny: is the base itself; push to a repository of its own."),
        (("push", "out", "me/base"), "me/base: holds a model that ropext did not write"),
        (("push", "out", "me/x", "--create-pr"), "me/x: there is no such repository or branch to propose anything to"),
        (("convert", "org/tiny", "--preset", "preset.yaml", "--public"), "belong to --push"),
    ],
)
def test_misuse(hub, client, base, args, message):
    converted(client)
    hub.publish("me/base", base)
    assert message in client.run(*args, status=2).error


def test_missing_file(hub, client):
    (converted(client) / "LICENSE").unlink()
    assert (
        "LICENSE is missing, which ropext.json lists; convert again."
        in client.run("push", "out", "me/x", status=1).error
    )


def test_pickles_links_and_hidden_files_stay_here(hub, client):
    out = converted(client)
    (out / "training.bin").write_bytes(b"pickle")
    (out / "passwords").symlink_to("/etc/passwd")
    (out / ".cache").mkdir()
    (out / ".cache" / "x").write_text("x")
    ran = client.run("push", out, "me/tiny-256")
    assert "note: left out, being pickles or links: passwords, training.bin" in ran.stderr
    assert {"training.bin", "passwords", ".cache/x"}.isdisjoint(hub.repos["me/tiny-256"].head.files)


# Checked where it lies


@pytest.fixture
def pushed(hub, client):
    """A repository that a conversion was pushed to, and a cache that knows nothing of it."""
    convert(client)
    client.forget()
    hub.watch()
    return hub.repos["me/tiny-256"]


def put(hub, repo, path, data):
    """Commit a file, or that it goes."""
    files = {name: blob for name, blob in repo.head.files.items() if name != path}
    repo.add("changed", files if data is None else files | {path: hub.stored(repo, data, path)})


def flipped(blob, at):
    data = bytearray(blob.data)
    data[at] ^= 1
    return bytes(data)


def verified(client, *args, status=0):
    """Verify the repository without a model, and return the checks."""
    report = json.loads(client.run("verify", "me/tiny-256", "--quick", "--json", *args, status=status).stdout)
    assert report["good"] is (status == 0)
    return {check["check"]: check for check in report["checks"]}


def test_a_repository_is_good(hub, client, pushed):
    ran = client.run("verify", "me/tiny-256")
    assert ran.stdout.endswith(f"me/tiny-256 at {pushed.head.oid}: good\n")
    assert [line.split()[0] for line in ran.stdout.splitlines()] == ["good"] * 8 + ["me/tiny-256"]
    assert "2 of 3 layers, made-up weights, float32" in ran.stdout
    weights = [seen for seen in hub.seen if seen.path.endswith(".safetensors")]
    assert [seen.sent for seen in weights] == [100_001]  # the header
    assert client.cached < 200_000
    assert {seen.method for seen in hub.seen} == {"GET", "HEAD"}


def test_a_repository_is_checked_quickly(hub, client, pushed):
    found = verified(client)
    assert {name for name, check in found.items() if check["status"] == "unchecked"} == {"headers", "reference", "base"}
    assert not [seen for seen in hub.seen if seen.path.endswith(".safetensors")]


@pytest.mark.parametrize(
    ("path", "mark", "bad"),
    [
        ("model.safetensors", None, {"weights"}),
        ("config.json", b'"inv_freq": [', {"files", "config"}),
        ("rope_ext_dpe.py", b"import", {"files", "code"}),
        ("ropext.json", b"description: ", {"record"}),
        ("generation_config.json", b'"', {"files"}),
    ],
)
def test_flipped_bit_in_a_repository(hub, client, pushed, path, mark, bad):
    blob = pushed.head.files[path]
    at = blob.data.index(mark) + len(mark) + 8 if mark else 300_000
    put(hub, pushed, path, flipped(blob, at))
    found = verified(client, status=1)
    assert bad <= {name for name, check in found.items() if check["status"] == "bad"}
    assert path in found[max(bad - {"config"})]["text"]


def test_missing_and_added_files_of_a_repository(hub, client, pushed):
    put(hub, pushed, "rope_ext_band.py", None)
    assert "rope_ext_band.py: is missing" in verified(client, status=1)["files"]["text"]
    put(hub, pushed, "chat_template.jinja", b"{}")
    assert "chat_template.jinja: was added" in " ".join(verified(client, status=1)["files"]["faults"])
    put(hub, pushed, "config.json", None)
    assert "config.json is missing" in verified(client, status=1)["config"]["text"]
    put(hub, pushed, "ropext.json", None)
    assert "is nothing that ropext converted" in client.run("verify", "me/tiny-256", status=2).error


def test_revision_of_a_repository(hub, client, pushed):
    first = pushed.head.oid
    put(hub, pushed, "rope_ext_dpe.py", b"# other\n")
    verified(client, status=1)
    verified(client, "--revision", first)
    assert "has no revision 'v9'" in client.run("verify", "me/tiny-256", "--revision", "v9", status=1).error


def test_files_that_nobody_asked_for_are_not_fetched(hub, client, pushed):
    put(hub, pushed, "notes [1].txt", b"x" * 1_000_000)
    assert "not of the conversion: notes [1].txt" in verified(client)["files"]["text"]
    assert client.cached < 200_000


def test_cut_weights_of_a_repository(hub, client, pushed):
    """The digests match, and the file is shorter than its header says."""
    cut = pushed.head.files["model.safetensors"].data[:200_000]
    record = json.loads(pushed.head.files["ropext.json"].data)
    put(hub, pushed, "model.safetensors", cut)
    record["files"]["model.safetensors"] = {"sha256": pushed.head.files["model.safetensors"].sha256, "bytes": len(cut)}
    put(hub, pushed, "ropext.json", sealed(record))
    ran = client.run("verify", "me/tiny-256", status=1)
    assert "bad        headers    me/tiny-256: model.safetensors: cut off" in ran.stdout


@pytest.mark.parametrize("name", ["me/nothing", "org/closed", "org/gated"])
def test_repository_that_is_not_shown(hub, client, base, name):
    hub.publish("org/closed", base, private=True)
    hub.publish("org/gated", base, gated="manual")
    put(hub, hub.repos["org/gated"], "ropext.json", b"{}")
    said = "access to this model is gated" if name == "org/gated" else "no such model on the Hub"
    assert said in client.run("verify", name, status=1).error


def test_hub_that_breaks_off_says_nothing_of_a_repository(hub, client, pushed):
    verified(client)
    for number in (0, 1, 2, 3, 20, len(hub.seen) - 1):
        client.forget()
        hub.watch(lambda at, seen, number=number: "drop" if at >= number else None)
        ran = client.run("verify", "me/tiny-256", "--quick", status=1)
        assert ran.stdout == ""
        assert "cannot be reached" in ran.error


def test_whole_model_of_a_repository(client, pushed):
    assert "its weights are not here" in client.run("verify", "me/tiny-256", "--forward", status=2).error


def test_hub_that_is_not_there(hub, client):
    converted(client)
    hub.watch(lambda at, seen: "drop")
    assert "cannot be reached, or broke off" in client.run("push", "out", "me/x", status=1).error
