"""L-Eval's closed-ended tasks: the published words around each question, its cuts and its scores."""

import json

import pytest
from huggingface_hub.errors import LocalEntryNotFoundError

from ropext.converter.errors import RopextError, UsageError
from ropext.converter.evaluation.run.transformers_model import SwitchableModel
from ropext.converter.evaluation.tasks import leval
from ropext.converter.evaluation.tasks.leval_scores import score
from tests.helpers.asked import tokenizer
from tests.helpers.leval_files import CHAT, LINES, NO_SYSTEM, chatting, write
from tests.helpers.ruler_inputs import word_tokenizer

TASKS = list(leval.TASKS)
EXAM = (
    "Now you are given a very long document. Please follow the instruction based on this document. For multi-choice "
    "questions, there is only a sinlge correct option. Please only provide the letter corresponding to the answer "
    "(like A or B) when answering. For other questions, please directly give the concise and accurate answer. "
)


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
    files = leval.find(None, data)
    documents, digest = leval.read(files)
    assert list(documents) == TASKS
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
    others = ",".join(task for task in TASKS if task not in ("tpo", "codeU"))
    with pytest.raises(UsageError, match=rf"(?s)whole here\ntpo: .*codeU: .*or name what you want: --tasks {others}$"):
        leval.find(None, data)
    with pytest.raises(UsageError, match=r"tpo: there is no .*\ngive by --data .*LEval-data/Closed-ended-tasks"):
        leval.find(["quality", "tpo"], data)
    with pytest.raises(UsageError, match="did you mean 'quality'"):
        leval.find(["qualty"], data)
    with pytest.raises(UsageError, match=r"(?s)tpo: there is no .*quality: there is no "):
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
    assert leval.find(["gsm100"], None) == {"gsm100": data / "gsm100.jsonl"}
    assert asked == [("L4NLP/LEval", "LEval/Exam/gsm100.jsonl", "dataset")]
    with pytest.raises(RopextError, match=r"sci_fi\.jsonl: the Hub does not give it, .*give by --data"):
        leval.find(None, None)
