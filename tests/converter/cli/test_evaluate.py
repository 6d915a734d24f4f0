"""`ropext eval`: the same things asked of a base, of its presets and of what they convert to."""

import json
import math
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from ropext.converter.cli.app import main
from ropext.converter.evaluation.run.transformers_model import SwitchableModel
from ropext.converter.evaluation.tasks.passkey import FILLER, passkey_prompt
from ropext.converter.evaluation.tasks.perplexity import Passage, passages
from ropext.converter.evaluation.tasks.texts import load_text
from tests.helpers import families, tiny, zoo
from tests.helpers.asked import tokenizer, with_tokenizer
from tests.helpers.measured import results


def run(*arguments):
    return CliRunner().invoke(main, list(map(str, arguments)))


@pytest.fixture
def folder(tiny_llama):
    return with_tokenizer(tiny_llama)


def without_seconds(values):
    return [{key: value for key, value in each.items() if key != "seconds"} for each in values]


SMALL = {
    "passkey": ["--depths", 2, "-l", "900"],
    "niah": ["--needles", 2, "-l", "900,1k", "--samples", 1],
    "mixed": ["--questions", 1, "-l", 1200, "--samples", 1],
    "ppl": ["-l", 300, "--samples", 2],
    "ruler": ["-l", 2500, "--tasks", "niah_single_1,niah_multivalue", "--samples", 1],
}


@pytest.mark.parametrize(("task", "method"), [*((task, "dpe") for task in SMALL), ("ppl", "yarn")])
def test_a_preset_in_place_and_converted_answer_alike(task, method, folder, tiny_preset, tmp_path):
    if method != "dpe":
        text = tiny_preset.read_text().replace("method: dpe", f"method: {method}")
        tiny_preset.write_text(re.sub("parameters:.*", "parameters: {}", text))
    converted, out = tmp_path / "converted", tmp_path / "results"
    assert run("convert", folder, "-p", tiny_preset, "-o", converted).exit_code == 0
    result = run("eval", task, folder, "-p", tiny_preset, "-o", out, *SMALL[task])
    assert result.exit_code == 0, result.output
    settings, found = results(out / folder.name / f"{task}.jsonl")
    assert settings["task"] == task
    assert settings["versions"]["torch"] == torch.__version__
    by_preset = {name: [each for each in found if each["preset"] == name] for name in (None, "tiny-dpe")}
    assert len(by_preset[None]) == len(by_preset["tiny-dpe"]) > 0
    assert run("eval", task, converted, "-o", out, *SMALL[task]).exit_code == 0
    _, alone = results(out / "converted" / f"{task}.jsonl")
    for here, there in zip(without_seconds(by_preset["tiny-dpe"]), without_seconds(alone), strict=True):
        assert here == there | {"preset": "tiny-dpe"}
    report = run("report", out)
    assert report.exit_code == 0, report.output
    assert "| dpe |" in report.stdout
    if task != "ruler":  # what so small a model writes is the same nonsense
        assert without_seconds(by_preset[None]) != without_seconds(alone)


def test_it_ends_with_its_numbers_base_and_converted_side_by_side(folder, tiny_preset, tmp_path):
    converted, out = tmp_path / "converted", tmp_path / "results"
    assert run("convert", folder, "-p", tiny_preset, "-o", converted).exit_code == 0
    result = run("eval", "ppl", folder, converted, "-o", out, "-l", "200,300", "--samples", 1)
    assert result.exit_code == 0, result.output
    title, numbers, differences, short, sentence, legend = result.stdout.split("\n\n")
    assert title == f"Perplexity: {folder.name}"
    assert [line.split()[0] for line in numbers.splitlines()] == ["Perplexity,", "MODEL", "base", "tiny-dpe"]
    assert all(line.count("*") == 2 for line in numbers.splitlines() if line.startswith("base"))
    assert numbers.splitlines()[1].split() == ["MODEL", "200", "300"]
    assert re.search(r"^tiny-dpe +1\.\d+ \(n = 1\) +1\.\d+ \(n = 1\)$", differences, re.MULTILINE)
    assert [line.split()[:2] for line in short.splitlines()[2:]] == [["base", "32"], ["tiny-dpe", "32"]]
    assert sentence.startswith("At 300 tokens, tiny-dpe: ")
    assert legend.startswith("* The best of its length.")
    asked = ["eval", "ppl", folder, converted, "-o", out, "-l", "200,300", "--samples", 1]
    again = run(*asked, "--resume", "--json")
    (experiment,) = json.loads(again.stdout)["experiments"]
    assert {(each["preset"], each["length"]) for each in experiment["estimates"]} >= {("base", 200), ("tiny-dpe", 300)}
    assert json.loads(run("report", out, "--json").stdout)["experiments"] == [experiment]


def test_models_of_one_run_are_compared_where_they_were_asked_the_same(folder, tiny_preset, tmp_path):
    renamed, other, out = tmp_path / "renamed", tmp_path / "other", tmp_path / "results"
    assert run("convert", folder, "-p", tiny_preset, "-o", tmp_path / "converted").exit_code == 0
    folder.rename(renamed)
    shutil.copytree(renamed, other)
    words = (other / "tokenizer.json").read_text().replace('"a": ', '"\u00e9": ')
    (other / "tokenizer.json").write_text(words)
    result = run("eval", "ppl", renamed, tmp_path / "converted", other, "-o", out, "-l", 200, "--samples", 1)
    assert result.exit_code == 0, result.output
    _, numbers, differences, _, note, sentence, _ = result.stdout.split("\n\n")
    assert [line.split()[0] for line in numbers.splitlines()[2:]] == ["base", "tiny-dpe", "other"]
    assert {line.split()[0]: len(line.split()) for line in differences.splitlines()[2:]} == {"other": 1, "tiny-dpe": 5}
    assert note == "other was not asked what base was, at 200 tokens: they are not compared there."
    assert "other" not in sentence


def test_results_are_gone_on_with_and_added_to(folder, tiny_preset, tmp_path):
    out = tmp_path / "results"
    file = out / folder.name / "niah.jsonl"
    small = ["--needles", 2, "-l", "900", "-o", out]
    assert run("eval", "niah", folder, *small, "--samples", 1).exit_code == 0
    before = file.read_text()
    again = run("eval", "niah", folder, *small)
    assert again.exit_code == 2
    assert "--resume" in again.stderr
    assert run("eval", "niah", folder, "-p", tiny_preset, *small, "--samples", 2, "--resume").exit_code == 0
    assert file.read_text().startswith(before)
    assert [(each["preset"], each["seed"]) for each in results(file)[1]] == [
        (None, 1_000_000),
        (None, 1_000_001),
        ("tiny-dpe", 1_000_000),
        ("tiny-dpe", 1_000_001),
    ]
    other = run("eval", "niah", folder, "--needles", 3, *small[2:], "--resume")
    assert other.exit_code == 2
    assert "needles (2 then, 3 now)" in other.stderr


def test_a_model_that_cannot_be_converted_is_measured_as_it_is(folder, tiny_preset, tmp_path):
    config = json.loads((folder / "config.json").read_text())
    scaling = {"rope_type": "dynamic", "factor": 4.0}
    (folder / "config.json").write_text(json.dumps(config | {"rope_scaling": scaling, "max_position_embeddings": 256}))
    asked = ["eval", "ppl", folder, "-l", "200", "-o", tmp_path / "results"]
    assert run(*asked).exit_code == 0
    refused = run(*asked, "-p", tiny_preset, "--resume")
    assert refused.exit_code == 2, refused.output
    assert "cannot read by another preset" in refused.stderr
    assert "dynamic" in refused.stderr


@pytest.mark.parametrize("family", ["llama", "granite", "phi", "gemma2", "cohere", "gpt_neox", "falcon_h1", "minicpm3"])
def test_likelihood_is_the_models_own_loss(family, tmp_path, no_grad):
    """Whatever is done to logits: scaled, bounded, by a head of another name."""
    stock = families.base(family) if family in families.FAMILIES else zoo.build(family)
    stock.generation_config.eos_token_id = 2
    stock.save_pretrained(tmp_path)
    model = SwitchableModel(with_tokenizer(tmp_path))
    ids = tiny.tokens(60)
    whole = model.negative_log_likelihood(tuple(ids[0].tolist()), 59)
    assert whole == pytest.approx(float(stock(ids, labels=ids).loss) * 59, rel=1e-5)
    chances = stock(ids).logits[0].log_softmax(-1)
    last = -sum(float(chances[at - 1, ids[0, at]]) for at in range(50, 60))
    assert model.negative_log_likelihood(tuple(ids[0].tolist()), 10) == pytest.approx(last, rel=1e-5)


def test_windows_count_each_token_once():
    words, text = tokenizer(), load_text()
    chunks = list(passages(words, text, 100, 3))
    assert [each.counted for each in chunks] == [99, 99, 99]
    sliding = list(passages(words, text, 100, 4, stride=25))
    assert [each.counted for each in sliding] == [99, 25, 25, 25]
    first, second = sliding[0].input_ids, sliding[1].input_ids
    assert first[25:] == second[:-25]
    assert isinstance(chunks[0], Passage)


@pytest.mark.parametrize("depth", [0.0, 0.5, 1.0])
def test_a_passkey_is_asked_for_in_full(depth):
    words = tokenizer()
    prompt = passkey_prompt(words, 1500, depth, seed=3)
    (question,) = prompt.questions
    text = words.decode([*prompt.input_ids, *question.input_ids])
    assert text.endswith("What is the pass key? The pass key is")
    assert text.count(question.answer) == 2
    assert words.decode(question.answer_ids) == f" {question.answer}"
    assert math.isclose(1 - question.distance / len(text), depth, abs_tol=0.2)


def test_text_question_and_answer_fit_the_length():
    words = tokenizer()
    for length in range(1500, 1600):
        prompt = passkey_prompt(words, length, 0.5, seed=3)
        (question,) = prompt.questions
        left = length - len((*prompt.input_ids, *question.input_ids, *question.answer_ids))
        assert 0 <= left < 2 * len(FILLER)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("niah", "--no-base"), "leaves nothing to ask"),
        (("niah", "-l", "many"), "no number of tokens"),
        (("ppl", "-l", "100", "--stride", "200"), "--stride 200"),
        (("ruler", "-l", "2k", "--tasks", "niah"), "none of RULER's tasks"),
        (("ruler", "-l", "2k"), "qa_1: needs a file that is not here: dev-v2.0.json"),
        (("passkey", "-l", "50"), "leaves no room for filler"),
        (("passkey", "-p", "llama3-8b-dpe"), "llama3-8b-dpe"),
    ],
)
def test_wrong_usage_is_said(arguments, message, folder, tmp_path):
    task, *rest = arguments
    result = run("eval", task, folder, "-o", tmp_path / "results", *rest)
    assert result.exit_code == 2
    assert message in result.stderr
    assert "Traceback" not in result.stderr


def test_two_models_of_one_name_are_refused(folder, tmp_path):
    result = run("eval", "ppl", folder, folder, "-o", tmp_path / "results")
    assert result.exit_code == 2
    assert "two of one name" in result.stderr


@pytest.mark.parametrize("method", ["linear", "yarn"])
def test_a_native_export_is_measured_by_its_stock_class(method, folder, tiny_preset, tmp_path):
    text = tiny_preset.read_text().replace("method: dpe", f"method: {method}")
    tiny_preset.write_text(re.sub("parameters:.*", "parameters: {}", text))
    native, out = tmp_path / "native", tmp_path / "results"
    assert run("convert", folder, "-p", tiny_preset, "-o", native, "--native").exit_code == 0
    found = []
    for model in (native, folder):
        result = run(
            "eval", "ppl", model, "-o", out, "-l", 200, *(["-p", tiny_preset, "--no-base"] if model == folder else [])
        )
        assert result.exit_code == 0, result.output
        found.append(results(out / model.name / "ppl.jsonl")[1][0]["nll"])
    assert found[0] == pytest.approx(found[1], rel=1e-5)


def test_pickles_and_code_of_a_folder_are_left_alone(folder, tmp_path):
    for name in ("auto_map", "pickle"):
        other = tmp_path / name
        shutil.copytree(folder, other)
    (tmp_path / "pickle" / "model.safetensors").rename(tmp_path / "pickle" / "pytorch_model.bin")
    config = json.loads((folder / "config.json").read_text())
    config |= {"auto_map": {"AutoConfig": "evil.C", "AutoModelForCausalLM": "evil.M"}}
    (tmp_path / "auto_map" / "config.json").write_text(json.dumps(config))
    (tmp_path / "auto_map" / "evil.py").write_text("raise SystemExit('executed')")
    for name in ("auto_map", "pickle"):
        result = run("eval", "ppl", tmp_path / name, "-o", tmp_path / "results", "-l", 200)
        assert "executed" not in result.output
        assert "Traceback" not in result.output
    assert result.exit_code == 1


def test_without_the_harness_it_is_said(folder, monkeypatch):
    monkeypatch.setattr("ropext.converter.evaluation.run.harness.find_spec", lambda name: None)
    result = run("eval", "lm-eval", folder, "--tasks", "longbench")
    assert result.exit_code == 1
    assert "pip install 'lm-eval[hf]'" in result.stderr


def test_kills():
    """At random moments, and at steps."""
    program = [sys.executable, "-m", "tools.kills_eval", "--times", "6", "--steps", "--stride", "41"]
    run = subprocess.run(program, cwd=Path(__file__).parents[3], capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr
