"""Publishing over a line, or to a Hub, that breaks at any request."""

import os
import signal
import time

import pytest

from tests.helpers.pushing import convert, converted, snippet


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
