"""What is written arrives: whatever the encoding, the terminal, the pipe; and an interruption says how to go on."""

import errno
import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ropext.converter.cli import output

ROPEXT = [sys.executable, "-m", "ropext"]
DOCS = Path(__file__).parents[3] / "docs" / "json.md"


def typed(*arguments, **environment):
    """Run `ropext` in a process of its own, its output in bytes."""
    kept = {key: value for key, value in os.environ.items() if key not in ("COLUMNS", "NO_COLOR", "PYTHONUTF8")}
    return subprocess.run([*ROPEXT, *map(str, arguments)], capture_output=True, env=kept | environment, timeout=120)


# Encodings


@pytest.mark.parametrize("encoding", ["cp1252", "ascii", "utf-16", "cp932"])
def test_no_encoding_ends_a_command(encoding, tiny_llama, tiny_preset, tmp_path):
    done = typed("convert", tiny_llama, "-p", tiny_preset, "-o", tmp_path / "out", PYTHONIOENCODING=encoding)
    assert (done.returncode, b"error" in done.stderr) == (0, False)
    assert (tmp_path / "out" / "config.json").exists()
    # click takes ascii for a mistake, and writes UTF-8.
    text = done.stdout.decode("utf-8" if encoding == "ascii" else encoding)
    assert re.search("64 (->|→) 256 tokens", text)


def test_signs_that_an_encoding_lacks_are_spelt_and_others_replaced():
    output.make_streams_robust()
    assert "64 → 256 – −1 × “a” 漢".encode("cp1252", "ropext").decode("cp1252") == "64 -> 256 – -1 × “a” ?"
    assert "→ ± ∞ 漢".encode("ascii", "ropext") == b"-> +- inf ?"


@pytest.mark.parametrize("encoding", ["cp1252", "utf-8"])
def test_json_stays_the_same_in_any_encoding(encoding, tiny_preset, tmp_path):
    text = tiny_preset.read_text().replace("DPE for a tiny model.", '"漢 → \\x9b2J \\x7f"').replace("tiny-dpe", "tiny")
    file = tmp_path / "漢.yaml"
    file.write_text(text, encoding="utf-8")
    done = typed("validate", file, "--json", PYTHONIOENCODING=encoding)
    assert json.loads(done.stdout.decode(encoding))[0]["file"] == str(file)
    done.stdout.decode("ascii" if encoding != "utf-8" else "utf-8")


def test_control_characters_never_reach_a_terminal(run, tmp_path):
    evil = "\x1b[2J\x9b\x7f\u202e"
    result = run("validate", f"{evil}.yaml", status=2)
    listed = run("validate", f"{evil}.yaml", "--json", status=2)
    unknown = run(evil, status=2)
    option = run("eval", "ppl", "x", f"--dtypo{evil}", status=2)
    for text in (result.output, listed.output, unknown.output, option.output):
        assert text.replace("\n", "").isprintable()
    assert json.loads(listed.stdout)[0]["file"] == f"{evil}.yaml"


# Terminals and pipes


def on_a_terminal(*arguments, columns, **environment):
    """Run `ropext` on a terminal of so many columns; what it showed."""
    leader, follower = pty.openpty()
    kept = {key: value for key, value in os.environ.items() if key not in ("COLUMNS", "NO_COLOR")}
    if columns is not None:
        kept["COLUMNS"] = columns
    kept |= {"TERM": "xterm-256color", **environment}
    process = subprocess.Popen(
        [*ROPEXT, *map(str, arguments)], stdin=follower, stdout=follower, stderr=follower, env=kept, close_fds=True
    )
    os.close(follower)
    shown = b""
    while True:
        try:
            piece = os.read(leader, 65536)
        except OSError:
            break
        if not piece:
            break
        shown += piece
    os.close(leader)
    assert process.wait(timeout=60) == 0, shown
    return shown.decode()


@pytest.mark.parametrize("columns", [None, "0", "1", "20", "80", "300"])
def test_terminals_of_any_width(columns):
    text = on_a_terminal("families", "qwen3", columns=columns)
    assert "qwen3" in text.lower()


def test_colour_is_for_terminals_and_not_for_those_who_refuse_it():
    assert re.search("\x1b\\[[0-9;]*3[0-9]m", on_a_terminal("families", "qwen3", columns="120"))
    assert not re.search("\x1b\\[[0-9;]*3[0-9]m", on_a_terminal("families", "qwen3", columns="120", NO_COLOR="1"))
    assert b"\x1b" not in typed("families", "qwen3").stdout


def test_a_closed_pipe_is_no_fault():
    process = subprocess.Popen([*ROPEXT, "families"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    process.stdout.close()
    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.wait(timeout=60) in (0, 1)


def test_a_full_disk_is_said():
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    with open("/dev/full", "w") as full:
        done = subprocess.run([*ROPEXT, "families"], stdout=full, stderr=subprocess.PIPE, timeout=60)
    assert done.returncode == 1
    assert done.stderr.startswith(b"error: No space left on device")
    assert b"Traceback" not in done.stderr


# Ctrl-C


def test_an_interruption_says_how_to_go_on(run, monkeypatch):
    def interrupted(*arguments, **named):
        raise KeyboardInterrupt

    monkeypatch.setattr("ropext.converter.evaluation.run.evaluate.evaluate", interrupted)
    result = run("eval", "ppl", "model", status=130)
    assert result.stderr == "interrupted: every result so far is kept; the same command with --resume goes on\n"
    monkeypatch.setattr("ropext.converter.cli.inspect.inspect_source", interrupted)
    assert run("inspect", "model", status=130).stderr == "interrupted: nothing was changed\n"


def test_every_command_has_a_word_for_it():
    from ropext.converter.cli import app

    assert all(re.fullmatch(r"[a-z].*[^.]", entry.interrupted) for entry in app._COMMANDS.values())


def opened_for_writing(fifo, process):
    """Open a FIFO once the process reads it."""
    while process.poll() is None:
        try:
            return os.open(fifo, os.O_WRONLY | os.O_NONBLOCK)
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
            time.sleep(0.05)
    raise AssertionError(process.stderr.read())


def test_a_real_interruption(tmp_path):
    fifo = tmp_path / "never.jsonl"
    os.mkfifo(fifo)
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    # Shells let what they start in the background ignore the signal.
    heeding = {"preexec_fn": lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)}
    with subprocess.Popen([*ROPEXT, "report", fifo], **options, **heeding) as process:
        writing = opened_for_writing(fifo, process)
        time.sleep(0.5)
        process.send_signal(signal.SIGINT)
        try:
            printed, said = process.communicate(timeout=60)
        finally:
            process.kill()
            os.close(writing)
    assert (process.returncode, printed) == (130, "")
    assert said.endswith("interrupted: nothing was changed\n")
    assert "Traceback" not in said


# JSON


def keys(value):
    if isinstance(value, dict):
        yield from value
    for inner in value if isinstance(value, list) else ():
        yield from keys(inner)


def test_every_key_is_documented(run, tiny_llama, tiny_preset):
    page = DOCS.read_text()
    run("convert", tiny_llama, "-p", tiny_preset, "-o", "out", "-q")
    asked = [
        ("convert", tiny_llama, "-p", tiny_preset, "-o", "again"),
        ("convert", tiny_llama, "-p", tiny_preset, "-o", "third", "--dry-run"),
        ("verify", "out", "--quick"),
        ("upgrade", "out"),
        ("inspect", "out"),
        ("suggest", tiny_llama, "--target", "256"),
        ("presets", "list"),
        ("validate", tiny_preset),
        ("families",),
    ]
    for command in asked:
        section = page.split(f"### {' '.join(command[: 1 + (command[0] == 'presets')])}\n")[1].split("\n### ")[0]
        value = json.loads(run(*command, "--json", status=3 if "--quick" in command else 0).stdout)
        assert value
        missing = {key for key in keys(value) if f"`{key}`" not in section}
        assert not missing, command
