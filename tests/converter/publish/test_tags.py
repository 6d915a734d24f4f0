"""The tag that a card's snippet loads."""

import re

from tests.helpers.pushing import convert, converted, snippet


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
    client.run("verify", "me/tiny-256", "--revision", named["revision"], "--quick", status=3)


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
