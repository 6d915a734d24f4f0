"""RULER's prompts are the published ones, of the length asked for and the same everywhere; so are its metrics."""

import json
import re
from importlib.util import find_spec
from pathlib import Path

import pytest

from ropext.converter.errors import UsageError
from ropext.converter.evaluation.tasks import ruler, ruler_needles, ruler_questions, ruler_variables, ruler_words
from ropext.converter.evaluation.tasks.ruler_fitting import Setting, fit
from tests.helpers import ruler_inputs

PUBLISHED = Path(__file__).parents[2] / "data" / "ruler" / "published.json"
TASKS = list(ruler.TASKS)


@pytest.fixture(scope="module")
def tokenizer():
    return ruler_inputs.word_tokenizer()


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ruler")
    return {
        "text": ruler_inputs.prose(),
        "squad": ruler_inputs.squad(folder / "squad.json"),
        "hotpotqa": ruler_inputs.hotpotqa(folder / "hotpotqa.json"),
    }


def count(tokenizer, text):
    return len(tokenizer(text, add_special_tokens=False).input_ids)


@pytest.mark.parametrize("task", TASKS)
def test_prompts_are_the_published_generators(task, tokenizer, inputs):
    published = json.loads(PUBLISHED.read_text())[task]
    examples = ruler.generate(task, tokenizer, ruler_inputs.LENGTH, len(published), **inputs)
    assert [ruler_inputs.digest(each.prompt, each.answers) for each in examples] == published


@pytest.mark.parametrize("length", [2048, 8192])
@pytest.mark.parametrize("task", TASKS)
def test_prompts_fill_the_length(task, length, tokenizer, inputs):
    room = length if task == "fwe" else length - ruler.TASKS[task].new_tokens
    for example in ruler.generate(task, tokenizer, length, 2, **inputs):
        assert example.tokens == count(tokenizer, example.prompt)
        assert 0.75 * room <= example.tokens <= room


@pytest.mark.parametrize("task", TASKS)
def test_the_text_holds_the_answers_and_asks_for_them(task, tokenizer, inputs):
    for example in ruler.generate(task, tokenizer, 2048, 3, **inputs):
        question = max(example.prompt.rfind(start) for start in ("\nWhat ", "\nQuestion: "))
        assert all(answer in example.prompt[:question] for answer in example.answers)
        assert re.search(r"( (is|are):? ?|Answer:)$", example.prompt)


@pytest.mark.parametrize("task", TASKS)
def test_examples_depend_on_the_seed_and_not_on_how_many(task, tokenizer, inputs):
    two, three = (ruler.generate(task, tokenizer, 2048, number, seed=7, **inputs) for number in (2, 3))
    assert two == three[:2]
    assert len({example.prompt for example in three}) == 3
    assert ruler.generate(task, tokenizer, 2048, 2, seed=8, **inputs) != two


def test_parameters_are_the_published_ones():
    needles = {
        name: (p.haystack, p.key, p.value, p.keys, p.values, p.queries)
        for name, p in ((name, ruler.TASKS[name].parameters) for name in TASKS if name.startswith("niah"))
    }
    assert needles == {
        "niah_single_1": ("noise", "words", "numbers", 1, 1, 1),
        "niah_single_2": ("essay", "words", "numbers", 1, 1, 1),
        "niah_single_3": ("essay", "words", "uuids", 1, 1, 1),
        "niah_multikey_1": ("essay", "words", "numbers", 4, 1, 1),
        "niah_multikey_2": ("needle", "words", "numbers", 1, 1, 1),
        "niah_multikey_3": ("needle", "uuids", "uuids", 1, 1, 1),
        "niah_multivalue": ("essay", "words", "numbers", 1, 4, 1),
        "niah_multiquery": ("essay", "words", "numbers", 1, 1, 4),
    }
    assert ruler.TASKS["vt"].parameters == ruler_variables.Variables(chains=1, hops=4)
    assert ruler.TASKS["cwe"].parameters == ruler_words.CommonWords(common_repeats=30, other_repeats=3, common=10)
    assert ruler.TASKS["fwe"].parameters == ruler_words.FrequentWords(letters=6)
    assert [ruler.TASKS[name].parameters.dataset for name in ("qa_1", "qa_2")] == ["squad", "hotpotqa"]
    assert [ruler.TASKS[name].new_tokens for name in TASKS] == [128] * 8 + [30, 120, 50, 32, 32]
    assert [name for name in TASKS if ruler.TASKS[name].metric == "part"] == ["qa_1", "qa_2"]


@pytest.mark.parametrize(
    ("task", "keys", "values"),
    [("niah_single_1", 1, 1), ("niah_multikey_1", 4, 1), ("niah_multivalue", 1, 4), ("niah_multiquery", 4, 1)],
)
def test_so_many_needles_are_hidden(task, keys, values, tokenizer, inputs):
    (example,) = ruler.generate(task, tokenizer, 2048, 1, **inputs)
    found = re.findall(r"One of the special magic numbers for (\S+) is: (\d{7})\.", example.prompt)
    assert len(found) == keys * values
    assert len(dict(found)) == keys
    assert {value for key, value in found if f"for {key}" in example.prompt[-600:] or keys == 4} >= set(example.answers)
    assert len(example.answers) == {"niah_multivalue": 4, "niah_multiquery": 4}.get(task, 1)


def test_common_words_are_common(tokenizer):
    (example,) = ruler.generate("cwe", tokenizer, 4096, 1)
    _, listed = re.findall(r"appear most often\.\n(.*)\nQuestion", example.prompt)
    words = re.split(r" ?\d+\. ", listed)[1:]
    assert {word: words.count(word) for word in set(words)} == {
        word: 30 if word in example.answers else 3 for word in set(words)
    }


def test_frequent_words_are_the_most_frequent(tokenizer):
    (example,) = ruler.generate("fwe", tokenizer, 4096, 1)
    coded = re.findall(r"coded words\. (.*)\nQuestion", example.prompt)[0].split()
    assert sorted(set(coded), key=coded.count, reverse=True)[:4] == ["...", *example.answers]


def test_prose_that_is_too_short_is_repeated(tokenizer):
    (example,) = ruler.generate("niah_single_2", tokenizer, 4096, 1, text="One sentence is here. And another one.")
    assert example.tokens > 3300
    assert example.prompt.count("And another one.") > 100


def test_the_template_goes_around_the_task_and_the_answer_begins_after_it(tokenizer, inputs):
    for task in TASKS:
        (example,) = ruler.generate(task, tokenizer, 2048, 1, template="<user> {task} <model>", **inputs)
        assert example.prompt.startswith("<user> ")
        before, answer = example.prompt.rsplit(" <model>", 1)
        assert re.search(r"( (is|are):? ?|Answer:)$", answer)
        assert not before.endswith("{task}")


def test_keys_are_the_sorted_pairs_without_making_them():
    adjectives, nouns = ["all", "all-around", "bad", "allowed", "bad"], ["zebra", "apple", "man", "all", "man"]
    keys = ruler_needles._Keys(adjectives, nouns)
    assert list(keys) == keys[:] == sorted({f"{a}-{n}" for a in adjectives for n in nouns})
    assert keys[-1] == "bad-zebra"


@pytest.mark.parametrize("most", [None, 35])
def test_not_counting_short_texts_changes_nothing(most):
    class Counter:
        def __call__(self, text, add_special_tokens):
            self.input_ids = range(len(text) // 3)
            return self

    def every(room):
        units, tokens = 10, 0
        while tokens < room:
            tokens = 7 * units // 3
            if tokens > room:
                return units - 10
            units += 10
            if most and units > most:
                return most
        return units

    for room in range(1, 3000, 7):
        setting = Setting(Counter(), 0, 0, 0)
        assert fit(lambda units: "x" * (7 * units), setting, 10, room, most) == every(room)


@pytest.mark.parametrize("task", ["qa_1", "qa_2"])
def test_a_task_without_its_file_is_refused_by_name(task, tokenizer):
    file = {"qa_1": "dev-v2.0.json", "qa_2": "hotpot_dev_distractor_v1.json"}[task]
    assert file in ruler.missing(task)
    with pytest.raises(UsageError, match=rf"{task}: needs a file that is not here: {file}"):
        ruler.generate(task, tokenizer, 4096, 1)
    assert [name for name in TASKS if ruler.missing(name)] == ["qa_1", "qa_2"]


def test_a_file_of_another_form_is_refused(tokenizer, tmp_path, inputs):
    file = tmp_path / "dev.json"
    for content in ("{", "[]", '{"data": [{"title": "x"}]}', '{"data": []}'):
        file.write_text(content)
        ruler_questions._read.cache_clear()
        with pytest.raises(UsageError, match=r"dev\.json: (is not|holds no)"):
            ruler.generate("qa_1", tokenizer, 4096, 1, squad=file)
    with pytest.raises(UsageError, match=r"gone\.json: cannot be read"):
        ruler.generate("qa_2", tokenizer, 4096, 1, hotpotqa=tmp_path / "gone.json")
    with pytest.raises(UsageError, match="has 40 questions"):
        ruler.generate("qa_2", tokenizer, 4096, 41, **inputs)


def test_documents_that_all_fit_are_all_there(tokenizer, inputs):
    examples = ruler.generate("qa_1", tokenizer, 60000, 3, **inputs)
    for i, example in enumerate(examples):
        assert example.prompt.count("\nDocument ") == 400
        assert all(answer in example.prompt for answer in example.answers), i
    assert len({example.answers for example in examples}) == 3


@pytest.mark.parametrize("task", TASKS)
def test_a_length_without_room_is_refused(task, tokenizer, inputs):
    for length in (8, 40):
        with pytest.raises(UsageError, match=f"{task}: {length} tokens are too few; choose a longer length"):
            ruler.generate(task, tokenizer, length, 1, **inputs)
    least = next(length for length in range(40, 2048, 8) if _fits(task, tokenizer, length, inputs))
    assert ruler.generate(task, tokenizer, least, 1, **inputs)[0].tokens <= least


def _fits(task, tokenizer, length, inputs):
    try:
        return bool(ruler.generate(task, tokenizer, length, 1, **inputs))
    except UsageError:
        return False


def test_what_is_wrong_is_said(tokenizer, monkeypatch):
    with pytest.raises(UsageError, match="did you mean 'niah_single_1'"):
        ruler.generate("niah_single1", tokenizer, 4096, 1)
    with pytest.raises(UsageError, match=r"has no \{task\}"):
        ruler.generate("vt", tokenizer, 4096, 1, template="[INST]")
    monkeypatch.setattr(ruler_words, "find_spec", lambda name: None)
    with pytest.raises(
        UsageError, match="cwe: needs words of a package that is not installed: pip install 'wonderwords"
    ):
        ruler.generate("cwe", tokenizer, 4096, 1)
    assert [name for name in TASKS if not ruler.missing(name)] == ["niah_multikey_3", "vt", "fwe"]


def test_words_are_those_that_the_prompts_were_compared_with():
    assert find_spec("wonderwords")
    assert [len(set(words())) for words in (ruler_words.nouns, ruler_words.adjectives, ruler_words.verbs)] == (
        [6782, 910, 1041]
    )


def test_metrics_are_the_published_ones():
    predictions = ["It is ABC and xyz.", "nothing", "one two"]
    references = [["abc", "xyz"], ["abc"], ["two", "three", "four"]]
    assert ruler.string_match_all(predictions, references) == round((1 + 0 + 1 / 3) / 3 * 100, 2) == 44.44
    assert ruler.string_match_part(predictions, references) == 66.67
    assert ruler.score("niah_multivalue", predictions, references) == 44.44
    assert ruler.score("qa_1", predictions, references) == 66.67
    assert [ruler.match("vt", *each) for each in zip(predictions, references, strict=True)] == [1, 0, 1 / 3]
    assert [ruler.match("qa_2", *each) for each in zip(predictions, references, strict=True)] == [1, 0, 1]
    with pytest.raises(ValueError, match="1 predictions and 3 references"):
        ruler.score("vt", ["x"], references)
    with pytest.raises(ValueError, match="0 predictions"):
        ruler.score("vt", [], [])


def test_control_characters_are_line_ends():
    assert ruler.score("vt", ["\x00A\tB \n"], [["A\nB"]]) == 100


def test_the_summary_is_the_published_tables():
    # GPT-4-1106-preview, in the publication's table.
    averages = dict(zip(ruler.LENGTHS, (96.6, 96.3, 95.2, 93.2, 87.0, 81.2), strict=True))
    summary = ruler.summarize({length: dict.fromkeys(TASKS, average) for length, average in averages.items()})
    assert summary.averages == pytest.approx(averages)
    numbers = (summary.average, summary.increasing, summary.decreasing)
    assert [round(number, 1) for number in numbers] == [91.6, 89.0, 94.1]
    assert summary.left_out == ()
    assert ruler.effective_length(summary) == 65536


def test_a_summary_names_the_tasks_that_it_lacks():
    summary = ruler.summarize({4096: {"vt": 80.0, "cwe": 90.0}, 8192: {"vt": 50.0}})
    assert summary.averages == {4096: 85.0, 8192: 50.0}
    assert summary.left_out == tuple(task for task in TASKS if task != "vt")
    assert ruler.effective_length(summary) is None
