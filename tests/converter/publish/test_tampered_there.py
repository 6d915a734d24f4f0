"""What is done to a converted folder, done to a repository: never good there either."""

import json
import shutil
from pathlib import Path

import pytest

from tests.helpers.hub_client import running
from tests.helpers.hub_server import Hub
from tests.helpers.tamperings import BAD, HONEST, LOCAL, OF_FILES, UNKNOWN, untouched

BUILT = {"reference", "base", "headers"}
"""Checks that take a model, which `--quick` leaves out."""


@pytest.fixture(scope="module")
def machine(tmp_path_factory):
    """As everywhere here, but that models run where the command does, so that they start at once."""
    place = tmp_path_factory.mktemp("machine")
    with Hub().running() as hub, running(hub.url, place / "home", place, in_process=True) as client:
        yield hub, client


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Not to be changed."""
    return untouched(tmp_path_factory.mktemp("made"))


@pytest.fixture
def verified(made, tmp_path, hub, client):
    """Change the folder, publish that, and return the report on it."""

    def verify(change, *options):
        folder = Path(shutil.copytree(made, tmp_path / "changed", dirs_exist_ok=True))
        change(folder)
        hub.publish("me/made", folder)
        return json.loads(client.run("verify", "me/made", "--json", *options, status=None).stdout)

    return verify


@pytest.mark.parametrize("name", [name for name in BAD if name not in LOCAL])
def test_a_tampered_repository_is_bad(verified, client, name):
    report = verified(BAD[name], "--quick")
    if report["verdict"] != "bad":
        report = json.loads(client.run("verify", "me/made", "--json", status=None).stdout)
    assert report["verdict"] == "bad", report


@pytest.mark.parametrize("name", UNKNOWN)
def test_what_is_not_known_of_a_repository_is_not_good(verified, name):
    report = verified(UNKNOWN[name])
    assert report["verdict"] == "incomplete", report


@pytest.mark.parametrize("name", [name for name in HONEST if name not in OF_FILES])
def test_an_honest_repository_has_no_faults(verified, name):
    report = verified(HONEST[name], "--quick")
    assert {check["check"] for check in report["checks"] if check["status"] != "good"} == BUILT, report


@pytest.mark.parametrize("name", ["nothing", "results in the card", "a newer version with the same code"])
def test_an_honest_repository_is_good(verified, name):
    assert verified(HONEST[name])["verdict"] == "good"
