"""Runs `ropext` against `tests/helpers/hub_server.py`, with the real client of the Hub.

The client reads HF_ENDPOINT when it is imported, so it lives in a process of its own. That process imports once and
forks for each command: what one command did to it, another does not see, and it can be killed at any moment.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path


@dataclass
class Ran:
    status: int
    stdout: str
    stderr: str

    @property
    def error(self):
        """The one line that says what went wrong."""
        lines = [line for line in self.stderr.splitlines() if line.startswith("error: ")]
        assert len(lines) == 1, self.stderr
        assert "Traceback" not in self.stderr
        assert "fault of ropext" not in self.stderr
        return lines[0].removeprefix("error: ")


class Client:
    """A user at a machine: a cache, a token and a folder to work in."""

    def __init__(self, process, home, work):
        self.process, self.home, self.work, self.pid = process, home, work, None

    def run(self, *args, token="hf_me", without=(), status=0):
        """Run a command; `without` names functions of `ropext.converter.hub.client` that return False."""
        self.start(*args, token=token, without=without)
        ran = self.wait()
        assert status is None or ran.status == status, (ran.status, ran.stdout, ran.stderr)
        return ran

    def start(self, *args, token="hf_me", without=()):
        job = {"args": [str(arg) for arg in args], "work": str(self.work), "token": token, "without": list(without)}
        self.process.stdin.write(json.dumps(job) + "\n")
        self.process.stdin.flush()
        self.pid = int(self.process.stdout.readline())

    def wait(self):
        return Ran(**json.loads(self.process.stdout.readline()))

    def forget(self):
        """Empty the cache."""
        shutil.rmtree(self.home / "hub", ignore_errors=True)

    @property
    def cached(self):
        """Bytes of all that was downloaded."""
        return sum(file.stat().st_size for file in self.home.rglob("blobs/*"))


def settings(url, home):
    """The variables that lead the client to a Hub and a cache."""
    return {
        "HF_ENDPOINT": url,
        "HF_HOME": str(home),
        "HF_HUB_DISABLE_XET": "1",  # uploads go by LFS, which the server speaks
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "HF_HUB_OFFLINE": "0",
    }


@contextmanager
def running(url, home, work, *, in_process=False):
    """Start the process whose Hub is at `url`; with `in_process`, `verify` starts none for the model."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.helpers.hub_client", *(["in_process"] if in_process else [])],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
        env={**os.environ, **settings(url, home)},
    )
    try:
        yield Client(process, home, work)
    finally:
        process.stdin.close()
        process.wait(timeout=30)
        process.stdout.close()


def _import_early():
    """Do once what each command would do anew."""
    import gc
    import ssl

    from huggingface_hub import _commit_api, _snapshot_download  # noqa: F401

    from ropext.converter import model_code
    from ropext.converter.cli import app, convert, push, verify  # noqa: F401
    from ropext.converter.verify import checks

    model_code.code("llama", "dpe")
    context = ssl.create_default_context()
    ssl.create_default_context = lambda *given, **how: context  # the Hub here speaks plain HTTP
    if "in_process" in sys.argv:
        import torch
        from transformers.models.llama import modeling_llama  # noqa: F401

        from ropext.converter.verify import model, shapes  # noqa: F401
        from tests.helpers.in_process import InProcess

        torch.set_num_threads(1)
        checks.ModelProcess = InProcess
    gc.freeze()  # so that a command's collections leave what it shares with the others alone


def _serve():
    import time

    import huggingface_hub.hf_api

    _import_early()
    pause = time.sleep
    time.sleep = lambda seconds: pause(min(seconds, 0.005))  # between the client's own attempts
    assert os.environ["HF_ENDPOINT"] == huggingface_hub.constants.ENDPOINT
    for line in sys.stdin:
        job = json.loads(line)
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            pid = os.fork()
            if pid == 0:
                _run(job, out, err)
            print(pid, flush=True)
            status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
            texts = [(stream.seek(0), stream.read().decode())[1] for stream in (out, err)]
        print(json.dumps({"status": status, "stdout": texts[0], "stderr": texts[1]}), flush=True)


def _run(job, out, err):
    """Run one command in this process, which ends with it."""
    status = 70
    try:
        os.dup2(out.fileno(), 1)
        os.dup2(err.fileno(), 2)
        os.chdir(job["work"])
        os.environ.pop("HF_TOKEN", None)
        if job["token"]:
            os.environ["HF_TOKEN"] = job["token"]
        from ropext.converter.cli import app
        from ropext.converter.hub import client as hub

        for name in job["without"]:
            setattr(hub, name, lambda: False)
        app.main(job["args"])
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 0
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


if __name__ == "__main__":
    _serve()
