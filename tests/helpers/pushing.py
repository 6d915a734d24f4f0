"""Commands that tests of publishing run, and what they look for in the answers."""

import json
import re

import pytest

from ropext.converter.hub.client import can_copy

WEIGHTS = 439032
copying = pytest.mark.skipif(not can_copy(), reason="huggingface_hub before 1.17 copies nothing")


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
