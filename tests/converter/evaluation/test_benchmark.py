"""What benchmarks of files have in common: messages about their files, chat templates, cuts in the middle."""

import hashlib
import json

import pytest

from ropext.converter.errors import RopextError, UsageError
from ropext.converter.evaluation.tasks.benchmark import Wording, chat_prompt, cut_end, cut_middle
from ropext.converter.evaluation.tasks.benchmark_files import documents, files_of, read_chosen, read_records
from tests.helpers.asked import tokenizer
from tests.helpers.leval_files import NO_SYSTEM, chatting
from tests.helpers.ruler_inputs import word_tokenizer

DOWNLOAD = "get it from example.org"


def test_records_are_read_from_lines_and_from_a_list(tmp_path):
    lines, whole = tmp_path / "a.jsonl", tmp_path / "a.json"
    lines.write_text('{"x": "1"}\n\n{"x": "2\u2028"}\n', encoding="utf-8")
    whole.write_text(json.dumps([{"x": "1"}, {"x": "2\u2028"}], indent=1))
    for file, places in ((lines, ("a.jsonl:1", "a.jsonl:3")), (whole, ("a.json: record 1", "a.json: record 2"))):
        records, digest = read_records(file, DOWNLOAD)
        assert [record.text("x") for record in records] == ["1", "2\u2028"]
        assert [record.place for record in records] == [str(tmp_path / place) for place in places]
        assert len(digest) == 64


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", r"a\.jsonl: is empty; get it from"),
        ("[]", r"a\.jsonl: is empty; get it from"),
        ('{"x": 1}\n{"x', r"a\.jsonl:2: not valid JSON: .*get it from"),
        ('[{"x": 1}, 3]', r"a\.jsonl: record 2: is no JSON object"),
        ('{"x": 1}\n[1]', r"a\.jsonl:2: is no JSON object"),
        ("[" * 99_999, r"a\.jsonl: not valid JSON"),
    ],
)
def test_a_file_of_another_form_is_refused(content, message, tmp_path):
    file = tmp_path / "a.jsonl"
    file.write_text(content)
    with pytest.raises(RopextError, match=message):
        read_records(file, DOWNLOAD)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({}, "`x` is missing; the file is of another form: get it from"),
        ({"x": 3}, "`x` is not a text"),
        ({"x": "\ud800"}, "`x` is not a text"),
    ],
)
def test_a_field_that_is_not_there_is_named_with_its_line(fields, message, tmp_path):
    file = tmp_path / "a.jsonl"
    file.write_text(json.dumps(fields))
    (record,), _ = read_records(file, DOWNLOAD)
    with pytest.raises(RopextError, match=rf"a\.jsonl:1: {message}"):
        record.text("x")


def test_lists_and_choices_are_checked(tmp_path):
    file = tmp_path / "a.jsonl"
    file.write_text('{"x": ["a", "b"], "y": "B", "z": []}')
    (record,), _ = read_records(file, DOWNLOAD)
    assert record.texts("x") == record.texts("x", 2) == ["a", "b"]
    assert record.one_of("y", "AB") == "B"
    with pytest.raises(RopextError, match="`y` is not one of A, C"):
        record.one_of("y", "AC")
    for wrong in (lambda: record.texts("x", 4), lambda: record.texts("z"), lambda: record.one_of("x", "AB")):
        with pytest.raises(RopextError, match=r"`[xz]` is not (a list of|one of)"):
            wrong()


def test_what_is_missing_is_named_with_what_to_do(tmp_path):
    there, gone = tmp_path / "there.jsonl", tmp_path / "gone.jsonl"
    there.write_text("{}")
    files = {"a": [there], "b": [there, gone], "c": [there]}
    with pytest.raises(UsageError) as refused:
        files_of(files, "Bench", DOWNLOAD, named=False)
    assert str(refused.value).split("\n") == [
        "Bench cannot be run whole here", f"b: there is no {gone}", DOWNLOAD, "or name what you want: --tasks a,c",
    ]  # fmt: skip
    with pytest.raises(UsageError, match=rf"^b: there is no .*gone\.jsonl\n{DOWNLOAD}$"):
        files_of({"b": [gone]}, "Bench", DOWNLOAD, named=True)
    files_of({"a": [there]}, "Bench", DOWNLOAD, named=False)


def test_texts_that_come_again_have_one_number():
    assert documents(["a", "b", "a", "c", "b"]) == [0, 1, 0, 3, 1]


def test_a_model_that_can_think_is_told_not_to():
    words = chatting("{{ messages[0].content }}{% if enable_thinking is false %}<think></think>{% endif %}")
    assert chat_prompt(words, "Q") == "Q<think></think>"


def test_the_way_to_ask_follows_the_template_unless_told():
    bare, chat = tokenizer(), chatting()
    assert Wording.of(bare, None).put("Q") == Wording.of(chat, False).put("Q") == "Q"
    assert Wording.of(chat, None, "S").put("Q") == "<system>S</system><user>Q</user><assistant>"
    assert Wording.of(chatting(NO_SYSTEM), True, "S ").put("Q") == "<user>S Q</user><assistant>"
    assert Wording.of(word_tokenizer(), None).count("Q") == 2  # [BOS] begins it
    with pytest.raises(UsageError, match="--chat: the tokenizer has no chat template"):
        Wording.of(bare, True)


@pytest.mark.parametrize("chat", [False, True])
def test_a_cut_keeps_as_many_tokens_of_either_side(chat):
    words = chatting() if chat else tokenizer()
    wording = Wording.of(words, None)
    text = "".join(f"{n:04d}" for n in range(500))
    most = 400
    cut = cut_middle(wording, text, most, around="")
    room = most - wording.count("")
    half = room // 2
    assert cut == text[:half] + text[-half:]
    assert wording.count(cut) in (most, most - 1)
    assert cut_middle(wording, text, 9999, around="") == text
    assert cut_middle(wording, text, most, around="x" * (most // 2 + 1)) == ""  # nothing of the question is cut


def test_a_seam_that_takes_more_tokens_is_counted():
    class Longer:
        """Puts a text of which a part was cut out with ten tokens more."""

        def __init__(self, inner):
            self.tokenizer, self.inner = inner.tokenizer, inner

        def count(self, text):
            return self.inner.count(text) + (10 if 0 < len(text) < 900 else 0)

    cut = cut_middle(Longer(Wording.of(tokenizer(), None)), "x" * 1000, 300, around="")
    assert len(cut) == 290


@pytest.mark.parametrize("chat", [False, True])
def test_a_cut_at_the_end_keeps_the_words_around(chat):
    wording = Wording.of(chatting() if chat else tokenizer(), None)
    text = "".join(f"{n:04d}" for n in range(500))

    def put(part):
        return f"Before. {part} After."

    kept = cut_end(wording, put, text, 400)
    assert text.startswith(kept)
    assert wording.count(put(kept)) == 400
    assert cut_end(wording, put, text, 9999) == text
    assert cut_end(wording, put, text, wording.count(put(""))) == ""


def test_a_tokenizer_without_offsets_cuts_by_its_tokens():
    class Slow:
        is_fast = False

        def __init__(self, inner):
            self.inner = inner

        def __call__(self, text, **how):
            assert "return_offsets_mapping" not in how
            return self.inner(text, **how)

        def decode(self, ids, **how):
            return self.inner.decode(ids, **how)

    assert cut_end(Wording(Slow(tokenizer()), False), str, "0123456789", 4) == "0123"


def test_a_few_records_of_a_large_file_are_read(tmp_path):
    file = tmp_path / "a.jsonl"
    file.write_text("".join(f'{{"x": "é{n}"}}\n' + "\n" * (n == 1) for n in range(5)), encoding="utf-8")
    seen = []

    def choose(keys):
        seen.extend(keys)
        return [3, 0]

    records, digest = read_chosen(file, DOWNLOAD, lambda record: record.text("x"), choose)
    assert seen == [f"é{n}" for n in range(5)]
    assert {number: (record.text("x"), record.place) for number, record in records.items()} == {
        3: ("é3", f"{file}:5"), 0: ("é0", f"{file}:1"),
    }  # fmt: skip
    assert (list(records), digest) == ([3, 0], hashlib.sha256(file.read_bytes()).hexdigest())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\n", r"a\.jsonl: is empty; get it from"),
        (b'{"x": 1}\n[1]', r"a\.jsonl:2: is no JSON object"),
        (b'{"x": 1}\n\xff', r"a\.jsonl:2: is not UTF-8 text"),
        (b'{"x": 1}\n{', r"a\.jsonl:2: not valid JSON"),
        (None, r"a\.jsonl: cannot be read: No such file or directory; get it from"),
    ],
)
def test_a_large_file_of_another_form_is_refused(content, message, tmp_path):
    file = tmp_path / "a.jsonl"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(RopextError, match=message):
        read_chosen(file, DOWNLOAD, lambda record: None, lambda keys: [])
