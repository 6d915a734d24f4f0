"""Mixed questions: what stands in the texts is asked for, every kind has its weight, and reports tell them apart."""

import math
import re
from collections import Counter
from statistics import fmean, stdev

import pytest
import torch

from ropext.converter.errors import UsageError
from ropext.converter.evaluation.asking import Prompt, Question
from ropext.converter.evaluation.report.results import read_results
from ropext.converter.evaluation.report.statistics import METRICS, estimate
from ropext.converter.evaluation.run.transformers_model import SwitchableModel
from ropext.converter.evaluation.tasks.mixed import mixed_sample, weighed
from ropext.converter.evaluation.tasks.texts import load_text
from tests.helpers import tiny
from tests.helpers.asked import tokenizer, with_tokenizer
from tests.helpers.measured import mixed, write


def test_a_mixed_sample_asks_every_kind_about_what_stands_in_its_texts():
    words = tokenizer()
    sample = mixed_sample(words, load_text(), 3000, 2, seed=1)
    prose, filler = (words.decode(each.input_ids) for each in (sample.prose, sample.filler))
    assert Counter(each.kind for each in sample.prose.questions) == {"needles": 2, "pairs": 2, "variables": 2}
    assert Counter(each.kind for each in sample.filler.questions) == {"passkeys": 2}
    for question in sample.prose.questions:
        (key,) = {
            *re.findall(r'(?:for|key|variable) "?([\w-]+)"? (?:mentioned|in|is)', words.decode(question.input_ids))
        }
        if question.kind == "variables":
            (key,) = re.findall(rf"VAR {key} = VAR (\w+)\.", prose)
        says = {"needles": f" for {key} is: {{}}.", "pairs": f'"{key}": "{{}}"', "variables": f"VAR {key} = {{}}."}
        assert prose.count(says[question.kind].format(question.answer)) == 1
    for question in sample.filler.questions:
        assert filler.count(f"{question.answer} is the pass key of ") == 1
    assert "grass is green" in filler
    assert len({question.answer for question in (*sample.prose.questions, *sample.filler.questions)}) == 8
    assert sample == mixed_sample(words, load_text(), 3000, 2, seed=1) != mixed_sample(words, load_text(), 3000, 2, 2)
    with pytest.raises(UsageError, match="leave no room"):
        mixed_sample(words, load_text(), 500, 2, seed=1)
    with pytest.raises(UsageError, match="there are names for 100"):
        mixed_sample(words, load_text(), 500, 101, seed=1)


def test_kinds_weigh_what_their_purpose_says_however_many_questions_they_have():
    answers = [("needles", -2.0), ("needles", -4.0), ("pairs", -8.0), ("variables", -1.0), ("passkeys", -5.0)]
    result = {
        "answers": [{"kind": kind, "log_probability": chance} for kind, chance in answers],
        "losses": [2.0, 3.0],
    }
    for purpose, (kinds, text) in {"balanced": (1, 1), "retrieval": (1, 0.25), "reading": (0.25, 4)}.items():
        expected = (kinds * (-3 - 8 - 1 - 5) + text * -80) / (4 * kinds + text)
        scores = weighed(result, purpose)
        assert len(scores) == 7
        assert fmean(scores) == pytest.approx(expected)


def test_losses_are_those_of_the_pieces_of_the_text(tiny_llama, no_grad):
    model = SwitchableModel(with_tokenizer(tiny_llama))
    asked = tuple(Question(tuple(tiny.tokens(8)[0].tolist()), (5, 6), "", 0.0, 0) for _ in range(2))
    prompt = Prompt(tuple(tiny.tokens(40)[0].tolist()), asked, 40, 0)
    losses, answers = model.losses_and_answers(prompt, 3)
    assert answers == model.answers(prompt)
    ids = torch.tensor(prompt.input_ids)
    each = torch.nn.functional.cross_entropy(model.model(ids[None]).logits[0, :-1], ids[1:], reduction="none")
    assert losses == pytest.approx([float(piece.mean()) for piece in each.tensor_split(3)], rel=1e-5)
    assert math.fsum(losses) * 13 == pytest.approx(model.negative_log_likelihood(prompt.input_ids, 39), rel=1e-5)


def test_kinds_of_one_sample_are_not_independent(tmp_path):
    ahead = (3.0, 1.0, 5.0)  # in all kinds alike
    values = [mixed(name, 4096, seed, -9.0 + bool(name) * ahead[seed]) for name in (None, "a") for seed in range(3)]
    (experiment,), _ = read_results([write(tmp_path / "mixed.jsonl", "mixed", values)])
    (metric,) = [each for each in METRICS["mixed"] if each.name == "balanced_difference"]
    found = estimate(metric, experiment, "a", 4096)
    assert (found.value, found.prompts) == (pytest.approx(3.0), 3)
    assert found.high - found.value == pytest.approx(4.303 * stdev(ahead) / math.sqrt(3))  # of three, not of nine


def test_mixed_questions_are_reported_by_kind_and_as_their_balanced_mean(run, tmp_path):
    values = [
        mixed(preset, 4096, seed, level - seed) for preset, level in [(None, -5.0), ("a", -2.0)] for seed in (0, 1)
    ]
    file = write(tmp_path / "mixed.jsonl", "mixed", values)
    (experiment,), _ = read_results([file])
    assert experiment.subtasks == ["needles", "passkeys", "text"]
    found = {metric.name: estimate(metric, experiment, "a", 4096) for metric in METRICS["mixed"]}
    assert found["balanced"].value == pytest.approx(-2.5 - (1 + 1 + 0) / 3)
    ahead = found["balanced_difference"]
    assert (ahead.value, ahead.low, ahead.high) == (pytest.approx(3.0), pytest.approx(3.0), pytest.approx(3.0))
    assert found["exact"].value == pytest.approx(100 * 4 / 6)
    shown = run("report", file).stdout
    assert "Kinds at 4,096 tokens, nats an answer or 32 tokens of text" in shown
    assert "| a | −3.50 | −3.50 | −2.50 |" in shown
    for change, wrong in [
        ({"losses": []}, "`losses`"),
        ({"answers": [{**values[0]["answers"][0], "kind": "x"}]}, "`kind`"),
    ]:
        bad = write(tmp_path / "bad.jsonl", "mixed", [{**values[0], **change}])
        assert wrong in run("report", bad, status=1).stderr
