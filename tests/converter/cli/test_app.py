"""The command line itself: help, versions, and failures as messages."""

import subprocess
import sys

import pytest
from click.testing import CliRunner

from ropext.converter.cli import app
from ropext.converter.cli.app import main
from ropext.converter.errors import RopextError, UsageError


def ropext(*args):
    return CliRunner().invoke(main, args)


def test_unknown_command():
    result = ropext("conver")
    assert result.exit_code == 2
    assert "No such command 'conver'; did you mean 'convert'?" in result.stderr


def test_version_and_help():
    assert ropext("--version").stdout == "ropext 0.1.0\n"
    listed = ropext("--help").stdout
    assert all(command in listed for command in ("convert", "inspect", "presets", "validate", "schema", "demo"))


@pytest.mark.parametrize(
    ("error", "message", "status"),
    [
        (RopextError("the disk is odd"), "error: the disk is odd\n", 1),
        (UsageError("say what"), "error: say what\n", 2),
        (OSError(28, "No space left on device", "out/x"), "error: out/x: No space left on device\n", 1),
        (PermissionError(13, "Permission denied", "out"), "error: out: Permission denied\n", 1),
        (KeyboardInterrupt(), "interrupted: nothing was changed\n", 130),
        (BrokenPipeError(32, "Broken pipe"), "", 1),
        (ZeroDivisionError("oh"), "error: ZeroDivisionError: oh (a fault of ropext: run again with", 1),
    ],
)
def test_failures_are_messages(monkeypatch, error, message, status):
    def fail(method):
        raise error

    monkeypatch.setattr(app.main.get_command(None, "schema"), "callback", fail)
    result = ropext("schema")
    assert result.exit_code == status
    assert result.stderr.startswith(message)
    assert "Traceback" not in result.stderr
    if isinstance(error, Exception) and not isinstance(error, BrokenPipeError):
        assert "Traceback" in ropext("schema", "--traceback").stderr


@pytest.mark.parametrize(
    "command", [[], ["convert"], ["inspect"], ["presets"], ["presets", "list"], ["validate"], ["schema"]]
)
def test_help_is_light(command):
    heavy = ["torch", "transformers", "numpy", "huggingface_hub"]
    code = f"""
import sys
from ropext.converter.cli.app import main
try:
    main({[*command, "--help"]})
finally:
    print([name for name in {heavy} if name in sys.modules], file=sys.stderr)
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stderr == "[]\n"
    assert run.stdout.startswith("Usage:")
