"""A checkpoint that is verified where it is published."""

import json

import pytest

from tests.helpers.checkpoints import sealed
from tests.helpers.pushing import convert, converted


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


def verified(client, *args, status=3):
    """Verify the repository without a model, and return the checks."""
    report = json.loads(client.run("verify", "me/tiny-256", "--quick", "--json", *args, status=status).stdout)
    assert report["verdict"] == {1: "bad", 3: "incomplete"}[status]
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
        assert all(line.startswith("good ") for line in ran.stdout.splitlines())  # and no verdict
        assert "cannot be reached" in ran.error


def test_whole_model_of_a_repository(client, pushed):
    assert "its weights are not here" in client.run("verify", "me/tiny-256", "--forward", status=2).error


def test_hub_that_is_not_there(hub, client):
    converted(client)
    hub.watch(lambda at, seen: "drop")
    assert "cannot be reached, or broke off" in client.run("push", "out", "me/x", status=1).error
