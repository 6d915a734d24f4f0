"""A Hub on loopback whose answers are damaged, for `python -m tools.fuzz`. The client has to be imported after it."""

from __future__ import annotations

import json
import os
import random
import shutil
import sys
import threading
import time
from pathlib import Path

from tests.helpers.hub_client import settings
from tests.helpers.hub_server import Hub
from tools.fuzz_damage import damage, mutated


class LyingHub(Hub):
    """Answers as a Hub does, and damages what it says of repositories, and some files."""

    def __init__(self, home: Path) -> None:
        super().__init__()
        self.home, self.rng, self.alive = home, random.Random(0), None

    def answer(self, request):
        """Answer, and change a part of what is JSON."""
        found = super().answer(request)
        if self.rng.random() < 0.6 or not isinstance(found.data, bytes):
            return found
        if request.path.startswith("/api/"):
            found.data = mutated(self.rng, json.loads(found.data))
        elif self.rng.random() < 0.3:
            found.data = damage(self.rng, found.data[:100_000])
        if self.rng.random() < 0.2:
            name = self.rng.choice(["ETag", "X-Repo-Commit", "Content-Range", "Location", "X-Linked-Size"])
            found.headers[name] = self.rng.choice(["", "x", "../../x", "-1", "9" * 30, '"é"', "a" * 5000])
        found.start, found.stop = 0, len(found.data)
        return found


def started(home: Path, base: Path, converted: Path) -> LyingHub:
    """Start the Hub for as long as this process lives, and lead the client to it."""
    assert "huggingface_hub" not in sys.modules, "the client knows another Hub already"
    threading.stack_size(1 << 19)  # one for each connection, and each counts whole in the bound on memory
    hub = LyingHub(home)
    hub.alive = hub.running()  # it stops when nothing refers to it
    hub.alive.__enter__()
    hub.publish("org/tiny", base)
    hub.publish("me/made", converted)
    os.environ |= settings(hub.url, home)
    pause = time.sleep
    time.sleep = lambda seconds: pause(min(seconds, 0.001))  # between the client's own attempts
    return hub


def hub_input(rng, folder, hub, preset):
    """A command that asks the Hub, with an empty cache."""
    shutil.rmtree(hub.home, ignore_errors=True)
    hub.rng = random.Random(rng.random())
    file = folder / "good.yaml"
    file.write_text(preset)
    commands = [
        ["convert", "org/tiny", "-p", str(file), "-o", str(folder / "out")],
        ["convert", "org/tiny", "-p", str(file), "-o", str(folder / "out"), "--dry-run", "--json"],
        ["inspect", "org/tiny"],
        ["suggest", "org/tiny", "--target", "256"],
        ["verify", "me/made", "--quick"],
        ["verify", "me/made", "--quick", "--json", "--revision", "main"],
    ]
    return rng.choice(commands)
