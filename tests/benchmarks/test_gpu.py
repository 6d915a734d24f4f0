"""`python -m benchmarks gpu` as far as a CPU can tell: its rehearsal, its judgement, and what it does with failures."""

import warnings
from dataclasses import dataclass
from time import monotonic

import pytest

pytest.importorskip("torch")

import torch

from benchmarks.gpu import command, large, methods, subjects, timing, uses
from benchmarks.gpu.budget import Error, error_of, judged
from benchmarks.gpu.results import Results
from benchmarks.gpu.setting import SHAPES, Setting
from benchmarks.gpu.steps import STEPS, Step
from tests.helpers import gpu_step
from tests.helpers.forked import Forked


@pytest.fixture
def at_once(monkeypatch):
    """Processes of all steps but the first need not import torch."""
    popen = command.subprocess.Popen

    def start(arguments, **how):
        return (popen if STEPS[0].module in arguments else Forked)(arguments, **how)

    monkeypatch.setattr(command.subprocess, "Popen", start)


@pytest.mark.usefixtures("at_once")
def test_the_rehearsal(tmp_path, capsys):
    command.main(["--rehearse", "--output", str(tmp_path)])
    (record,), (text,) = tmp_path.glob("*.jsonl"), tmp_path.glob("*.md")
    assert text.read_text() in capsys.readouterr().out
    results = Results(record)
    rows = results.read("row")
    assert not [row for row in rows if row["ok"] is False], text.read_text()
    for step in STEPS:
        assert not command.unfinished(results, step), step
        assert f"### {step.title}" in text.read_text()
        assert any(row["step"] == step.name for row in rows)
    facts = {"device", "torch", "transformers", "dtype", "length", "seconds"}
    assert all(facts <= row.keys() for row in rows)
    assert {row["case"] for row in rows if row["step"] == "methods"} >= {"dpe_top_k", "gali", "yarn"}


def test_a_step_without_its_package_is_left_out(tmp_path, monkeypatch):
    monkeypatch.setattr(command.subprocess, "Popen", None)
    step, results = Step("served", "Served", 10, 10, "no_such_package"), Results(tmp_path / "left_out.jsonl")
    command.Run("cuda", results, tmp_path / "log").step(step, monotonic() + 10)
    (row,) = results.read("row")
    assert (row["ok"], row["note"]) == (None, "not run: no_such_package is not installed")
    assert not command.unfinished(results, step)
    assert "not run: no_such_package" in command.report(results, [step])
    assert Step("paged", "", 10, 10, "no_such_package").missing("cuda") == "no_such_package"
    assert not Step("paged", "", 10, 10, "no_such_package").missing("cpu")
    assert Step("served", "", 10, 10, "no_such_package", rehearsed=False).missing("cpu") == "no_such_package"


@pytest.mark.usefixtures("no_grad")
@pytest.mark.parametrize("shape", ["head_dim_64", "head_dim_128"])
def test_every_case_runs_at_the_sizes_of_a_gpu(shape):
    shape = SHAPES[shape]
    base, given = subjects.stock(shape), uses.Given(shape, 5, torch.float32)
    cells = methods.cells(Setting("cuda"))
    cases = subjects.checked_cases(shape)
    assert {cell.split()[0] for cell in cells} == set(cases)
    assert len(cells) == len(set(cells)) == 3 * len(cases) + len(methods.LONG)
    for case in cases.values():
        assert uses.decode(subjects.build(case, shape, like=base), given, steps=2).isfinite().all()


def test_all_steps_end_within_ten_minutes_and_leave_each_other_time(tmp_path, monkeypatch):
    left = {}
    monkeypatch.setattr(command.Run, "step", lambda run, step, end: left.update({step.name: end - monotonic()}))
    command.carry_out(command.begun(tmp_path, "", False, {}), STEPS)
    assert max(left.values()) <= 565  # the rest of a call of 600 s is for imports
    until_methods = sum(step.seconds for step in STEPS if step.name in ("kernels", "paged", "methods"))
    assert left["methods"] == pytest.approx(until_methods, abs=5)  # with that of `paged`, which asks for vLLM


def test_without_a_gpu_it_says_so(capsys, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit):
        command.main([])
    assert "finds no GPU here; --rehearse" in capsys.readouterr().err


@dataclass(frozen=True)
class FaultyStep(Step):
    """A step of the tests."""

    @property
    def module(self):
        return f"tests.helpers.{self.name}"


def faulty(tmp_path, seconds, cell_seconds):
    """Results of the step in which everything goes wrong."""
    step, results = FaultyStep("gpu_step", "Faulty", seconds, cell_seconds), Results(tmp_path / "faulty.jsonl")
    command.Run("cpu", results, tmp_path / "log").step(step, monotonic() + seconds)
    return step, results


@pytest.mark.usefixtures("at_once")
def test_a_process_that_crashes_or_hangs_is_recorded_and_started_again(tmp_path):
    step, results = faulty(tmp_path, 100, 2)
    assert [line["cell"] for line in results.read("begin")] == list(gpu_step.CELLS)
    assert command.unfinished(results, step) == ["crashes", "hangs", "raises"]
    found = {(row["cell"], row["what"]): row for row in results.read("row")}
    good = [("good", "one"), ("good", "another"), ("good again", "one"), ("good again", "another")]
    ended = [(cell, f"the process ended with status {status}") for cell, status in (("crashes", -11), ("hangs", 1))]
    assert found.keys() == {*good, *ended, ("raises", "the process ended with status 1")}
    assert found["good", "one"]["ok"]
    assert found["good", "another"]["error_text"] == "ZeroDivisionError: division by zero"
    assert "gpu_step.py" in found[ended[1]]["error_text"]  # where it hung
    assert "the device is lost" in found["raises", "the process ended with status 1"]["error_text"]
    assert all(row["device"] == "cpu" for row in found.values())


def test_a_step_whose_time_is_up_is_stopped(tmp_path, monkeypatch):
    popen = command.subprocess.Popen
    monkeypatch.setattr(command.subprocess, "Popen", lambda arguments, **how: popen(["sleep", "60"], **how))
    begin = monotonic()
    step, results = faulty(tmp_path, 1, 30)
    assert monotonic() - begin < 50
    (row,) = results.read("row")
    assert (row["what"], row["ok"]) == ("stopped: the step's time was up", None)
    assert command.unfinished(results, step) == ["gpu_step"]


def test_the_budget():
    generator = torch.Generator().manual_seed(0)
    truth = torch.randn(100, 50, generator=generator)
    plain = error_of(truth.bfloat16(), truth)
    assert judged(plain, plain, "bfloat16")["ok"]
    one_bad_row = truth.bfloat16()
    one_bad_row[7] = truth[8]
    assert not judged(error_of(one_bad_row, truth), plain, "bfloat16")["ok"]
    assert not judged(error_of(truth * 1.02, truth), plain, "bfloat16")["ok"]
    assert not judged(error_of(truth * float("nan"), truth), plain, "bfloat16")["ok"]
    assert not judged(Error(1.0, 1.0, 1.0), Error(float("nan"), 1.0, 1.0), "bfloat16")["ok"]
    with pytest.raises(ValueError, match=r"shape \(100, 49\)"):
        error_of(truth[:, 1:], truth)


@pytest.mark.usefixtures("no_grad")
@pytest.mark.parametrize("name", ["dpe_top_k", "dynamic_ntk", "original"])
def test_a_model_that_shares_weights_is_the_same(name):
    shape, ids = SHAPES["tiny"], torch.arange(3, 103)[None]
    base = subjects.stock(shape, state=subjects.weights(shape))
    case = subjects.checked_cases(shape)[name]
    shared, own = subjects.build(case, shape, like=base), subjects.build(case, shape, state=base.state_dict())
    assert torch.equal(shared(ids).logits, own(ids).logits)
    if name != "original":
        assert not torch.allclose(shared(ids).logits, base(ids).logits, atol=1e-2)


class Event:
    """As a CUDA event."""

    def __init__(self, enable_timing):
        assert enable_timing

    def record(self):
        """Not recorded."""

    def elapsed_time(self, end):
        """Milliseconds."""
        return 5.0


def test_measurements_on_a_gpu(monkeypatch):
    calls, modes = [], []
    stand_ins = {
        "synchronize": lambda: calls.append("synchronize"),
        "Event": Event,
        "set_sync_debug_mode": modes.append,
        "reset_peak_memory_stats": lambda: calls.append("reset"),
        "memory_allocated": lambda: 3 * 2**20,
        "max_memory_allocated": lambda: 7 * 2**20,
    }
    for name, stand_in in stand_ins.items():
        assert hasattr(torch.cuda, name)
        monkeypatch.setattr(torch.cuda, name, stand_in)

    def action():
        assert modes[-1:] in ([], ["warn"])
        for _ in range(2):
            warnings.warn("called a synchronizing CUDA operation (Triggered internally at …)", stacklevel=1)
        warnings.warn("another", stacklevel=1)

    assert timing.synchronisations(action, "cuda") == 2
    assert modes == ["warn", "default"]
    assert timing.timed(lambda: None, "cuda") >= 0
    assert timing.by_events(lambda: None, "cuda")[1] == 5.0
    assert (timing.reset_peak("cuda"), timing.peak("cuda")) == (3, 7)
    assert calls[-1] == "reset"


@pytest.mark.parametrize(("gibibytes", "layers"), [(79, 32), (139, 32), (40, 20)])
def test_as_many_layers_as_the_memory_holds(gibibytes, layers, monkeypatch):
    class Properties:
        total_memory = gibibytes * 2**30

    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: Properties)
    assert large.shape.__wrapped__("cuda").layers == layers
