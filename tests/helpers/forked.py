"""Python in a process of its own that starts at once: it is forked from one that has imported torch and transformers.

That one has nothing of ropext, of the tests or of any test before. Where processes are not forked they are started.
"""

import os
import runpy
import subprocess
import sys
from functools import cache
from multiprocessing import get_all_start_methods, get_context
from unittest.mock import patch

__all__ = ["Forked", "processes", "script"]

PRELOADED = ("torch", "transformers.pipelines", "transformers.models.llama.modeling_llama")


@cache
def processes():
    """The context of `multiprocessing` by which they start."""
    if "forkserver" not in get_all_start_methods():
        return get_context("spawn")
    from multiprocessing import forkserver

    context = get_context("forkserver")
    context.set_forkserver_preload([*PRELOADED])
    with patch.dict(os.environ, HF_HUB_OFFLINE="1"):  # which is read when transformers is imported
        forkserver.ensure_running()
    return context


class Forked:
    """As `subprocess.Popen` of `python -m MODULE ARGUMENTS...` or `python SCRIPT ARGUMENTS...`.

    Attributes:
        pid: the process's.
    """

    def __init__(self, command, *, cwd, env, stdout, stderr):
        """Start it; its output goes to files."""
        python, *arguments = command
        assert python == sys.executable
        streams = [os.path.abspath(stream.name) for stream in (stdout, stderr)]
        self._process = processes().Process(target=_run, args=(arguments, str(cwd), dict(env), streams))
        self._process.start()
        self.pid = self._process.pid

    def wait(self, timeout=None):
        """Return its status, negative that of the signal which ended it."""
        self._process.join(timeout)
        if self._process.exitcode is None:
            raise subprocess.TimeoutExpired(str(self.pid), timeout)
        return self._process.exitcode

    def kill(self):
        """End it."""
        self._process.kill()


def script(path, *arguments, cwd, env, start=Forked):
    """Run a script and return its status, what it printed, and that with its errors."""
    names = [cwd / f"{path.stem}.{stream}.txt" for stream in ("out", "err")]
    with names[0].open("a") as out, names[1].open("a") as err:
        command = [sys.executable, str(path), *map(str, arguments)]
        status = start(command, cwd=cwd, env=env, stdout=out, stderr=err).wait()
    printed, errors = (name.read_text() for name in names)
    return status, printed, printed + errors


def _run(arguments, cwd, env, streams):
    """What the process does."""
    for number, path in enumerate(streams, start=1):
        os.dup2(os.open(path, os.O_WRONLY | os.O_APPEND), number)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    _take_settings(env)
    sys.path[:] = _of_a_fresh_python(sys.path, env)
    assert not [name for name in sys.modules if name.partition(".")[0] == "ropext"]
    if arguments[0] == "-m":
        sys.path.insert(0, cwd)
        sys.argv[:] = arguments[1:]
        runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
    else:
        sys.path.insert(0, os.path.dirname(arguments[0]))
        sys.argv[:] = arguments
        runpy.run_path(arguments[0], run_name="__main__")


def _of_a_fresh_python(path, env):
    """The part of a path that no test added to: packages that are installed, and what the environment names."""
    given = [each for each in env.get("PYTHONPATH", "").split(os.pathsep) if each]
    roots = tuple(os.path.join(prefix, "") for prefix in {sys.prefix, sys.base_prefix})
    return [*given, *(each for each in path if each.startswith(roots))]


def _take_settings(env):
    """What transformers takes from the environment when it is imported."""
    if "HF_MODULES_CACHE" in env:
        from transformers import dynamic_module_utils

        dynamic_module_utils.HF_MODULES_CACHE = env["HF_MODULES_CACHE"]
