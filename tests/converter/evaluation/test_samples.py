"""How much is asked where nobody says it, and what is said of it beforehand."""

import re

import pytest

from ropext.converter.errors import UsageError
from ropext.converter.evaluation.asking import Answer
from ropext.converter.evaluation.report.exact import flipped
from ropext.converter.evaluation.report.results import read_results
from ropext.converter.evaluation.report.statistics import METRICS, estimate
from ropext.converter.evaluation.run.rounds import ask_all
from ropext.converter.evaluation.run.shares import ALONE
from ropext.converter.evaluation.tasks.items import SAMPLES, make_task
from ropext.converter.evaluation.tasks.perplexity import passages, whole_windows
from ropext.converter.evaluation.tasks.texts import Text, load_text
from tests.helpers.asked import tokenizer, with_tokenizer
from tests.helpers.measured import results, write


@pytest.fixture
def folder(tiny_llama):
    return with_tokenizer(tiny_llama)


def test_as_many_texts_as_right_answers_take():
    assert flipped([1.0] * SAMPLES["niah"]) < 0.05 < flipped([1.0] * (SAMPLES["niah"] - 1))
    assert min(SAMPLES.values()) > 2  # Student's interval over two is six times as wide


class Knows:
    """Answers all questions right, or none."""

    def __init__(self, right):
        self.right, self.text = right, ""

    def answers(self, prompt):
        return [Answer(-1.0 if self.right else -9.0, self.right) for _ in prompt.questions]

    def continuation(self, text, new_tokens, *, special_tokens=True):
        return self.text if self.right else ""


@pytest.mark.parametrize(
    ("task", "settings", "length", "prompts"),
    [
        ("passkey", {}, 600, 10),
        ("niah", {"needles": 1}, 900, 6),
        ("ruler", {"tasks": ["niah_single_1"]}, 1500, 6),
        ("ruler", {"tasks": ["niah_single_1", "niah_single_2", "niah_single_3", "niah_multikey_2"]}, 2500, 8),
    ],
)
def test_all_right_against_none_is_resolved_at_one_length(task, settings, length, prompts, tmp_path):
    values = []
    for preset in (None, "tiny-dpe"):
        for item in make_task(task, None, 0, settings).items(tokenizer(), length):
            model = Knows(bool(preset))
            model.text = " ".join(getattr(getattr(item, "example", None), "answers", ()))
            values.append({"preset": preset, "seconds": 1.0, **item.measure(model)})
    (experiment,), _ = read_results([write(tmp_path / f"{task}.jsonl", task, values)])
    compared = METRICS[task][1]
    found = estimate(compared, experiment, "tiny-dpe", length)
    assert (found.value, found.prompts) == (100.0, prompts)
    assert found.differs(compared.neutral)


@pytest.mark.parametrize(("task", "length"), [("niah", 900), ("mixed", 3000), ("ppl", 300)])
def test_so_many_are_asked(task, length):
    settings = {"mixed": {"questions": 1}, "niah": {"needles": 1}}.get(task, {})
    for samples, count in ((None, SAMPLES[task]), (2, 2)):
        made = make_task(task, samples, 0, settings)
        items = list(made.items(tokenizer(), length))
        assert len({item.key for item in items}) == len(items) == count
        assert all(0 < item.size <= 2 * length for item in items)
        assert made.remark(tokenizer(), length) == ""


@pytest.mark.parametrize("stride", [None, 40])
def test_whole_windows_hold_no_word_twice(stride):
    text = Text("x", "", tuple(f"{number:09d}" for number in range(48)))  # 480 tokens
    count = whole_windows(tokenizer(), text, 100, stride)
    assert count == (10 if stride else 4)
    ends = [tokenizer().decode(each.input_ids[1:])[-8:] for each in passages(tokenizer(), text, 100, count, stride)]
    assert len(set(ends)) == count
    whole = list(passages(tokenizer(), text, 100, count + 1, stride))[-1]
    assert "000000000" in tokenizer().decode(whole.input_ids)  # the start again
    assert whole_windows(tokenizer(), text, 481) == 0


def test_a_short_text_gives_fewer_windows_and_says_so():
    words = tokenizer()
    count = sum(len(each) + 1 for each in load_text().half(1).sentences)
    for samples, length, read, said in (
        (None, count // 2, 2, "fills 2 windows; 2 read; give a longer --text"),
        (3, count // 2, 3, "fills 2 windows; 3 read, which repeat it; give"),
    ):
        made = make_task("ppl", samples, 0, {})
        assert len(list(made.items(words, length))) == read
        assert said in made.remark(words, length)


def test_no_perplexity_of_what_a_model_knows_by_heart():
    words = tokenizer()
    count = sum(len(each) + 1 for each in load_text().half(1).sentences)
    with pytest.raises(UsageError, match=r"pydoc_data\.topics is shorter, .* by heart; give a longer --text"):
        make_task("ppl", 1, 0, {}).items(words, count + 1)
    assert "the loss of the text says little" in make_task("mixed", 1, 0, {}).remark(words, count + 1)


def test_the_cost_is_said_before_it_begins(run, folder, tiny_preset, tmp_path):
    asked = ["eval", "niah", folder, "-p", tiny_preset, "--needles", 1, "-l", 900]
    said = run(*asked).stderr
    cost = re.search(r"niah: 12 texts, ([\d,]+) tokens in (.*) or more; fewer by --lengths and --samples", said)
    _, found = results(tmp_path / "results" / folder.name / "niah.jsonl")
    assert int(cost[1].replace(",", "")) == sum(each["tokens"] for each in found)
    assert len(found) == 12
    assert "niah: all was measured before" in run(*asked, "--resume").stderr
    assert "not resolved (n = 6)" in run(*asked, "--resume").stdout


class Judge:
    """Takes a second for four tokens of a short prompt, whatever is asked."""

    class Item:
        def __init__(self, size):
            self.size = size

    items = (Item(4), Item(100), Item(200))

    def key(self, preset, item):
        return f"{preset} {item}"

    def has(self, preset, item):
        return (preset, item) == ("b", 1)

    def result(self, preset, item):
        return {"seconds": {None: 1.0, "b": 2.0}[preset] * self.items[item].size / 4}


def test_what_a_preset_takes_is_judged_by_its_own_short_prompts():
    said = []
    rounds = {"short": range(1), "long": range(1, 3)}
    keys = ask_all(Judge(), (None, "b"), rounds, ALONE, lambda *told: None, said.append)
    assert keys == ["None 0", "b 0", "None 1", "None 2", "b 1", "b 2"]
    seconds = 300 / 4 + 2 * 200 / 4  # nothing of what `b` has measured
    assert said == [f"long: 3 texts, 500 tokens in {seconds / 60:.0f} min or more; fewer by --lengths and --samples"]
