"""The benchmarks run, and what they compare with says what it should."""

import json
from importlib import import_module
from pathlib import Path

import pytest

from benchmarks.__main__ import MODULES
from tests.helpers import forked, tiny

TOLERANCE = 2e-4  # as for the methods themselves
LENGTH, PREFILL = 141, 131


def run(name, *options):
    import_module(f"benchmarks.{MODULES[name]}").main(list(map(str, options)))


@pytest.mark.parametrize("name", MODULES)
def test_help(name, capsys):
    with pytest.raises(SystemExit) as stop:
        run(name, "--help")
    assert stop.value.code == 0
    assert "--output" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("decode", ["--lengths", "64", "200"]),
        ("prefill", ["--attention-only", "--lengths", "64", "200"]),
        ("prefill", ["--lengths", "70", "--methods", "dpe", "yarn", "original"]),
        ("published", ["--lengths", "90", "--initial-window", "64", "--no-memory"]),
    ],
)
def test_a_tiny_model(name, options, tmp_path, capsys):
    run(name, "--model", tiny.TINY_LLAMA, "--repeats", 1, "--device", "cpu", "--output", tmp_path, *options)
    (text,), (record,) = tmp_path.glob("*.md"), tmp_path.glob("*.json")
    assert text.read_text().strip() == capsys.readouterr().out.strip()
    rows = [line for line in text.read_text().splitlines() if line.startswith("| ") and "---" not in line]
    assert any(row.startswith("| dpe |") for row in rows)
    figures = json.loads(record.read_text())["figures"]
    lengths = {figure["length"] for figure in figures}
    assert all(str(length) in text.read_text() for length in lengths)
    assert len(figures) == len({figure["method"] for figure in figures}) * len(lengths)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak is read from /proc")
def test_memory_of_a_tiny_model(tmp_path, monkeypatch):
    monkeypatch.setattr("benchmarks.memory.get_context", lambda name: forked.processes())
    options = ["--lengths", "70", "--methods", "dpe", "--device", "cpu", "--output", tmp_path]
    run("memory", "--model", tiny.TINY_LLAMA, *options)
    (record,) = tmp_path.glob("*.json")
    figures = json.loads(record.read_text())["figures"]
    assert [figure["method"] for figure in figures] == ["base", "dpe"]
    assert all(figure["peak"] >= figure["loaded"] > 0 for figure in figures)


def test_memory_too_small_to_be_measured_has_no_ratio(tmp_path, monkeypatch):
    monkeypatch.setattr("benchmarks.memory.measure", lambda *asked: {"loaded": 64.0, "peak": 64.0, "seconds": [0.1]})
    options = ["--lengths", "70", "--methods", "dpe", "--device", "cpu", "--output", tmp_path]
    run("memory", "--model", tiny.TINY_LLAMA, *options)
    assert "| dpe | 64 | 1.00 | 0 | – | 0.1 |" in next(tmp_path.glob("*.md")).read_text()


def test_import(tmp_path):
    run("import", "--repeats", 1, "--output", tmp_path)
    assert "| beyond them" in (tmp_path / "import.md").read_text()


def test_solver(tmp_path):
    run("solver", "--initial", 128, "--targets", 256, 512, "--loop-up-to", 256, "--head-dim", 8, "--output", tmp_path)
    assert "| 512 |" in (tmp_path / "solver.md").read_text()


def test_plot(tmp_path):
    pytest.importorskip("matplotlib")
    figures = [
        {"method": "dpe", "length": length, "seconds": [length**2 / 1e6], "base_seconds": [length / 1e6]}
        for length in (1024, 2048, 4096)
    ]
    file = tmp_path / "prefill.json"
    file.write_text(json.dumps({"title": "Prefill", "figures": figures}))
    run("plot", file, "--output", tmp_path)
    plot = (tmp_path / "prefill.svg").read_text()
    assert "dpe: 2.00" in plot
    assert "base: 1.00" in plot
    file.write_text(json.dumps({"title": "Prefill", "figures": figures[:2]}))
    run("plot", file, "--output", tmp_path)
    plot = (tmp_path / "prefill.svg").read_text()
    assert ">dpe<" in plot  # any power law fits two points
    assert "growth exponent" not in plot


def models(*options):
    from benchmarks.models import Models, arguments

    parser = arguments("", methods=[], lengths=[LENGTH], repeats=1)
    return Models(parser.parse_args(["--model", str(tiny.TINY_LLAMA), "--device", "cpu", *options]))


def logits(model, ids):
    """Of a prefill, then token by token."""
    import torch

    first = model(ids[:, :PREFILL], use_cache=True)
    rows, cache = [first.logits[0]], first[tiny.CACHE]
    for i in range(PREFILL, ids.shape[1]):
        rows.append(model(ids[:, i : i + 1], use_cache=True, **{tiny.CACHE: cache}).logits[0])
    return torch.cat(rows)


@pytest.mark.usefixtures("no_grad")
@pytest.mark.parametrize("name", ["dpe", "dpe_top_k", "gali", "self_extend", "dca"])
def test_published_methods_are_ours(name):
    import torch

    of = models()
    ids = of.tokens(LENGTH)
    ours, theirs = logits(of.method(name), ids), logits(of.published(name), ids)
    torch.testing.assert_close(theirs, ours, atol=TOLERANCE, rtol=0)
    assert (ours - of.base()(ids).logits[0]).abs().max() > 1


@pytest.mark.usefixtures("no_grad")
def test_a_model_that_shares_weights_is_the_converted_one(tmp_path):
    from ropext.converter.convert.api import convert_checkpoint
    from ropext.converter.presets.load import load_preset

    of = models()
    for name in ("dpe", "yarn", "original"):
        preset = load_preset(str(of.preset(name)))
        folder = convert_checkpoint(preset, str(tiny.TINY_LLAMA), tmp_path / name).output
        converted, _ = tiny.from_folder(folder)
        ids = of.tokens(LENGTH)
        assert converted(ids).logits.equal(of.method(name)(ids).logits)
