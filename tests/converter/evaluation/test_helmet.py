"""HELMET's recall and retrieval-augmented generation: what is drawn, the published words, cuts and scores."""

import json

import pytest

from ropext.converter.errors import RopextError, UsageError
from ropext.converter.evaluation.report import statistics
from ropext.converter.evaluation.report.results import read_results
from ropext.converter.evaluation.report.tables import notes
from ropext.converter.evaluation.tasks import helmet, helmet_questions
from tests.helpers.asked import tokenizer, with_tokenizer
from tests.helpers.benchmark_files import NOISE, Scripted, changed, write_helmet
from tests.helpers.leval_files import chatting
from tests.helpers.measured import answered, results
from tests.helpers.measured import write as write_results

TASKS = list(helmet.TASKS)


@pytest.fixture
def folder(tmp_path):
    return write_helmet(tmp_path / "data")


def asked(folder, task, samples=100, **how):
    words = chatting() if how.get("chat") else tokenizer()
    return list(helmet.runs(words, folder, task, 4096, samples, **how))


# Words


def test_keys_are_asked_for_in_the_published_words(folder):
    (one,) = asked(folder, "json_kv", 1)
    assert one.prompt == (
        f'JSON data:\n{{"k1": "v1-{one.number}", "k2": "v2"}}\n\nExtract the value corresponding to the specified key '
        "in the JSON object below.\n\nKey: demo-0\nCorresponding value: value-0\n\nKey: demo-1\nCorresponding value: "
        "value-1\n\nKey: k1\nCorresponding value:"
    )
    (chat,) = asked(folder, "json_kv", 1, chat=True)
    assert chat.prompt.startswith("<user>JSON data:")
    assert chat.prompt.endswith("\n\nKey: k1</user><assistant>")
    assert (one.special_tokens, chat.special_tokens) == (True, False)


def test_needles_are_asked_for_in_the_published_words(folder):
    (one,) = asked(folder, "ruler_niah_mk_3", 1)
    assert one.prompt.startswith(
        "A special magic uuid is hidden within the following text. Make sure to memorize it. I will quiz you about the "
        f"uuid afterwards.\n{NOISE}"
    )
    assert one.prompt.endswith(
        "\nWhat is the special magic uuid for worn-lamp mentioned in the provided text?\nThe special magic uuid for "
        "worn-lamp mentioned in the provided text is"
    )
    (several,) = asked(folder, "ruler_niah_mv", 1)
    assert several.prompt.startswith("Some special magic numbers are hidden within the following text. Make sure to")
    assert several.prompt.endswith(
        "\nWhat are all the special magic numbers for worn-lamp mentioned in the provided text?\nThe special magic "
        "numbers for worn-lamp mentioned in the provided text are"
    )
    assert several.answers == ("200011", "200111")


def test_documents_are_asked_about_in_the_published_words(folder):
    one, *_ = asked(folder, "triviaqa", 1)
    start = "Use the given documents to write a concise and short answer to the question. Write your answer in the "
    assert one.prompt.startswith(f"{start}following format:\nAnswer: [answer]\n\nDocument (Title: Page 0): Nothing is")
    solved, _, last = one.prompt.rpartition("\n\nDocument (Title: Page 0): ")
    assert solved.count("\n\nQuestion: what is old triviaqa ") == 2
    assert solved.count("\nAnswer: The old triviaqa of ") == 2
    number = one.prompt.rpartition("what is triviaqa ")[2][0]
    assert last.count("Document (Title: ") == 19
    assert f"Document (Title: Page 10): It is said that {number} is the triviaqa of {number}.\n\n" in last
    assert last.endswith(f"\n\nQuestion: what is triviaqa {number}?\nAnswer:")
    chat, *_ = asked(folder, "triviaqa", 1, chat=True)
    assert chat.prompt.endswith(f"\n\nQuestion: what is triviaqa {number}?</user><assistant>")


# What is drawn


def test_questions_are_drawn_as_published(folder):
    """The numbers are those of Hugging Face's `datasets`, which the published program shuffles by."""
    assert [each.number for each in asked(folder, "json_kv", 4)] == [3, 2, 6, 4]
    assert [each.number for each in asked(folder, "ruler_niah_mk_2", 4)] == [3, 2, 6, 4]
    assert [each.number for each in asked(folder, "json_kv")] != list(range(7))
    assert sorted(each.number for each in asked(folder, "json_kv")) == list(range(7))
    assert [each.number for each in asked(folder, "triviaqa", 2)] == [0, 1, 10, 11]  # each question at two places
    assert [each.document for each in asked(folder, "triviaqa", 2)] == [0, 0, 10, 10]


def test_popqa_asks_what_few_read_about_and_shows_other_questions(folder):
    found = asked(folder, "popqa")
    assert {each.number // 2 % 4 for each in found} == {0, 1}  # of 10, 100, 1,000 and 10,000 readers
    for each in found:
        *solved, last = [part.partition("?")[0] for part in each.prompt.split("Question: what is fame ")[1:]]
        assert len(solved) == 2
        assert last not in solved
        assert {int(number) % 4 for number in solved} <= {0, 1}


# Cuts


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("chat", [False, True])
def test_prompt_and_answer_fit_the_length(task, chat, tmp_path, monkeypatch):
    folder = write_helmet(tmp_path / "data", documents=90, keys=50)
    monkeypatch.setitem(helmet._SIZES, 4096, (50, 90))
    new_tokens = {"json_kv": 100, "ruler_niah_mk_2": 50, "ruler_niah_mk_3": 100, "ruler_niah_mv": 50}.get(task, 20)
    for each in asked(folder, task, 2, chat=chat):
        assert each.new_tokens == new_tokens
        assert each.tokens + new_tokens <= 4096
        if helmet.TASKS[task].group == "RAG":  # the last documents are cut off, the question is not
            assert each.tokens + new_tokens == 4096
            assert "Document (Title: Page 89)" not in each.prompt
            assert each.prompt.count("Question: what is ") == 3


def test_a_length_without_room_is_refused(tmp_path):
    folder = write_helmet(tmp_path / "data")
    changed(folder / "json_kv/test_k50_dep6.jsonl", 0, demos=[["k" * 5000, "v"], ["k", "v"]])
    with pytest.raises(UsageError, match=r"json_kv: 4096 tokens leave no room for the text of .*dep6\.jsonl:1"):
        asked(folder, "json_kv")


# Scores


@pytest.mark.parametrize(
    ("metric", "answers", "said", "expected"),
    [
        ("contains", ["The Eiffel Tower"], "Answer: it is eiffel tower, of course", 1),
        ("contains", ["U.S."], "Answer: the US", 1),  # without punctuation
        ("contains", ["Paris", "London"], "Answer: Londoner", 1),  # a part of a word is enough
        ("contains", ["Paris"], "Answer: Rome", 0),
        ("contains", ["6f9a-11"], "Corresponding value: 6f9a-11", 1),
        ("contains", ["an apple"], "Answer: apple", 1),  # without articles
        ("share", ["111", "222", "333", "444"], "are 111, 333 and 444.", 0.75),
        ("share", ["6F9A-11"], "is 6f9a-11", 1),
        ("share", ["111"], "is 11", 0),
    ],
)
def test_scores_are_the_published_ones(metric, answers, said, expected):
    assert helmet.score(metric, answers, said) == expected


def test_a_question_is_asked_and_scored(folder):
    one, *_ = asked(folder, "nq", 1)
    name = one.answers[0]
    model = Scripted(tokenizer(), f" {name.lower()}\nQuestion: more", "\nno", f"none\n{name}")
    found = [one.measure(model) for _ in range(3)]
    assert [each["score"] for each in found] == [1.0, 0.0, 0.0]  # an answer is one line
    assert found[0]["prediction"] == f" {name.lower()}"
    assert found[0]["groups"] == ["RAG", "nq"]
    assert len(found[0]["file_sha256"]) == 64
    assert model.asked[0] == (one.prompt, 20, True)
    (several,) = asked(folder, "ruler_niah_mv", 1)
    line = several.measure(Scripted(tokenizer(), f"\n{several.answers[1]}"))
    assert (line["score"], line["groups"]) == (0.5, ["Recall", "ruler_niah_mv"])


# Files


def test_the_published_files_are_named(tmp_path):
    assert [str(file) for task in TASKS for file in helmet.files(tmp_path, task, 131072)] == [
        f"{tmp_path}/{name}"
        for name in (
            "json_kv/test_k1800_dep6.jsonl",
            "ruler/niah_multikey_2/validation_131072.jsonl",
            "ruler/niah_multikey_3/validation_131072.jsonl",
            "ruler/niah_multivalue/validation_131072.jsonl",
            "kilt/nq-dev-multikilt_1000_k1000_dep6.jsonl",
            "kilt/nq-train-multikilt_1000_k3_dep6.jsonl",
            "kilt/triviaqa-dev-multikilt_1000_k1000_dep6.jsonl",
            "kilt/triviaqa-train-multikilt_1000_k3_dep6.jsonl",
            "kilt/hotpotqa-dev-multikilt_1000_k1000_dep3.jsonl",
            "kilt/hotpotqa-train-multikilt_1000_k3_dep3.jsonl",
            "kilt/popqa_test_1000_k1000_dep6.jsonl",
            "kilt/popqa_test_1000_k3_dep6.jsonl",
        )
    ]
    sizes = {length: helmet.files(tmp_path, "json_kv", length)[0].name for length in helmet.LENGTHS}
    assert list(sizes.values()) == [f"test_k{keys}_dep6.jsonl" for keys in (50, 105, 220, 440, 900, 1800)]


def test_what_is_missing_is_refused_by_name(folder):
    (folder / "json_kv/test_k50_dep6.jsonl").unlink()
    (folder / "kilt/nq-train-multikilt_1000_k3_dep6.jsonl").unlink()
    with pytest.raises(UsageError) as refused:
        helmet.check(folder, TASKS, 4096, named=False)
    whole, keys, nq, where, part = str(refused.value).split("\n")
    assert whole == "HELMET cannot be run whole here"
    assert keys == f"json_kv: there is no {folder}/json_kv/test_k50_dep6.jsonl"
    assert nq == f"nq: there is no {folder}/kilt/nq-train-multikilt_1000_k3_dep6.jsonl"
    assert "https://huggingface.co/datasets/princeton-nlp/HELMET" in where
    assert part.endswith("--tasks ruler_niah_mk_2,ruler_niah_mk_3,ruler_niah_mv,triviaqa,hotpotqa,popqa")
    helmet.check(folder, ["popqa"], 4096, named=True)
    with pytest.raises(UsageError, match="HELMET has no files for 12288 tokens; choose --lengths of 4k, 8k, 16k, 32k"):
        helmet.check(folder, ["popqa"], 12288, named=True)


def test_a_group_names_its_tasks():
    assert helmet.chosen(["rag", "json_kv"]) == ["nq", "triviaqa", "hotpotqa", "popqa", "json_kv"]
    assert helmet.chosen(None) == TASKS
    with pytest.raises(UsageError, match="nqq is none of HELMET's tasks"):
        helmet.chosen(["nqq"])


@pytest.mark.parametrize(
    ("task", "fields", "message"),
    [
        ("json_kv", {"demos": [["a", "b"]]}, "`demos` is not a list of 2 or more pairs"),
        ("json_kv", {"answer": None}, "`answer` is missing"),
        ("ruler_niah_mv", {"query": None}, "`query` is missing"),
        ("ruler_niah_mv", {"outputs": [1]}, "`outputs` is not a text or a list"),
        ("nq", {"ctxs": [{"text": "x"}]}, "`ctxs` is not a list of documents"),
        ("nq", {"answers": []}, "`answers` is not a text or a list"),
        ("popqa", {"s_pop": 0}, "`s_pop` is not a number over 0"),
    ],
)
def test_a_record_of_another_form_is_refused(task, fields, message, folder):
    changed(helmet.files(folder, task, 4096)[0], 0, **fields)
    with pytest.raises(RopextError, match=rf"\.jsonl:1: {message}.*princeton-nlp/HELMET"):
        asked(folder, task)


def test_answers_of_older_files_are_lists_of_lists(folder):
    changed(folder / "ruler/niah_multivalue/validation_4096.jsonl", 0, answer=[["7"], ["8", "9"]])
    (one,) = [each for each in asked(folder, "ruler_niah_mv") if each.number == 0]
    assert one.answers == ("7", "8", "9")


@pytest.mark.parametrize(
    ("usual", "lengths"),
    [
        ((8192, 12288, 16384), [8192, 16384]),
        ((40960, 61440, 81920), [32768, 65536]),
        ((2048, 3072, 4096), [4096]),
        ((64, 96, 128), []),
    ],
)
def test_without_lengths_those_are_asked_that_there_are_files_for(usual, lengths):
    assert helmet.usual(usual) == lengths


def test_too_few_solved_questions_are_refused(folder):
    file = folder / "kilt/nq-train-multikilt_1000_k3_dep6.jsonl"
    file.write_text("\n".join(file.read_text().splitlines()[:4]))
    with pytest.raises(RopextError, match=rf"{file.name}: has fewer than {helmet_questions.SHOTS + 1} questions"):
        asked(folder, "nq")


# Runs and reports


def test_base_preset_and_report(run, tiny_llama, tiny_preset, tmp_path, monkeypatch):
    monkeypatch.setitem(helmet._SIZES, 1536, (50, 4))  # shorter than any of the published files
    folder = write_helmet(tmp_path / "data", 1536, documents=4)
    model, out = with_tokenizer(tiny_llama), tmp_path / "results"
    command = ["eval", "helmet", model, "-p", tiny_preset, "--data", folder, "-o", out, "--no-short", "-l", "1536"]
    run(*command, "--samples", 1, "--tasks", "ruler_niah_mv,popqa")
    settings, found = results(out / model.name / "helmet.jsonl")
    assert settings["tasks"] == ["ruler_niah_mv", "popqa"]
    assert [each["task"] for each in found if not each["preset"]] == ["ruler_niah_mv", "popqa", "popqa"]
    report = run("report", out).stdout
    assert "## HELMET: " in report
    rows = [line.split("|")[1].strip() for line in report.split("Tasks by tiny-dpe, percent")[1].splitlines()[2:8]]
    assert rows == ["task", "---", "Recall", "RAG", "ruler_niah_mv", "popqa"]
    assert "Without json_kv, ruler_niah_mk_2, ruler_niah_mk_3, nq, triviaqa, hotpotqa: these averages" in report
    changed_out = ["-o", tmp_path / "other"]
    (folder / "json_kv/test_k50_dep6.jsonl").unlink()
    assert "json_kv: there is no" in run(*command, *changed_out, status=2).stderr
    assert "HELMET has no files for 8100 tokens" in run(*command, "-l", "8100", *changed_out, status=2).stderr
    assert "has no length for this task up to 128 tokens" in run(*command[:-2], *changed_out, status=2).stderr
    assert "needs files that are not here" in run("eval", "helmet", model, *changed_out, status=2).stderr


def test_groups_are_means_of_their_tasks(tmp_path):
    """By hand: Recall (100 + 50) / 2, RAG 25, the average over three tasks (100 + 50 + 25) / 3."""
    scores = {"json_kv": [1, 1], "ruler_niah_mv": [0.5], "nq": [0, 0, 0, 1]}
    values = [
        {**answered(None, 8192, n, task, each), "document": n, "groups": [helmet.TASKS[task].group, task]}
        for task, found in scores.items()
        for n, each in enumerate(found)
    ]
    (experiment,), _ = read_results([write_results(tmp_path / "helmet.jsonl", "helmet", values)])
    average, *_ = statistics.METRICS["helmet"]
    found = {
        part: statistics.estimate(average, experiment, experiment.presets[0], 8192, part).value
        for part in (None, "Recall", "RAG", "nq")
    }
    assert found == {None: pytest.approx(175 / 3), "Recall": 75.0, "RAG": 25.0, "nq": 25.0}
    assert notes(experiment)[0].startswith("Without ruler_niah_mk_2, ruler_niah_mk_3, triviaqa, hotpotqa, popqa: ")
    assert json.loads(json.dumps(values[0]))["groups"] == ["Recall", "json_kv"]
