"""Writing: whole or not at all."""

import errno
import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import textwrap
import threading

import pytest

from ropext.converter.convert import write as writing
from ropext.converter.convert.write import write
from ropext.converter.errors import RopextError, UsageError
from ropext.converter.files import atomic_folder, links
from tests.helpers.written import WEIGHTS, entries


def fail_at(monkeypatch, function, error):
    def fail(*args, **kwargs):
        raise error

    monkeypatch.setattr(f"ropext.converter.{function}", fail)


# What is written


def test_result(plan, output):
    result = write(plan, output)
    names = ["LICENSE", "code.py", "config.json", "model.safetensors", "ropext.json"]
    assert entries(output) == names
    assert sorted(file.path for file in result.files) == names
    assert result.bytes_linked + result.bytes_moved == sum(path.stat().st_size for path in output.iterdir())
    assert entries(output.parent) == ["output", "source"]


def test_digests(plan, output):
    write(plan, output)
    provenance = json.loads((output / "ropext.json").read_text())
    for path, entry in provenance["files"].items():
        data = (output / path).read_bytes()
        assert entry["bytes"] == len(data)
        if path != "model.safetensors":
            assert entry["sha256"] == hashlib.sha256(data).hexdigest()
    assert provenance["code"] == {"code.py": hashlib.sha256(b"code").hexdigest()}
    assert set(provenance["files"]) == set(entries(output)) - {"ropext.json"}


def test_same_conversion_same_bytes(plan, tmp_path):
    for name in "ab":
        write(plan, tmp_path / name)
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()


def test_parents_are_made_and_removed_again(plan, tmp_path, monkeypatch):
    write(plan, tmp_path / "x" / "y" / "output")
    assert (tmp_path / "x" / "y" / "output" / "config.json").exists()
    fail_at(monkeypatch, "convert.write.move_into_place", OSError(errno.EIO, "broken"))
    with pytest.raises(RopextError, match="broken"):
        write(plan, tmp_path / "z" / "y" / "output")
    assert not (tmp_path / "z").exists()


def test_config_is_written_last(plan, output, monkeypatch):
    seen = []
    real = writing.Path.write_bytes
    monkeypatch.setattr(writing.Path, "write_bytes", lambda self, data: (seen.append(self.name), real(self, data))[1])
    write(plan, output)
    assert re.fullmatch(r"\.config\.ropext-[0-9a-f]{8}\.json", seen[-1])


@pytest.mark.parametrize(
    ("mode", "mask", "made"), [(0o600, 0o022, 0o600), (0o664, 0o027, 0o640), (0o444, 0o022, 0o644)]
)
def test_who_can_read_the_base_can_read_a_copy(plan, output, mode, mask, made):
    source = plan.source / "model.safetensors"
    source.chmod(mode)
    before = os.umask(mask)
    try:
        write(plan, output, link="copy")
    finally:
        os.umask(before)
    assert (output / "model.safetensors").stat().st_mode & 0o777 == made
    assert (output / "config.json").stat().st_mode & 0o777 == 0o666 & ~mask


# Links


def test_hardlink(plan, output):
    result = write(plan, output, link="hardlink")
    assert os.path.samefile(output / "model.safetensors", plan.source / "model.safetensors")
    assert result.methods == {"hardlink": 1, "copy": 1, "generate": 3}
    assert result.bytes_linked == len(WEIGHTS)
    assert json.loads((output / "ropext.json").read_text())["link"] == "hardlink"


def test_symlink(plan, output):
    write(plan, output, link="symlink")
    assert os.readlink(output / "model.safetensors") == str(plan.source / "model.safetensors")


def test_copy(plan, output):
    seen = []
    result = write(plan, output, link="copy", progress=lambda *args: seen.append(args))
    assert (output / "model.safetensors").read_bytes() == WEIGHTS
    assert not os.path.samefile(output / "model.safetensors", plan.source / "model.safetensors")
    assert result.bytes_linked == 0
    assert ("model.safetensors", len(WEIGHTS), len(WEIGHTS)) in seen
    listed = json.loads((output / "ropext.json").read_text())["files"]["model.safetensors"]
    assert listed["sha256"] == hashlib.sha256(WEIGHTS).hexdigest()


@pytest.mark.parametrize(
    ("impossible", "method"), [((), "reflink"), (("reflink",), "hardlink"), (("reflink", "hardlink"), "copy")]
)
def test_auto_takes_the_first_that_works(plan, output, monkeypatch, impossible, method):
    def cannot(source, target):
        raise OSError(errno.EXDEV, "other file system")

    monkeypatch.setitem(links._LINKERS, "reflink", lambda source, target: target.write_bytes(source.read_bytes()))
    for each in impossible:
        monkeypatch.setitem(links._LINKERS, each, cannot)
    result = write(plan, output)
    assert {file.path: file.method for file in result.files}["model.safetensors"] == method
    assert (output / "model.safetensors").read_bytes() == WEIGHTS


def test_reflink_that_fails_leaves_no_file(plan, output, monkeypatch):
    fcntl = pytest.importorskip("fcntl")

    def refuse(*args):
        raise OSError(errno.EOPNOTSUPP, "not supported")

    monkeypatch.setattr(fcntl, "ioctl", refuse)
    assert write(plan, output).methods["hardlink"] == 1


@pytest.mark.parametrize("mode", ["reflink", "hardlink", "symlink"])
def test_mode_that_is_impossible(plan, output, monkeypatch, mode):
    def cannot(source, target):
        raise OSError(errno.EXDEV, "other file system")

    monkeypatch.setitem(links._LINKERS, mode, cannot)
    with pytest.raises(RopextError, match=f"cannot make a {mode} of it here: other file system; use --link auto"):
        write(plan, output, link=mode)
    assert entries(output.parent) == ["source"]


def test_link_failure_that_is_no_matter_of_kind(plan, output, monkeypatch):
    def full(source, target):
        raise OSError(errno.ENOSPC, "No space left on device", str(target))

    monkeypatch.setitem(links._LINKERS, "reflink", full)
    with pytest.raises(RopextError, match="No space left"):
        write(plan, output)


# Interruptions


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(errno.EIO, "broken"), MemoryError()])
@pytest.mark.parametrize(
    "function",
    ["convert.write._copy", "convert.record.Record.dump", "convert.write.move_into_place", "files.atomic_folder._swap"],
)
@pytest.mark.parametrize("force", [False, True])
def test_nothing_is_left_behind(plan, output, monkeypatch, error, function, force):
    if force:
        write(plan, output)
        before = entries(output)
    elif function == "files.atomic_folder._swap":
        return
    fail_at(monkeypatch, function, error)
    with pytest.raises((KeyboardInterrupt, RopextError, MemoryError)):
        write(plan, output, force=force)
    assert entries(output.parent) == (["output", "source"] if force else ["source"])
    if force:
        assert entries(output) == before


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(errno.EIO, "broken")])
def test_old_output_comes_back(plan, output, monkeypatch, error):
    write(plan, output)
    before = entries(output)
    real, calls = os.rename, []

    def rename(source, target):
        calls.append(target)
        if len(calls) == 2:  # the old folder, the new one
            raise error
        real(source, target)

    monkeypatch.setattr(atomic_folder, "_exchange", lambda first, second: False)
    monkeypatch.setattr(atomic_folder.os, "rename", rename)
    with pytest.raises((KeyboardInterrupt, RopextError)):
        write(plan, output, force=True)
    assert entries(output) == before
    assert entries(output.parent) == ["output", "source"]


@pytest.mark.parametrize(
    ("number", "message"),
    [
        (errno.ENOSPC, "No space left on device .* Free some space or choose another --output"),
        (errno.EACCES, "Permission denied .* change the permissions"),
        (errno.EROFS, "Read-only file system .* Choose another --output"),
        (errno.EIO, "Input/output error"),
    ],
)
def test_one_message_from_the_disk(plan, output, monkeypatch, number, message):
    fail_at(monkeypatch, "convert.write._copy", OSError(number, os.strerror(number), "x"))
    with pytest.raises(RopextError, match=message) as caught:
        write(plan, output)
    assert str(caught.value).startswith(f"{output}: not written: ")
    assert entries(output.parent) == ["source"]


def test_source_that_vanishes(plan, output):
    (plan.source / "LICENSE").unlink()
    with pytest.raises(RopextError, match=r"No such file or directory .*LICENSE"):
        write(plan, output)
    assert entries(output.parent) == ["source"]


def test_two_conversions_into_one_place(plan, output, monkeypatch):
    real = writing._write_files

    def meanwhile(*args):
        files = real(*args)
        output.mkdir()
        (output / "config.json").write_text("the other one")
        return files

    monkeypatch.setattr(writing, "_write_files", meanwhile)
    with pytest.raises(UsageError, match="is not empty"):
        write(plan, output)
    assert (output / "config.json").read_text() == "the other one"
    assert entries(output.parent) == ["output", "source"]


def test_in_another_thread(plan, output):
    thread = threading.Thread(target=write, args=(plan, output))
    thread.start()
    thread.join()
    assert (output / "config.json").exists()


def _convert_slowly(tiny_llama, tiny_preset, output):
    """Start a conversion that never ends: it is caught in the first copy."""
    program = f"""
        import signal, sys, time
        from pathlib import Path
        from ropext.converter.cli import app
        from ropext.converter.convert import write as writing

        signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where the tests run in the background

        def stall(source, target, progress):
            target.write_bytes(b"half")
            print("stalled", flush=True)
            time.sleep(60)

        writing._copy = stall
        app.main(["convert", {str(tiny_llama)!r}, "--preset", {str(tiny_preset)!r}, "-o", {str(output)!r}])
    """
    process = subprocess.Popen([sys.executable, "-c", textwrap.dedent(program)], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "stalled\n"
    return process


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_signals_leave_nothing(tiny_llama, tiny_preset, output, number, status):
    before = entries(output.parent)
    with _convert_slowly(tiny_llama, tiny_preset, output) as process:
        process.send_signal(number)
        assert process.wait(30) == status
    assert entries(output.parent) == before


def test_kill_leaves_nothing_loadable(tiny_llama, tiny_preset, output):
    before = entries(output.parent)
    with _convert_slowly(tiny_llama, tiny_preset, output) as process:
        process.kill()
        process.wait(30)
    assert not output.exists()
    (left,) = set(entries(output.parent)) - set(before)
    assert left.startswith(".output.ropext-")
    assert not (output.parent / left / "config.json").exists()
