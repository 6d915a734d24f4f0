"""L-Eval's tasks, run on a tiny model and reported."""

import json

import numpy as np
import pytest
from huggingface_hub import ModelCard

from ropext.converter.evaluation.report import statistics as summary
from ropext.converter.evaluation.report.intervals import student
from ropext.converter.evaluation.report.results import read_results
from ropext.converter.evaluation.tasks import leval
from tests.helpers.asked import with_tokenizer
from tests.helpers.leval_files import LINES, chatting, write
from tests.helpers.measured import results

TASKS = list(leval.TASKS)


@pytest.fixture
def folder(tiny_llama, monkeypatch):
    monkeypatch.setattr(leval, "NEW_TOKENS", 4)
    return with_tokenizer(tiny_llama)


def test_base_preset_and_report(run, folder, data, tiny_preset, tmp_path):
    (data / "quality.jsonl").unlink()
    out = tmp_path / "results"
    command = ["eval", "leval", folder, "-p", tiny_preset, "--data", data, "-l", "2k,4k", "-o", out]
    refused = run(*command, status=2).stderr
    assert "quality: there is no " in refused
    assert not out.exists()
    command += ["--tasks", refused.rpartition("--tasks ")[2].strip()]
    run(*command, "--samples", 1)
    assert "go on with it by --resume" in run(*command, status=2).stderr
    settings, few = results(out / folder.name / "leval.jsonl")
    assert settings["tasks"] == [task for task in TASKS if task != "quality"]
    run(*command, "--resume")
    _, found = results(out / folder.name / "leval.jsonl")
    assert found[: len(few)] == few
    assert len(few) == 2 * 2 * (2 + 2 + 2 + 1 + 1 + 1)
    assert len(found) - len(few) == 2 * 2 * (1 + 1)
    assert all(each["tokens"] + 4 <= each["length"] for each in found)
    heron = [each["tokens"] for each in found if (each["task"], each["seed"], each["preset"]) == ("tpo", 0, None)]
    assert heron[0] < 1500 < 2600 < heron[1]
    (fact,) = [e for e in found if (e["task"], e["preset"], e["length"], e["seed"]) == ("sci_fi", None, 4096, 1)]
    assert fact["prediction"].count("[fact: ") == 1
    assert (fact["document"], fact["answers"]) == (0, ["False [fact: False]"])
    report = run("report", out).stdout
    assert "## L-Eval: " in report
    assert "Without quality: these averages are not to be held against published ones." in report
    assert "Tasks by tiny-dpe, percent" in report
    assert "| topic_retrieval_longchat |" in report
    assert "RULER" not in report
    write(data / "tpo.jsonl", LINES["tpo"][:1])
    assert "data_sha256" in run(*command, "--resume", status=2).stderr


def test_what_is_converted_answers_as_in_place(run, folder, data, tiny_preset, tmp_path):
    words = chatting()
    words.save_pretrained(folder)
    converted, out = tmp_path / "converted", tmp_path / "results"
    run("convert", folder, "-p", tiny_preset, "-o", converted)
    asked = ["--data", data, "-l", "2k", "--tasks", "tpo,gsm100,sci_fi", "-o", out]
    run("eval", "leval", folder, "-p", tiny_preset, "--no-base", *asked)
    run("eval", "leval", converted, *asked)
    found = [results(out / each.name / "leval.jsonl")[1] for each in (folder, converted)]
    for here, there in zip(*found, strict=True):
        assert {**here, "preset": None, "seconds": 0} == {**there, "seconds": 0}
    assert any(each["prediction"] for each in found[0])
    pytest.importorskip("matplotlib")
    run("report", out / converted.name, "--card", converted, "--plot", tmp_path / "leval.svg")
    assert "Llama-2-7B" not in (tmp_path / "leval.svg").read_text()  # that threshold is RULER's
    (result,) = ModelCard.load(converted / "README.md", ignore_metadata_errors=True).data.eval_results
    assert (result.dataset_type, result.metric_type) == ("ropext-leval", "leval")
    assert result.metric_value == round(np.mean(means(found[1])), 3)


def means(values):
    """By task, percent."""
    by_task = {}
    for each in values:
        by_task.setdefault(each["task"], []).append(100 * each["score"])
    return [np.mean(each) for each in by_task.values()]


def test_wrong_usage_is_said(run, folder, data, tmp_path):
    out = tmp_path / "results"
    result = run("eval", "leval", folder, "--data", data, "--tasks", "tpo,toefl", "-o", out, status=2)
    assert "toefl is none of L-Eval's tasks" in result.stderr
    result = run("eval", "leval", folder, "--data", data, "--tasks", "tpo", "-l", "60", "-o", out, status=2)
    assert "tpo.jsonl:1" in result.stderr
    assert "choose a longer length" in result.stderr


# Reports


def answered(preset, task, document, number, score):
    return {
        "preset": preset, "length": 4096, "tokens": 9, "seed": number, "seconds": 1.0, "task": task,
        "document": document, "score": score, "prediction": "x", "answers": ["y"],
    }  # fmt: skip


def test_questions_about_one_document_are_not_independent(run, tmp_path):
    rng = np.random.default_rng(1)
    documents = {"tpo": [which for which in range(40) for _ in range(1 + which % 3)], "gsm100": [0, 1, 2, 3]}
    values, differences = [], {}
    for task, of in documents.items():
        for number, document in enumerate(of):
            mine, its = rng.integers(0, 2, 2).tolist()
            values += [answered("p", task, document, number, mine), answered(None, task, document, number, its)]
            differences.setdefault(task, []).append((document, 100 * (mine - its)))
    file = tmp_path / "leval.jsonl"
    lines = [{"settings": {"task": "leval", "source": "tiny", "seed": 0, "dtype": "auto"}}]
    lines += [{"key": str(number), "value": value} for number, value in enumerate(values)]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    (experiment,), _ = read_results([file])
    assert experiment.subtasks == ["tpo", "gsm100"]
    average, difference, _ = summary.METRICS["leval"]
    mean, square, freedom = [], 0.0, 0
    for found in differences.values():
        of, each = np.array(found).T
        residuals = [(each[of == which] - each.mean()).sum() for which in set(of)]
        square += len(residuals) / (len(residuals) - 1) * np.square(residuals).sum() / len(each) ** 2
        freedom += len(residuals) - 1
        mean.append(each.mean())
    estimate = summary.estimate(difference, experiment, "p", 4096)
    assert (estimate.value, estimate.count) == (pytest.approx(np.mean(mean)), 83)
    assert estimate.p is None  # too many, and of unequal size
    margin = student(freedom) * np.sqrt(square) / 2
    assert estimate.high - estimate.value == pytest.approx(margin)
    assert summary.estimate(average, experiment, "p", 4096).low is None
    assert summary.estimate(difference, experiment, "p", 4096, "gsm100").count == 4
    every = run("report", file, "--format", "csv").stdout
    assert sum("score_difference" in line for line in every.splitlines()) == 3
