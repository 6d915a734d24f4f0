"""The process that runs the checkpoint's model: its bounds, its end, and that an answer is data."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ropext.converter.convert.api import convert_checkpoint
from ropext.converter.errors import UsageError
from ropext.converter.presets.load import load_preset
from ropext.converter.verify import model_process
from ropext.converter.verify.checks import verify
from ropext.converter.verify.model_process import Bounds, ModelProcess
from ropext.converter.verify.report import Unchecked
from tests.helpers.tampered import EVIL, edited, redigest
from tests.modeling.test_loading import write_preset

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="processes are looked at in /proc, memory is bounded")
PROGRAM = Path(model_process.__file__).with_name("model_answers.py")
RUN = "from ropext.converter.cli.app import main; main()"
LAYERS = 30_000
WITHOUT_END = "import time\nwhile True: time.sleep(1)\n"


@pytest.fixture
def folder(tiny_llama, tmp_path):
    return convert_checkpoint(
        load_preset(str(write_preset(tmp_path, "dpe"))), None, tmp_path / "out", link="copy"
    ).output


@pytest.fixture
def without_end(folder):
    """A folder whose model takes minutes to build and gigabytes to hold, and is as recorded."""
    name = f"model.layers.{LAYERS - 1}.input_layernorm.weight"
    file = folder / "model.safetensors"
    data = file.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    end = len(data) - 8 - length
    header[name] = {"dtype": "F32", "shape": [0], "data_offsets": [end, end]}
    written = json.dumps(header).encode()
    file.write_bytes(len(written).to_bytes(8, "little") + written + data[8 + length :])
    edited("config.json", lambda config: config.update(num_hidden_layers=LAYERS))(folder)
    edited("config.json", lambda config: config["rope_ext"]["pairs"].update(layers=list(range(LAYERS))))(folder)
    redigest(folder)
    return folder


def texts(report):
    return {check.name: check.text for check in report.checks}


def programs():
    """The processes of this kind that this one, or one that it started, has left."""
    found = []
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            try:
                words = (process / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            found += [int(process.name)] if os.fsencode(PROGRAM) in words else []
    return found


def wait_until(done, seconds=30):
    end = time.monotonic() + seconds
    while not done() and time.monotonic() < end:
        time.sleep(0.05)
    assert done()


def test_a_folder_is_good(folder):
    report = verify(str(folder))
    assert report.verdict == "good", report
    assert texts(report)["headers"] == "30 tensors, as config.json asks for"


def test_a_model_without_end_is_given_up(without_end):
    start = time.monotonic()
    report = verify(str(without_end), minutes=0.06)
    assert report.verdict == "incomplete", report
    assert report.unchecked == ["headers", "config", "reference", "base"]
    assert texts(report)["headers"] == "given up after 0.06 minutes of running the model; see --minutes"
    assert time.monotonic() - start < 30


@LINUX
def test_a_model_that_takes_all_memory_is_given_up(without_end):
    report = verify(str(without_end), memory=0.45)
    assert report.verdict == "incomplete", report
    assert "headers" in report.unchecked
    assert "see --memory" in texts(report)["headers"]


@LINUX
@pytest.mark.parametrize("way", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_the_process_ends_with_its_parent(without_end, way):
    before = programs()
    command = [sys.executable, "-c", RUN, "verify", str(without_end)]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}

    def heed():  # a shell lets jobs in the background ignore it
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    parent = subprocess.Popen(command, start_new_session=True, preexec_fn=heed, **quiet)
    try:
        wait_until(lambda: set(programs()) - set(before))
        own = set(programs()) - set(before)
        time.sleep(1)
        parent.send_signal(way)
        assert parent.wait(20) != 0
        wait_until(lambda: not own & set(programs()))
    finally:
        parent.kill()


# What answers


def ask(tmp_path, monkeypatch, program, seconds=20.0):
    """Let another program answer."""
    file = tmp_path / "program.py"
    file.write_text(program)
    monkeypatch.setattr(model_process, "_PROGRAM", file)
    process = ModelProcess({}, Bounds(seconds, None))
    try:
        return process.ask({"check": "base"})
    finally:
        process.close()


def printing(text):
    return f"import sys\nfor _ in range(3): sys.stdin.readline()\nprint({text!r}, flush=True)\n{WITHOUT_END}"


@pytest.mark.parametrize(
    ("program", "says"),
    [
        ("", "ended with status 0, without an answer"),
        ("import sys\nsys.exit(0)\n", "ended with status 0, without an answer"),
        ("import os\nos._exit(7)\n", "ended with status 7, without an answer"),
        (printing("good"), "no answer that can be read"),
        (printing("0"), "no answer that can be read"),
        (printing("{}"), "no answer that can be read"),
        (printing('{"status": "fine", "text": "", "faults": []}'), "no answer that can be read"),
        (printing('{"status": "bad", "text": "", "faults": []}'), "no answer that can be read"),
        (printing('{"status": "good", "text": "", "faults": ["x"]}'), "no answer that can be read"),
        (printing('{"status": "good", "text": 1, "faults": []}'), "no answer that can be read"),
        (printing('{"status": [], "text": "", "faults": []}'), "no answer that can be read"),
        (printing("[" * 100_000), "no answer that can be read"),
    ],
)
def test_what_is_no_answer_is_no_check(tmp_path, monkeypatch, program, says):
    with pytest.raises(Unchecked, match=says):
        ask(tmp_path, monkeypatch, program)


@LINUX
def test_a_process_that_is_killed(tmp_path, monkeypatch):
    with pytest.raises(Unchecked, match="ended by SIGKILL, without an answer"):
        ask(tmp_path, monkeypatch, "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)\n")


@pytest.mark.parametrize("program", [WITHOUT_END, "import os\nos.close(0)\n" + WITHOUT_END])
def test_a_process_that_never_answers(tmp_path, monkeypatch, program):
    with pytest.raises(Unchecked, match="given up after"):
        ask(tmp_path, monkeypatch, program, seconds=1.0)


def test_an_answer_prints_nothing_raw(tmp_path, monkeypatch):
    answer = json.dumps({"status": "good", "text": "a\x1b[2J\nb", "faults": []})
    check = ask(tmp_path, monkeypatch, printing(answer))
    assert check.text.isprintable()


# Where it imports from


def test_nothing_is_imported_from_the_folder(folder, tmp_path, monkeypatch):
    """The folder may be where the command runs; modules of its that have known names stay where they are."""
    for name in ("json", "torch", "ropext", "transformers", "queue"):
        (folder / f"{name}.py").write_text(f"{EVIL}open({str(tmp_path / 'ran')!r}, 'w')\n")
    monkeypatch.chdir(folder)
    report = verify(".")
    assert report.bad == ["files", "code"]
    assert not (tmp_path / "ran").exists()
    assert {check.name: check.status for check in report.checks}["reference"] == "good"


def test_no_module_beside_the_program_hides_one_of_the_standard_library():
    assert not {file.stem for file in PROGRAM.parent.glob("*.py")} & set(sys.stdlib_module_names)


# Bounds


@pytest.mark.parametrize("given", [{"minutes": 0}, {"minutes": -1}, {"memory": 0}, {"minutes": float("nan")}])
def test_a_bound_that_is_none(folder, given):
    with pytest.raises(UsageError, match="has to be a positive number"):
        verify(str(folder), **given)


def test_memory_where_it_cannot_be_bounded(monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    assert Bounds.of(None, None) == Bounds(1200, None)
    with pytest.raises(UsageError, match="on Linux only"):
        Bounds.of(None, 8)
