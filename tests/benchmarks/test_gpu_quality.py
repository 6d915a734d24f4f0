"""`python -m benchmarks gpu quality`: its rehearsal, and what it does when its time is up."""

import json
from collections import Counter
from importlib import resources
from itertools import count
from pathlib import Path

import pytest

pytest.importorskip("torch")

from benchmarks.gpu import command, jobs, quality, quality_command, weights
from benchmarks.gpu.cell import Cell
from benchmarks.gpu.results import Results
from benchmarks.gpu.setting import Setting
from ropext.converter.errors import UsageError
from ropext.converter.evaluation.report.submission import check_submission, write_submission
from ropext.converter.evaluation.run import origin
from ropext.converter.presets.load import load_preset
from tests.helpers.forked import Forked

BASE = Path(__file__).parents[1] / "data" / "tiny-llama"


def lines(file):
    """The measurements of a file, without how long they took."""
    found = [json.loads(line) for line in file.read_text().splitlines()[1:]]
    return [(each["key"], {key: value for key, value in each["value"].items() if key != "seconds"}) for each in found]


def test_the_rehearsal(tmp_path, capsys, monkeypatch):
    pytest.importorskip("wonderwords")
    monkeypatch.setattr(command.subprocess, "Popen", Forked)
    given = ["quality", "--rehearse", "--output", str(tmp_path)]
    command.main(given)
    printed = capsys.readouterr().out
    assert printed.count("| done |") == len(jobs.REHEARSED)
    assert "| qa_1 | not asked: needs a file that is not here: dev-v2.0.json" in printed
    results = tmp_path / "results" / "tiny-llama"
    assert {file.stem for file in results.iterdir()} == {"passkey", "niah", "mixed", "ppl", "ruler"}
    asked = Counter(value["preset"] for _, value in lines(results / "mixed.jsonl") if not value.get("short"))
    assert asked == {None: 2, "tiny-self_extend": 2, "tiny-yarn": 2, "tiny-found-profile": 2}
    preset = tmp_path / "found" / "tiny-found-profile.yaml"
    assert load_preset(str(preset)).method == "profile"
    searched = json.loads(preset.with_suffix(".jsonl").read_text().partition("\n")[0])
    assert searched["settings"]["source"] == "tiny-llama"  # in whatever folder it lies when the search goes on
    write_submission([tmp_path / "results"], tmp_path / "submitted")
    assert len(check_submission(tmp_path / "submitted")) == 5
    page = (tmp_path / "submitted" / "README.md").read_text()
    assert "ropext eval mixed tiny-llama --preset tiny-self_extend --preset tiny-yarn --preset tiny-found" not in page
    assert "ropext eval ruler tiny-llama --preset tiny-self_extend --lengths 600 --dtype float32" in page
    with pytest.raises(SystemExit):
        command.main(given)
    assert "go on with them by --resume" in capsys.readouterr().err
    command.main([*given, "--resume"])
    assert "| done |" not in capsys.readouterr().out


def one_job(folder, name, ends=1e12):
    """The row of a job that runs in this process."""
    options = {"output": str(folder), "done": [], "ends": ends, "patience": 1}
    results = Results(folder / "record.jsonl")
    quality.run(Cell(results, "quality", name, "cpu"), Setting("cpu", options))
    return results.read("row")[-1]


def test_a_job_whose_time_is_up_is_gone_on_with(tmp_path, monkeypatch):
    name = next(each for each in quality.plan(Setting("cpu")) if each.startswith("passkey"))
    cut, whole = tmp_path / "cut", tmp_path / "whole"
    for folder in (cut, whole):
        folder.mkdir()
    assert one_job(whole, name)["complete"]
    with monkeypatch.context() as patch:
        clock = count()
        patch.setattr(quality, "time", lambda: next(clock))
        row = one_job(cut, name, ends=6)
    assert (row["ok"], row["complete"]) == (None, False)
    file, undisturbed = (each / "results" / "tiny-llama" / "passkey.jsonl" for each in (cut, whole))
    assert 0 < len(lines(file)) < len(lines(undisturbed))
    assert one_job(cut, name)["complete"]
    assert lines(file) == lines(undisturbed)
    assert one_job(cut, name, ends=0)["complete"] is False


def test_what_was_done_to_its_end_is_not_done_again(tmp_path):
    results = Results(tmp_path / f"{quality_command.RECORD}1.jsonl")
    first, second, third, *_ = quality.plan(Setting("cpu"))
    for name, complete in ((first, True), (second, False), (third, None)):
        results.row("quality", name, "job", {}, ok=complete, complete=complete)
    done = quality_command.done(tmp_path)
    assert done == [first]
    left = quality.cells(Setting("cpu", {"done": done}))
    assert left == list(quality.plan(Setting("cpu")))[1:]


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_jobs_have_names_of_their_own(device):
    planned = jobs.REHEARSED if device == "cpu" else jobs.FULL
    assert [each.name for each in planned] == list(quality.plan(Setting(device)))


def test_all_presets_of_the_model_are_asked():
    shipped = {file.name for file in resources.files("ropext.preset_files").iterdir()}
    of_it = {name.removesuffix(".yaml") for name in shipped if name.startswith(jobs.PREFIX)}
    assert {f"{jobs.PREFIX}{name}" for name in jobs.PRESETS} == of_it - {f"{jobs.PREFIX}original"}
    assert len(jobs.PRESETS) == len(of_it) - 1


def test_weights_come_in_parts(tmp_path, monkeypatch):
    parts, whole = tmp_path / "parts", b"GGUF and so on"
    parts.mkdir()
    for number in (1, 0):
        (parts / f"model.{number}").write_bytes(whole[7 * number : 7 * number + 7])
    sha256 = "bb1cf0a5d6d9d9f3cb2d2e3ae4a1f2f7"
    with pytest.raises(UsageError, match=r"model\.0, model\.1 is not SmolLM2.* in place of bb1cf") as refused:
        weights.checkpoint([parts], tmp_path, sha256)
    right = str(refused.value).partition("SHA-256 is ")[2].split()[0]
    seen = []
    monkeypatch.setattr(weights, "prepare_base", lambda folder, gguf=None: seen.append(gguf and gguf.read_bytes()))
    weights.checkpoint(sorted(parts.iterdir(), reverse=True), tmp_path, right)
    weights.checkpoint([], tmp_path)
    assert seen == [whole, None]
    assert weights.checkpoint([BASE], tmp_path) == BASE
    with pytest.raises(UsageError, match=r"model\.1 is not"):
        weights.checkpoint([parts / "model.1"], tmp_path, right)


def test_a_checkout_that_is_not_installed_has_a_version(monkeypatch):
    def version(name):
        assert name != "ropext"
        return "1.0"

    monkeypatch.setattr(origin, "version", version)
    assert set(origin.versions()) == {"ropext", "torch", "transformers"}


def test_a_folder_is_asked_for(capsys, tmp_path):
    for given, said in (([], "name a folder"), (["--weights", str(tmp_path / "none")], "no such file or folder")):
        with pytest.raises(SystemExit):
            command.main(["quality", *given])
        assert said in capsys.readouterr().err
