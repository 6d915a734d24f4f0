"""Conversions that are killed, disks that are full, sources that change, outputs that are edited in place."""

import errno
import hashlib
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

from ropext.converter.cli.app import main
from ropext.converter.convert import write as writing
from ropext.converter.convert.api import convert_checkpoint, plan_conversion
from ropext.converter.convert.write import write
from ropext.converter.errors import RopextError, UsageError
from ropext.converter.files import atomic_folder, links
from ropext.converter.presets.load import load_preset
from tests.helpers.checkpoints import shard, snapshot
from tests.helpers.written import entries

ROOT = Path(__file__).parents[3]


def contents(folder):
    files = (file for file in sorted(folder.rglob("*")) if file.is_file())
    return {str(file): (hashlib.sha256(file.read_bytes()).hexdigest(), file.stat().st_mode) for file in files}


@pytest.fixture
def preset(tiny_preset):
    return load_preset(str(tiny_preset))


@pytest.fixture
def cache(tiny_llama, tmp_path):
    shard(tiny_llama)
    return snapshot(tiny_llama, tmp_path / "hub", {})


@pytest.fixture
def room(tmp_path):
    folder = tmp_path / "room"
    folder.mkdir()
    return folder


# Kills


@pytest.mark.parametrize("options", [["--times", "20"], ["--steps", "--stride", "37"]], ids=["moments", "steps"])
def test_kills(options):
    program = [sys.executable, "-m", "tools.kills", *options]
    run = subprocess.run(program, cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr


def test_what_a_kill_left_is_removed_by_the_next_run(tiny_llama, preset, room):
    for name in (".out.ropext-00c0ffee", ".out.ropext-mine", ".out.ropext-00c0ffee-old", ".other.ropext-00c0ffee"):
        (room / name).mkdir()
        (room / name / "config.json").write_text("{}")
    convert_checkpoint(preset, str(tiny_llama), room / "out")
    assert entries(room) == [".other.ropext-00c0ffee", ".out.ropext-00c0ffee-old", ".out.ropext-mine", "out"]


def test_what_another_conversion_works_in_is_not(tiny_llama, preset, room):
    with atomic_folder.scratch(room / "out") as other:
        convert_checkpoint(preset, str(tiny_llama), room / "out")
        assert other.exists()
    assert entries(room) == ["out"]


def test_a_folder_is_made_unloadable_before_it_is_removed(tmp_path, monkeypatch):
    (tmp_path / "config.json").write_text("{}")
    monkeypatch.setattr(atomic_folder.shutil, "rmtree", lambda folder, **how: None)
    atomic_folder._discard(tmp_path)
    assert entries(tmp_path) == []


@pytest.mark.parametrize("force", [False, True])
def test_two_conversions_at_once(tiny_llama, preset, room, force):
    if force:
        convert_checkpoint(preset, str(tiny_llama), room / "out")
    ended = []

    def run():
        try:
            convert_checkpoint(preset, str(tiny_llama), room / "out", force=force)
            ended.append("done")
        except UsageError:
            ended.append("refused")

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(ended) == (["done"] * 4 if force else ["done", *["refused"] * 3])
    assert entries(room) == ["out"]


def test_the_old_output_is_never_gone(tiny_llama, preset, room, monkeypatch):
    if not sys.platform.startswith("linux"):
        pytest.skip("exchanging two folders at once is Linux's")
    convert_checkpoint(preset, str(tiny_llama), room / "out")
    real, seen = os.rename, []
    monkeypatch.setattr(atomic_folder.os, "rename", lambda *names: (seen.append(names), real(*names)))
    convert_checkpoint(preset, str(tiny_llama), room / "out", force=True)
    assert seen == []  # the two folders were exchanged


# Full disks


@pytest.mark.parametrize("kilobytes", [4, 100, 300])
@pytest.mark.parametrize("link", ["auto", "copy"])
def test_a_disk_that_fills_up(tiny_llama, preset, tmp_path, kilobytes, link):
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", str(disk)]
    try:
        mounted = os.getuid() == 0 and subprocess.run(mount, capture_output=True).returncode == 0
    except OSError:
        mounted = False
    if not mounted:
        pytest.skip("no disk can be mounted here")
    try:
        with pytest.raises(RopextError, match=r"No space left on device.* Free some space or choose another --output"):
            convert_checkpoint(preset, str(tiny_llama), disk / "out", link=link)
        assert entries(disk) == []
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_a_limit_on_the_size_of_files(tiny_llama, tiny_preset, tmp_path):
    program = (
        "import resource, sys; from ropext.converter.cli.app import main; "
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000)); main(sys.argv[1:])"
    )
    args = ["convert", str(tiny_llama), "-p", str(tiny_preset), "-o", str(tmp_path / "out"), "--link", "copy"]
    before = entries(tmp_path)
    run = subprocess.run([sys.executable, "-c", program, *args], capture_output=True, text=True)
    assert run.returncode == 1
    assert "File too large" in run.stderr
    assert entries(tmp_path) == before


# Sources that change


@pytest.mark.parametrize("link", ["auto", "copy", "hardlink", "symlink"])
@pytest.mark.parametrize("name", ["model-00002-of-00002.safetensors", "generation_config.json"])
@pytest.mark.parametrize("how", ["size", "time", "another"])
def test_a_source_that_changes_after_it_was_checked(tiny_llama, preset, room, link, name, how):
    shard(tiny_llama)
    plan = plan_conversion(preset, str(tiny_llama), room / "out")
    file = tiny_llama / name
    if how == "size":
        file.write_bytes(file.read_bytes() + b"x")
    elif how == "time":
        os.utime(file, ns=(0, 0))
    else:
        times = file.stat().st_atime_ns, file.stat().st_mtime_ns
        other = file.with_name("other")
        other.write_bytes(file.read_bytes())
        os.utime(other, ns=times)
        os.replace(other, file)
    with pytest.raises(RopextError, match=f"{name}: has changed while it was being converted; run the command again"):
        write(plan, room / "out", link=link)
    assert entries(room) == []


@pytest.mark.parametrize("link", ["auto", "copy"])
def test_a_source_that_changes_while_others_are_written(tiny_llama, preset, room, monkeypatch, link):
    shard(tiny_llama)
    plan = plan_conversion(preset, str(tiny_llama), room / "out")
    real = writing._write_file

    def meanwhile(file, *args, **how):
        done = real(file, *args, **how)
        if file.path == "generation_config.json":
            os.utime(tiny_llama / "model-00001-of-00002.safetensors")
        return done

    monkeypatch.setattr(writing, "_write_file", meanwhile)
    with pytest.raises(RopextError, match=r"model-00001-of-00002.safetensors: has changed"):
        write(plan, room / "out", link=link)
    assert entries(room) == []


# Outputs that are edited


def edit_all(folder):
    for file in folder.rglob("*"):
        with file.open("r+b") as stream:
            stream.write(b"EDITED")


def test_edits_of_an_output_do_not_reach_the_cache(cache, preset, tmp_path):
    before = contents(tmp_path / "hub")
    result = convert_checkpoint(preset, str(cache), tmp_path / "out")
    edit_all(tmp_path / "out")
    assert contents(tmp_path / "hub") == before
    assert "hardlink" not in result.methods


def test_nor_where_the_cache_holds_files_in_place_of_links(tiny_llama, preset, tmp_path):
    folder = tmp_path / "models--org--tiny" / "snapshots" / ("c" * 40)
    folder.parent.mkdir(parents=True)
    tiny_llama.rename(folder)
    before = contents(folder)
    convert_checkpoint(preset, str(folder), tmp_path / "out")
    edit_all(tmp_path / "out")
    assert contents(folder) == before


def test_of_a_folder_the_weights_alone_are_shared(tiny_llama, preset, room, monkeypatch):
    shard(tiny_llama)
    before = contents(tiny_llama)
    monkeypatch.setitem(links._LINKERS, "reflink", _cannot)
    convert_checkpoint(preset, str(tiny_llama), room / "out")
    for file in (room / "out").rglob("*"):
        if file.suffix != ".safetensors":
            file.write_bytes(b"EDITED")
    assert contents(tiny_llama) == before
    shared = [file.name for file in tiny_llama.iterdir() if file.stat().st_nlink > 1]
    assert sorted(shared) == ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]


def _cannot(source, target):
    raise OSError(errno.EOPNOTSUPP, "not supported")


def test_weights_of_a_folder_are_linked_in_no_time(tiny_llama, preset, room):
    shard(tiny_llama, count=4, bytes_each=1 << 30)  # 8 GiB, without blocks behind them
    start = time.process_time()
    result = convert_checkpoint(preset, str(tiny_llama), room / "out")
    assert time.process_time() - start < 1
    assert result.bytes_linked > 8 << 30
    assert result.bytes_moved < 1 << 20


@pytest.mark.parametrize(("link", "said"), [("auto", "no edit reaches the Hub cache"), ("hardlink", "change neither")])
def test_the_summary_says_what_is_shared(cache, tiny_preset, tmp_path, link, said):
    args = ["convert", str(cache), "-p", str(tiny_preset), "-o", str(tmp_path / "out"), "--link", link]
    run = CliRunner().invoke(main, args)
    assert run.exit_code == 0, run.output
    assert said in run.stdout or "by reflink" in run.stdout
