"""Dry runs, pull requests, branches and misuse."""

import json
import re

import pytest

from tests.helpers.pushing import WEIGHTS, convert, converted, copying, report


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
