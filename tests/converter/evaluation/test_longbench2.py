"""LongBench v2: the published words around a question, its cuts, its chain of thought, its accuracy."""

import json

import pytest

from ropext.converter.errors import RopextError, UsageError
from ropext.converter.evaluation.report import statistics
from ropext.converter.evaluation.report.intervals import wilson
from ropext.converter.evaluation.report.results import read_results
from ropext.converter.evaluation.tasks import longbench2
from tests.helpers.asked import tokenizer, with_tokenizer
from tests.helpers.benchmark_files import LONGBENCH2, Scripted, changed, write
from tests.helpers.leval_files import chatting
from tests.helpers.measured import answered, results
from tests.helpers.measured import write as write_results

ASKED = """Please read the following text and answer the question below.

<text>
T
</text>

What is the correct answer to this question: Q
Choices:
(A) a
(B) b
(C) c
(D) d

Format your response as follows: "The correct answer is (insert answer here)"."""
FIELDS = {"context": "T", "question": "Q", "choice_A": "a", "choice_B": "b", "choice_C": "c", "choice_D": "d"}


@pytest.fixture
def file(tmp_path):
    return write(tmp_path / "data.jsonl", LONGBENCH2)


def test_the_words_are_the_published_ones():
    assert longbench2.prompt(FIELDS) == ASKED
    thinking = longbench2.prompt(FIELDS, cot=True)
    assert thinking.startswith("Please read the following text and answer the questions below.\n\n<text>\nT\n</text>")
    assert thinking.endswith("(D) d\n\nLet’s think step by step:")
    assert longbench2.prompt({**FIELDS, "context": "{Q} {{"}).count("{Q} {{") == 1


@pytest.mark.parametrize(
    ("response", "letter"),
    [
        ("The correct answer is (B)", "B"),
        ("The correct answer is B.", "B"),
        ("**The correct answer is (C)**", "C"),
        ("The correct answer is **(C)** as it says", "C"),
        ("The correct answer is A. No: The correct answer is (D).", "D"),  # brackets go first
        ("The correct answer is (insert answer here)", None),
        ("the correct answer is (B)", None),  # the case counts
        ("The correct answer is: (B)", None),
        ("(B)", None),
        ("", None),
    ],
)
def test_the_letter_is_found_as_published(response, letter):
    assert longbench2.chosen(response) == letter
    assert longbench2.score("B", response) == (1.0 if letter == "B" else 0.0)


def test_a_question_is_asked_and_scored(file):
    questions, _ = longbench2.read(file)
    one, *_, last = longbench2.runs(tokenizer(), questions, 8192)
    model = Scripted(tokenizer(), " The correct answer is (A).")
    found = one.measure(model)
    assert model.asked == [(longbench2.prompt(questions[0].fields), 128, True)]
    assert (found["score"], found["groups"], found["answers"]) == (1.0, ["easy", "short"], ["A"])
    assert "Where did the heron wait?\nChoices:" in one.prompt
    assert (last.number, last.document) == (3, 3)
    assert [each.document for each in longbench2.runs(tokenizer(), questions, 8192)] == [0, 0, 2, 3]  # one text, twice


def test_a_chain_of_thought_is_put_in_front_of_the_answer(file):
    questions, _ = longbench2.read(file)
    one, *_ = longbench2.runs(chatting(), questions, 8192, cot=True)
    model = Scripted(chatting(), " It stood by water. ", "The correct answer is (B)")
    found = one.measure(model)
    (first, thought_tokens, special), (second, answer_tokens, _) = model.asked
    assert (thought_tokens, answer_tokens, special) == (1024, 128, False)
    assert first.startswith("<user>Please read the following text and answer the questions below.\n\n<text>")
    assert second.startswith(
        "<user>Please read the following text and answer the questions below.\n\nThe text is too long and omitted here."
        "\n\nWhat is the correct answer to this question: Where did the heron wait?\nChoices:\n(A) by the weir\n"
    )
    assert second.endswith(
        "Let’s think step by step: It stood by water.\n\nBased on the above, what is the single, most likely answer "
        'choice? Format your response as follows: "The correct answer is (insert answer here)".</user><assistant>'
    )
    assert (found["score"], found["thought"]) == (0.0, "It stood by water.")
    assert found["prediction"] == "The correct answer is (B)"


@pytest.mark.parametrize("words", [tokenizer(), chatting()])
def test_prompt_and_answer_fit_the_length(words, file):
    questions, _ = longbench2.read(file)
    whole = longbench2.prompt(questions[0].fields)
    found = list(longbench2.runs(words, questions, 2048))
    assert all(each.tokens + 128 <= 2048 for each in found)
    assert found[0].tokens + 128 > 2040
    assert whole[:600] in found[0].prompt
    assert whole[-600:] in found[0].prompt
    assert whole not in found[0].prompt
    assert longbench2.prompt(questions[2].fields) in found[2].prompt  # it is short
    assert all(each.tokens + 1024 <= 2800 for each in longbench2.runs(words, questions, 2800, cot=True))


def test_a_length_without_room_is_refused(file):
    questions, _ = longbench2.read(file)
    with pytest.raises(UsageError, match=r"700 tokens leave no room for a text beside .*data\.jsonl:1.* 128 tokens"):
        list(longbench2.runs(tokenizer(), questions, 700))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"choice_C": None}, r"data\.jsonl:2: `choice_C` is missing.*data\.json of https://huggingface\.co"),
        ({"answer": "E"}, r"data\.jsonl:2: `answer` is not one of A, B, C, D"),
        ({"difficulty": "medium"}, r"data\.jsonl:2: `difficulty` is not one of easy, hard"),
        ({"length": 3}, r"data\.jsonl:2: `length` is not one of short, medium, long"),
    ],
)
def test_a_record_of_another_form_is_refused(fields, message, file):
    with pytest.raises(RopextError, match=message):
        longbench2.read(changed(file, 1, **fields))


def test_the_published_file_is_one_list(tmp_path):
    whole = tmp_path / "data.json"
    whole.write_text(json.dumps(LONGBENCH2))
    questions, _ = longbench2.read(whole)
    assert [question.answer for question in questions] == ["A", "B", "D", "C"]
    assert questions[1].place == f"{whole}: record 2"


# Runs and reports


def test_base_preset_and_report(run, tiny_llama, tiny_preset, file, tmp_path, monkeypatch):
    monkeypatch.setattr(longbench2, "ANSWER_TOKENS", 4)
    folder, out = with_tokenizer(tiny_llama), tmp_path / "results"
    command = ["eval", "longbench2", folder, "-p", tiny_preset, "--data", file, "-l", "2k", "-o", out, "--no-short"]
    run(*command, "--samples", 2)
    run(*command, "--resume")
    settings, found = results(out / folder.name / "longbench2.jsonl")
    assert settings["cot"] is False
    asked = [(each["preset"], each["seed"]) for each in found[:4]]
    assert asked == [(None, 0), (None, 1), ("tiny-dpe", 0), ("tiny-dpe", 1)]
    assert len(found) == 2 * 4
    report = run("report", out).stdout
    assert "## LongBench v2: " in report
    assert "Accuracy, percent of the questions" in report
    rows = [line.split("|")[1].strip() for line in report.split("Questions by tiny-dpe, percent")[1].splitlines()[2:9]]
    assert rows == ["group", "---", "easy", "hard", "short", "medium", "long"]
    changed(file, 0, answer="B")
    assert "data_sha256" in run(*command, "--resume", status=2).stderr
    assert "cot (False then, True now)" in run(*command, "--resume", "--cot", status=2).stderr


def test_wrong_usage_is_said(run, tiny_llama, file, tmp_path):
    folder = with_tokenizer(tiny_llama)
    how = ["eval", "longbench2", folder, "-o", tmp_path / "results"]
    address = "data.json of https://huggingface.co/datasets/THUDM/LongBench-v2"
    assert address in run(*how, status=2).stderr
    missing = run(*how, "--data", tmp_path / "gone.json", status=2).stderr
    assert "gone.json: cannot be read" in missing
    assert address in missing
    assert "no chat template" in run(*how, "--data", file, "--chat", "-l", "2k", status=2).stderr


def test_accuracy_is_over_questions_and_over_each_group(tmp_path):
    """By hand: 3 of 8 right by the preset, of the base none; hard 2 of 6, easy 1 of 2, short 3 of 4, long none."""
    groups = [["hard", "short"]] * 3 + [["easy", "short"], ["easy", "long"]] + [["hard", "long"]] * 3
    right = [1, 1, 0, 1, 0, 0, 0, 0]
    values = [
        {**answered(preset, 8192, n, "longbench2", right[n] if preset else 0), "groups": each, "document": n // 2}
        for preset in (None, "p")
        for n, each in enumerate(groups)
    ]
    file = write_results(tmp_path / "longbench2.jsonl", "longbench2", values)
    (experiment,), _ = read_results([file])
    assert experiment.subtasks == ["easy", "hard", "short", "long"]
    accuracy, difference, _ = statistics.METRICS["longbench2"]
    found = {part: statistics.estimate(accuracy, experiment, "p", 8192, part) for part in (None, *experiment.subtasks)}
    assert {part: (each.value, each.count) for part, each in found.items()} == {
        None: (37.5, 8), "easy": (50.0, 2), "hard": (pytest.approx(100 / 3), 6), "short": (75.0, 4), "long": (0.0, 4),
    }  # fmt: skip
    assert found["short"].low == pytest.approx(100 * wilson(0.75, 4)[0])
    compared = statistics.estimate(difference, experiment, "p", 8192)
    assert (compared.value, compared.count, compared.prompts) == (37.5, 8, 4)  # four texts of two questions each
    assert compared.p == 0.5  # two of them differ: two of the four choices of signs are as far from zero


@pytest.mark.parametrize("groups", [None, [], ["hard", 3], "hard"])
def test_results_without_groups_are_refused(groups, tmp_path):
    value = {**answered(None, 8192, 0, "longbench2", 1.0), "document": 0, "groups": groups}
    file = write_results(tmp_path / "longbench2.jsonl", "longbench2", [value])
    with pytest.raises(RopextError, match=r"longbench2\.jsonl:2: is no measurement of longbench2: `groups`"):
        read_results([file])
