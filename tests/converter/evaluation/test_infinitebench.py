"""∞Bench's closed tasks: the published words around each question, its cuts and its scores."""

import pytest

from ropext.converter.errors import RopextError, UsageError
from ropext.converter.evaluation.report.results import read_results
from ropext.converter.evaluation.report.tables import notes
from ropext.converter.evaluation.tasks import infinitebench
from tests.helpers.asked import tokenizer, with_tokenizer
from tests.helpers.benchmark_files import BOOK, INFINITEBENCH, Scripted, changed, write_infinitebench
from tests.helpers.leval_files import chatting
from tests.helpers.measured import answered, results
from tests.helpers.measured import write as write_results

TASKS = list(infinitebench.TASKS)


@pytest.fixture
def folder(tmp_path):
    return write_infinitebench(tmp_path / "InfiniteBench")


def asked(folder, task, number=0, *, chat=False):
    questions, _ = infinitebench.read(folder, [task])
    return infinitebench.prompt(task, {**questions[task][number].fields, "context": "TEXT"}, chat=chat)


# Words


def test_the_words_for_base_models_are_the_published_ones(folder):
    hidden = "There is an important info hidden inside a lot of irrelevant text. Find it"
    assert {task: asked(folder, task) for task in TASKS} == {
        "passkey": f"{hidden} and memorize it. I will quiz you about the important information.\n\nTEXT\n\n"
        "What is the pass key?\n\nThe pass key is",
        "number_string": f"{hidden}. I will quiz you about the important information there.\n\nTEXT\n\n"
        "What is the sequence of digits?\n\nThe sequence of digits is",
        "kv_retrieval": "Extract the value corresponding to the specified key in the JSON object below.\n\nTEXT\n\n\n"
        'Key: "99c1"\nThe value associated with the specified key is: ',
        "math_find": "What is the second largest number in the following list?\n\nTEXT\n\nYou should answer with only "
        "one number, no other words. The second largest number of the list is: ",
        "code_run": "There is a function called func_1 in the following Python code.\n\nTEXT\n\nPlease compute the "
        "exact value of func_1(-5). The value of func_1(-5) is",
        "code_debug": "Following is a Python code where exactly one of the functions/methods has a deliberate error "
        "that makes it crash.\n\nTEXT\n\nOptions:\nA. _init\nB. cmd_gen\nC. run\nD. stop\n\nThe correct option is:",
        "longbook_choice_eng": "Read the book and answer the question.\n\nTEXT\n\nQuestion: Who kept the lamp?\n"
        "A. Jon\nB. Ada\nC. Mira\nD. Nobody\n\nThe letter of the correct answer is",
    }


def test_the_words_for_chat_models_are_the_published_ones(folder):
    assert asked(folder, "passkey", chat=True) == (
        "There is an important info hidden inside a lot of irrelevant text. Find it and memorize them. I will quiz you "
        "about the important information there.\n\nTEXT\n\nWhat is the pass key?"
    )
    assert asked(folder, "kv_retrieval", chat=True) == asked(folder, "kv_retrieval")
    assert asked(folder, "code_run", chat=True) == (
        "Following is a set of Python functions. There is a function called named func_1.\n\nTEXT\n\nPlease give me "
        "the exact number of the return value of func_1(-5). Be concise. Your response must end with the final "
        "returned value."
    )
    code = asked(folder, "code_debug", chat=True)
    assert (
        "TEXT\n\nWhich funtion has deliberate error?\nA. _init\nB. cmd_gen\nC. run\nD. stop\n\nYou should first" in code
    )
    assert code.endswith("has the deliberate and obvious error in A, B, C, or D.")
    assert asked(folder, "longbook_choice_eng", chat=True).endswith(
        "Question: Who kept the lamp?\n\nOnly one of the following options is correct, tell me the answer using one "
        "single letter (A, B, C, or D). Don't say anything else.\nA. Jon\nB. Ada\nC. Mira\nD. Nobody"
    )


# Scores


@pytest.mark.parametrize(
    ("task", "prediction", "answers", "right"),
    [
        ("passkey", " 71432. Remember", ["71432"], True),
        ("passkey", "is the 1 and 71432", ["71432"], False),  # the first digits
        ("passkey", "00317", ["317"], False),  # as text
        ("passkey", "none", ["71432"], False),
        ("number_string", "4433,221100", ["4433221100"], False),
        ("kv_retrieval", '"0b44-27"}', ["0b44-27"], True),
        ("kv_retrieval", "It is: 0b44-27, I think", ["0b44-27"], True),
        ("kv_retrieval", "0b44-271", ["0b44-27"], False),  # a word, not a part of one
        ("math_find", "17", ["17"], True),
        ("math_find", "The answer is 17.", ["17"], True),
        ("math_find", "17.0", ["17"], False),  # the published scorer stops there
        ("math_find", "3.5", ["3.5"], True),
        ("math_find", "3", ["3.0"], True),
        ("math_find", "42 or 17", ["17"], False),
        ("math_find", "\uff11\uff17", ["17"], True),  # digits of any script
        ("passkey", "\uff11 71432", ["71432"], True),  # but not here
        ("math_find", "", ["17"], False),
        ("code_run", " -8", ["-8"], True),
        ("code_run", "The value is `-8`.", ["-8"], True),
        ("code_run", "-8 in all", ["-8"], False),  # the last word
        ("code_run", "", ["-8"], False),
        ("code_debug", " B. cmd_gen", ["cmd_gen", "B"], True),
        ("code_debug", "B: it", ["cmd_gen", "B"], True),
        ("code_debug", "B", ["cmd_gen", "B"], False),  # a point or a colon is wanted
        ("code_debug", "The answer is: **B**", ["cmd_gen", "B"], True),
        ("code_debug", "the error is: cmd_gen", ["cmd_gen", "B"], True),
        ("code_debug", "The correct option is: `B`", ["cmd_gen", "B"], True),
        ("code_debug", "The answer is:", ["cmd_gen", "B"], False),
        ("code_debug", "It is: C. Answer: B", ["cmd_gen", "B"], False),  # “is:” goes first
        ("longbook_choice_eng", " C", ["Mira", "C"], True),
        ("longbook_choice_eng", "Certainly Mira", ["Mira", "C"], True),  # the first letter, whatever it begins
        ("longbook_choice_eng", "Mira", ["Mira", "C"], True),
        ("longbook_choice_eng", "the answer is Mira", ["Mira", "C"], True),
        ("longbook_choice_eng", "The answer is: B. I chose C", ["Mira", "C"], False),
        ("longbook_choice_eng", "I choose C, not B", ["Mira", "C"], True),
        ("longbook_choice_eng", "It may be AB or C", ["Mira", "C"], False),  # a word made of these letters
        ("longbook_choice_eng", "my option is", ["Mira", "C"], False),
        ("longbook_choice_eng", " \n", ["Mira", "C"], False),
    ],
)
def test_scores_are_the_published_ones(task, prediction, answers, right):
    assert infinitebench.TASKS[task].score(prediction, answers=answers) is right


# Runs


@pytest.mark.parametrize("chat", [False, True])
@pytest.mark.parametrize("task", TASKS)
def test_prompt_and_answer_fit_the_length(task, chat, folder):
    questions, _ = infinitebench.read(folder, [task])
    words = chatting() if chat else tokenizer()
    new_tokens = 512 if chat else {"passkey": 6, "number_string": 12, "kv_retrieval": 50, "math_find": 3,
                                   "longbook_choice_eng": 40}.get(task, 5)  # fmt: skip
    for each in infinitebench.runs(words, task, questions[task], 2400, chat=chat):
        assert each.new_tokens == new_tokens
        assert each.tokens + new_tokens <= 2400
        whole = infinitebench.prompt(task, questions[task][each.number].fields, chat=chat)
        inside = each.prompt
        if chat:
            assert inside.startswith("<system>You are a helpful assistant</system><user>")
            assert inside.endswith("</user><assistant>")
            inside = inside.partition("<user>")[2].removesuffix("</user><assistant>")
        assert (inside == whole) == (len(whole) < 1800)
        assert (inside[:800], inside[-800:]) == (whole[:800], whole[-800:])


def test_a_question_is_asked_and_scored(folder):
    questions, digest = infinitebench.read(folder, None)
    assert (list(questions), len(digest)) == (TASKS, 64)
    one, two = infinitebench.runs(tokenizer(), "longbook_choice_eng", questions["longbook_choice_eng"], 8192)
    model = Scripted(tokenizer(), " C", " C")
    found = [each.measure(model) for each in (one, two)]
    assert [(each["score"], each["document"], each["answers"]) for each in found] == [
        (1.0, 0, ["Mira", "C"]), (0.0, 0, ["Jon", "A"]),
    ]  # fmt: skip
    assert BOOK in model.asked[0][0]
    assert [each[1:] for each in model.asked] == [(40, True), (40, True)]


def test_a_length_without_room_is_refused(folder):
    questions, _ = infinitebench.read(folder, ["passkey"])
    with pytest.raises(UsageError, match=r"passkey: 300 tokens leave no room for the text of .*passkey\.jsonl:1"):
        list(infinitebench.runs(tokenizer(), "passkey", questions["passkey"], 300))


@pytest.mark.parametrize(
    ("task", "fields", "message"),
    [
        ("passkey", {"context": None}, "`context` is missing.*xinrongzhang2022/InfiniteBench"),
        ("passkey", {"answer": None}, "`answer` is missing"),
        ("passkey", {"answer": [True]}, "`answer` is not a text or a number"),
        ("math_find", {"answer": ["many"]}, "`answer` is not a number"),
        ("math_find", {"input": "Which is it?"}, "`input` is not a text that says which number"),
        ("code_run", {"input": "And f(3)?"}, "`input` is not a call of a function"),
        ("code_debug", {"options": ["a", "b"]}, "`options` is not a list of 4 texts"),
        ("code_debug", {"answer": ["other"]}, "`answer` is not one of its `options`"),
    ],
)
def test_a_record_of_another_form_is_refused(task, fields, message, folder):
    changed(folder / f"{task}.jsonl", 0, **fields)
    with pytest.raises(RopextError, match=rf"{task}\.jsonl:1: {message}"):
        infinitebench.read(folder, [task])


def test_content_is_another_name_for_the_text(folder):
    changed(folder / "passkey.jsonl", 0, context=None, content="Other. ")
    questions, _ = infinitebench.read(folder, ["passkey"])
    assert questions["passkey"][0].fields["context"] == "Other. "


def test_what_is_missing_is_refused_by_name(folder):
    (folder / "code_run.jsonl").unlink()
    with pytest.raises(UsageError) as refused:
        infinitebench.read(folder, None)
    message = str(refused.value)
    assert message.startswith("∞Bench cannot be run whole here\ncode_run: there is no ")
    assert "https://huggingface.co/datasets/xinrongzhang2022/InfiniteBench" in message
    assert message.endswith("--tasks passkey,number_string,kv_retrieval,math_find,code_debug,longbook_choice_eng")
    with pytest.raises(UsageError, match="did you mean 'passkey'"):
        infinitebench.read(folder, ["passky"])
    with pytest.raises(UsageError, match="needs files that are not here"):
        infinitebench.read(None, None)


def test_base_preset_and_report(run, tiny_llama, tiny_preset, folder, tmp_path):
    model, out = with_tokenizer(tiny_llama), tmp_path / "results"
    command = ["eval", "infinitebench", model, "-p", tiny_preset, "--data", folder, "-l", "2k", "-o", out, "--no-short"]
    assert "--chat: the tokenizer has no chat template" in run(*command, "--chat", status=2).stderr
    printed = run(*command, "--samples", 1).stdout
    assert "average over the tasks, percent" in printed.lower()
    settings, found = results(out / model.name / "infinitebench.jsonl")
    assert settings["tasks"] == TASKS == [each["task"] for each in found[:7]]
    assert len(found) == 2 * 7
    report = run("report", out).stdout
    assert "## ∞Bench: " in report
    assert "Without" not in report
    (folder / "code_run.jsonl").unlink()
    assert "code_run: there is no" in run(*command[:-3], "-o", tmp_path / "other", status=2).stderr


def test_an_average_over_a_part_says_so(tmp_path):
    values = [{**answered(None, 8192, 0, task, 1.0), "document": 0} for task in TASKS if task != "code_run"]
    file = write_results(tmp_path / "infinitebench.jsonl", "infinitebench", values)
    (experiment,), _ = read_results([file])
    assert experiment.subtasks == [task for task in TASKS if task != "code_run"]
    assert notes(experiment) == ["Without code_run: these averages are not to be held against published ones."]


def test_every_task_has_records():
    assert list(INFINITEBENCH) == TASKS
