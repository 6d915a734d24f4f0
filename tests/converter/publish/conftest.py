"""A Hub on loopback that can break at any request, and its real client."""

import os
import shutil
from pathlib import Path

import pytest

from tests.helpers.hub_client import running
from tests.helpers.hub_server import Hub

collect_ignore_glob = [] if hasattr(os, "fork") else ["test_*.py"]  # the client is forked

PRESET = """\
name: tiny-dpe
description: DPE for a tiny model.
base_model: org/tiny
initial_window: 64
target_window: 256
method: dpe
parameters: {local_window: 16, scale_factors: [2, 8, 4, 16], dimension_groups: [0, 2, 4, 6, 8]}
"""


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
