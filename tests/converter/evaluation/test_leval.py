"""L-Eval's closed-ended tasks: the published words around each question, its cuts and its scores."""

import json

import numpy as np
import pytest
from click.testing import CliRunner
from huggingface_hub import ModelCard
from huggingface_hub.errors import LocalEntryNotFoundError

from ropext.converter.cli.app import main
from ropext.converter.errors import RopextError, UsageError
from ropext.converter.evaluation.report import statistics as summary
from ropext.converter.evaluation.report.results import read_results
from ropext.converter.evaluation.run.transformers_model import SwitchableModel
from ropext.converter.evaluation.tasks import leval
from ropext.converter.evaluation.tasks.leval_scores import score
from tests.helpers.asked import tokenizer, with_tokenizer
from tests.helpers.ruler_inputs import word_tokenizer

TASKS = list(leval.TASKS)
CHAT = (
    "{% for each in messages %}<{{ each.role }}>{{ each.content }}</{{ each.role }}>{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)
NO_SYSTEM = "{% if messages[0].role == 'system' %}{{ raise_exception('there is no system role') }}{% endif %}" + CHAT
EXAM = (
    "Now you are given a very long document. Please follow the instruction based on this document. For multi-choice "
    "questions, there is only a sinlge correct option. Please only provide the letter corresponding to the answer "
    "(like A or B) when answering. For other questions, please directly give the concise and accurate answer. "
)

LINES = {
    "tpo": [
        ("The heron waits by the weir. " * 90, [("where does it wait\nA. by the weir\nB. at home", "A")] * 2),
        ("A lecture on rust and on salt. " * 9, [("what is it on\nA. art\nB. bread\nC. rust", "C")]),
    ],
    "quality": [("Mira kept the lamp. " * 9, [("Who kept it?\n\n (A) Jon \n (B) Mira", "(B) Mira")])],
    "coursera": [("Trees have roots. Ferns do, too. " * 9, [("Question 1. Which?\nA. trees\nB. ferns", "AB")] * 2)],
    "sci_fi": [
        (
            "On Vell the sea is glass. " * 9,
            [
                ("1. The sea is glass, True or False? Answer this, " + leval._IN_THE_STORY, "True [fact: False]"),
                ("2. Vell is dry, True or False? Answer this, " + leval._IN_THE_STORY, "False [fact: False]"),
            ],
        )
    ],
    "gsm100": [("Question: 1 + 1?\nLet's think step by step\nThe answer is 2\n\n", [("Question: 2 + 3?\n", "5")])] * 2,
    "codeU": [("def f():\n    return [1, 2]\n" * 9, [("What is the final output of f()?\n", "[1 2]")])],
    "topic_retrieval_longchat": [
        ("USER: I would like to discuss the topic of the price of tea. " * 4, [("Which was it?", "The price of tea")])
    ],
}  # fmt: skip
"""Made up, in the form of the published files."""


@pytest.fixture
def data(tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    for task, documents in LINES.items():
        write(folder / f"{task}.jsonl", documents)
    return folder


def write(file, documents):
    lines = [
        {"instructions": [q for q, _ in asked], "outputs": [a for _, a in asked], "input": text, "source": "",
         "evaluation": "exam"}
        for text, asked in documents
    ]  # fmt: skip
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return file


def chatting(template=CHAT, made=tokenizer):
    words = made()
    words.chat_template = template
    return words


def run(*arguments, status=0):
    result = CliRunner().invoke(main, list(map(str, arguments)))
    assert result.exit_code == status, result.output
    assert "Traceback" not in result.output
    return result


# Prompts


def test_the_words_are_the_published_ones():
    words = chatting()
    exam = f"<system>{EXAM}</system><user>Document is as follows. D \nQuestion: Q.  Please directly give the answer "
    exam += "without any additional output or explanation </user><assistant>\nAnswer:"
    assert leval.prompt(words, "tpo", "D", "Q") == leval.prompt(words, "quality", "D", "Q") == exam
    assert "there could be a sinlge correct option or multiple" in leval.prompt(words, "coursera", "D", "Q")
    assert leval.prompt(words, "coursera", "D", "Q").endswith(exam.partition("</system>")[2])
    assert leval.prompt(words, "sci_fi", "D", "Q").startswith("<system>Now you are given a scientific fiction.")
    assert leval.prompt(words, "sci_fi", "D", "Q").endswith("</user><assistant>\nAnswer:")
    for task in ("gsm100", "codeU", "topic_retrieval_longchat"):
        assert leval.prompt(words, task, "D", "Q").endswith("</system><user>D\n\nQ</user><assistant>")
    question = "Is it so, True or False? Answer this question based on the world described in the document."
    assert leval.prompt_in_fact(words, question) == (
        "<user>Is it so, True or False? Answer this question based on the real-world knowledge and facts up until your "
        "last trainingPlease directly answer without any additional output or explanation. </user><assistant>\nAnswer:"
    )


def test_braces_in_a_document_stay():
    assert leval.prompt(tokenizer(), "codeU", "{{x}} {document}", "{question}") == "{{x}} {document}\n\n{question}"
    assert "follows. {question} {{ \n" in leval.prompt(chatting(), "tpo", "{question} {{", "Q")


def test_a_base_model_is_asked_without_a_chat():
    words = tokenizer()
    for task in ("tpo", "quality", "coursera", "sci_fi", "topic_retrieval_longchat"):
        assert leval.prompt(words, task, "D", "Q") == "D \nQ: Q \nA:"
    assert leval.prompt(words, "gsm100", "D", "Q") == leval.prompt(words, "codeU", "D", "Q") == "D\n\nQ"
    assert leval.prompt_in_fact(words, "Q").startswith("QPlease directly answer")


def test_a_template_that_knows_no_system_gets_it_from_the_user():
    asked = leval.prompt(chatting(NO_SYSTEM), "codeU", "D", "Q")
    assert asked.startswith("<user>Now you are given a code base")
    assert asked.endswith("answer the question.D\n\nQ</user><assistant>")
    with pytest.raises(RopextError, match="chat template cannot put a question: never"):
        leval.prompt(chatting("{{ raise_exception('never') }}"), "tpo", "D", "Q")


# Cuts


@pytest.mark.parametrize("keeps_end", [False, True])
@pytest.mark.parametrize("room", [260, 1000, 1400])
def test_documents_are_cut_by_the_published_steps(room, keeps_end):
    text = " ".join(f"w{n}" + "!" * (n % 3) for n in range(1500))

    def tokens(part):
        return len(part.replace("!", " !").split())

    expected, cut = text, 0
    while tokens(expected) > room:
        pieces = text.split(" ")
        expected = " ".join(pieces[cut - room :] if keeps_end else pieces[: room - cut])
        cut += 250
    assert leval.fit(text, room, lambda part: tokens(part) <= room, keeps_end=keeps_end) == expected
    assert tokens(expected) <= room < tokens(text)
    assert len(expected) > 0
    assert leval.fit(text, 4000, lambda part: tokens(part) <= 4000) == text


def test_nothing_is_kept_of_what_cannot_be_cut():
    assert leval.fit("x" * 5000, 1000, lambda part: len(part) <= 1000) == ""


@pytest.mark.parametrize("words", [tokenizer(), chatting(), chatting(made=word_tokenizer)])
@pytest.mark.parametrize("task", TASKS)
def test_prompt_and_answer_fit_the_length(task, words):
    text = " ".join(f"Sentence {n} is about {n * n} stones." for n in range(900))
    documents = [leval.Document(text, (("Short?", "A"), ("Rather longer than that?", "B")), "x:1")]
    found = list(leval.runs(words, task, documents, 4096))
    assert [each.number for each in found] == [0, 1]
    assert found[0].text == found[1].text != text
    assert (text.endswith if task == "codeU" else text.startswith)(found[0].text)
    sizes = [leval._tokens(words, leval.prompt(words, task, each.text, each.question)) for each in found]
    assert 4096 - 512 - 3000 < sizes[0] < sizes[1] <= 4096 - 512
    assert {each.text for each in leval.runs(words, task, documents, 40_000)} == {text}


def test_a_length_without_room_is_refused():
    documents = [leval.Document("Some words of a document.", (("What?", "A"),), "tpo.jsonl:3")]
    for length in (300, 540):
        with pytest.raises(UsageError, match=rf"tpo: {length} tokens leave no room for tpo\.jsonl:3"):
            list(leval.runs(tokenizer(), "tpo", documents, length))


def test_special_tokens_are_there_once(tiny_llama, monkeypatch):
    words = word_tokenizer()
    assert leval._tokens(words, "one two") == 3
    words.chat_template = "[BOS]" + CHAT
    assert leval._tokens(words, "[BOS] one two") == len(words.tokenize("[BOS] one two"))
    words.save_pretrained(tiny_llama)
    model = SwitchableModel(tiny_llama)
    given = []
    monkeypatch.setattr(model.model, "generate", lambda ids, **how: given.append(ids[0].tolist()) or ids)
    for special in (True, False):
        model.continuation("one two", 5, special_tokens=special)
    assert given == [[1, 0, 0], [0, 0]]


@pytest.mark.parametrize("words", [tokenizer(), chatting()])
def test_a_story_is_asked_about_twice(words):
    asked = []

    class Model:
        tokenizer = words

        def continuation(self, text, new_tokens, *, special_tokens):
            asked.append((text, new_tokens, special_tokens))
            return " True."

    (one,) = leval.runs(words, "sci_fi", [leval.Document("D", (("Q", "True [fact: False]"),), "x:1")], 4096)
    found = one.measure(Model())
    special = words.chat_template is None
    assert asked == [
        (leval.prompt(words, "sci_fi", "D", "Q"), 512, special),
        (leval.prompt_in_fact(words, "Q"), 512, special),
    ]
    assert (found["prediction"], found["score"]) == (" True. [fact:  True.]", 0.5)


# Scores


@pytest.mark.parametrize(
    ("task", "prediction", "answer", "expected"),
    [
        ("tpo", "C", "C", 1),
        ("tpo", " C. the third", "C", 1),  # the first such letter
        ("tpo", "Because of C", "C", 0),  # which is that of Because
        ("tpo", "AB", "A", 0),  # nothing but letters, in order: as they are
        ("tpo", "AC", "A", 1),
        ("tpo", "the first one", "A", 1),  # no letter is A
        ("tpo", " \n", "A", 0),  # but silence is not
        ("quality", "B", "(B) Mira", 1),
        ("quality", "(A) Jon", "(B) Mira", 0),
        ("quality", "B", "(B) A Door", 1),
        ("coursera", "ABD", "ABD", 1),
        ("coursera", "DAB", "ABD", 1),
        ("coursera", "AB. C. too", "AB", 1),  # several at the start are all
        ("coursera", "A, B and D.", "ABD", 1),
        ("coursera", "A, B, D", "ABD", 0.25),  # after B and D there is no space, point or bracket
        ("coursera", "A. trees\nB. ferns", "AB", 1),
        ("coursera", "B) ferns", "AB", 0.25),
        ("coursera", "AC", "AB", 0),
        ("coursera", "B. ferns Question 2. C. mosses", "B", 1),
        ("coursera", "It is:BA", "AB", 0.25),  # a run that is found last is not sorted
        ("coursera", "no idea", "AB", 0.25),
        ("gsm100", "So 2 + 3 = 5.\nThe answer is 5", "5", 1),
        ("gsm100", "The answer is $1,205.75 now. The answer is 3", "1205", 1),
        ("gsm100", "It takes 4 days, so 5 eggs", "5", 1),
        ("gsm100", "It takes 5 days\n\nor 6", "5", 1),  # the first paragraph
        ("gsm100", "The answer is five", "5", 0),
        ("gsm100", "no number", "5", 0),
        ("codeU", "The sums of each row: `[1, 2]`.", "[1 2]", 1),
        ("codeU", "It is\n[[1, 2],\n [3, 4]]", "[[1 2][3 4]]", 1),
        ("codeU", "Then the final output of the code is [1, 2] as f returns a list", "[1 2]", 1),
        ("codeU", "it began as [1, 2] and then came 3 more", "[1 2]", 0),  # the last five words
        ("codeU", "It gives [[1, 2], [3, 4]] as it should", "[[1 2][3 4]]", 1),  # the last six
        ("codeU", "the A", "A", 1),
        ("codeU", "a value of 1.0", "1", 1),
        ("codeU", "12", "2", 0),  # numbers alone are compared as such
        ("codeU", "it gives 12", "2", 1),
        ("sci_fi", "True [fact: False]", "True [fact: False]", 1),
        ("sci_fi", "true, by the story [fact: That is True.]", "True [fact: False]", 0.5),
        ("sci_fi", "It is untrue, so False [fact: no]", "True [fact: False]", 0.5),
        ("sci_fi", "True/False [fact: False]", "True [fact: False]", 1),
        ("sci_fi", "[fact: False]", "False [fact: True]", 0),
        ("topic_retrieval_longchat", 'The first topic was "the price of tea."', "The price of tea", 1),
        ("topic_retrieval_longchat", "The  price of tea", "The price of tea", 1),
        ("topic_retrieval_longchat", "The price of coffee", "The price of tea", 0),
    ],
)
def test_scores_are_the_published_ones(task, prediction, answer, expected):
    assert score(task, prediction, answer) == expected


# Files


def test_files_are_read_line_by_line(data):
    files, left_out = leval.find(None, data)
    documents, digest = leval.read(files)
    assert (list(documents), left_out) == (TASKS, [])
    assert [len(each.questions) for each in documents["tpo"]] == [2, 1]
    assert documents["quality"][0].questions[0][1] == "(B) Mira"
    assert len(digest) == 64
    write(data / "tpo.jsonl", LINES["tpo"][:1])
    assert leval.read(files)[1] != digest


def test_a_line_separator_of_unicode_ends_no_line(tmp_path):
    file = tmp_path / "tpo.jsonl"
    line = {"input": "one\u2028two", "instructions": ["Q"], "outputs": ["A"], "evaluation": "exam"}
    file.write_text(json.dumps(line, ensure_ascii=False) + "\n\n", encoding="utf-8")
    ((document,),) = leval.read({"tpo": file})[0].values()
    assert document.text == "one\u2028two"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", r"sci_fi\.jsonl:2: not valid JSON"),
        ('{"input": "x", "instructions": ["a"]}', r"sci_fi\.jsonl:2: is no line of L-Eval"),
        ('{"input": "x", "instructions": ["a", "b"], "outputs": ["c"]}', r"sci_fi\.jsonl:2: 2 `instructions`"),
        ('{"input": "x", "instructions": ["a"], "outputs": [" "]}', r"sci_fi\.jsonl:2: is no line of L-Eval"),
        ('{"input": "x", "instructions": ["a"], "outputs": ["True"]}', r"sci_fi\.jsonl:2: answers are not of the form"),
        (
            '{"input": "x", "instructions": ["a"], "outputs": ["c"], "evaluation": "rouge"}',
            r"sci_fi\.jsonl:2: is evaluated by 'rouge'",
        ),
    ],
)
def test_a_line_of_another_form_is_refused(line, message, data):
    file = data / "sci_fi.jsonl"
    file.write_text(file.read_text().splitlines()[0] + "\n" + line)
    with pytest.raises(RopextError, match=message):
        leval.read({"sci_fi": file})


def test_files_that_are_not_there_are_named(data):
    (data / "tpo.jsonl").unlink()
    (data / "codeU.jsonl").unlink()
    files, left_out = leval.find(None, data)
    assert left_out == ["tpo", "codeU"]
    assert "tpo" not in files
    with pytest.raises(UsageError, match=r"holds no tpo\.jsonl; give by --data .*LEval-data/Closed-ended-tasks"):
        leval.find(["quality", "tpo"], data)
    with pytest.raises(UsageError, match="did you mean 'quality'"):
        leval.find(["qualty"], data)
    with pytest.raises(UsageError, match=r"holds no tpo\.jsonl, quality\.jsonl"):
        leval.find(None, data.parent)
    (data / "tpo.jsonl").write_text("\n")
    with pytest.raises(RopextError, match=r"tpo\.jsonl: is empty"):
        leval.read({"tpo": data / "tpo.jsonl"})
    (data / "tpo.jsonl").write_bytes(b"\xff")
    with pytest.raises(UsageError, match=r"tpo\.jsonl: is not UTF-8"):
        leval.read({"tpo": data / "tpo.jsonl"})


def test_without_a_folder_the_hub_is_asked(data, monkeypatch):
    asked = []

    def download(repository, name, *, repo_type):
        asked.append((repository, name, repo_type))
        if "sci_fi" in name:
            raise LocalEntryNotFoundError("not here")
        return str(data / name.rpartition("/")[2])

    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    assert leval.find(["gsm100"], None) == ({"gsm100": data / "gsm100.jsonl"}, [])
    assert asked == [("L4NLP/LEval", "LEval/Exam/gsm100.jsonl", "dataset")]
    with pytest.raises(RopextError, match=r"sci_fi\.jsonl: the Hub does not give it, .*give by --data"):
        leval.find(None, None)


# Runs


@pytest.fixture
def folder(tiny_llama, monkeypatch):
    monkeypatch.setattr(leval, "NEW_TOKENS", 4)
    return with_tokenizer(tiny_llama)


def results(file):
    first, *rest = map(json.loads, file.read_text().splitlines())
    return first["settings"], [each["value"] for each in rest]


def test_base_preset_and_report(folder, data, tiny_preset, tmp_path):
    (data / "quality.jsonl").unlink()
    out = tmp_path / "results"
    command = ["eval", "leval", folder, "-p", tiny_preset, "--data", data, "-l", "2k,4k", "-o", out]
    assert "quality is left out" in run(*command, "--samples", 1).stderr
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
    assert "Tasks by tiny-dpe, percent" in report
    assert "| topic_retrieval_longchat |" in report
    assert "RULER" not in report
    write(data / "tpo.jsonl", LINES["tpo"][:1])
    assert "data_sha256" in run(*command, "--resume", status=2).stderr


def test_what_is_converted_answers_as_in_place(folder, data, tiny_preset, tmp_path):
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


def test_wrong_usage_is_said(folder, data, tmp_path):
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


def test_questions_about_one_document_are_not_independent(tmp_path):
    rng = np.random.default_rng(1)
    documents = {"tpo": [0, 0, 0, 1, 1, 2], "gsm100": [0, 1, 2, 3]}
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
    assert (estimate.value, estimate.count) == (pytest.approx(np.mean(mean)), 10)
    margin = summary.student(freedom) * np.sqrt(square) / 2
    assert estimate.high - estimate.value == pytest.approx(margin)
    assert summary.estimate(average, experiment, "p", 4096).low is None
    assert summary.estimate(difference, experiment, "p", 4096, "gsm100").count == 4
    every = run("report", file, "--format", "csv").stdout
    assert sum("score_difference" in line for line in every.splitlines()) == 3
