"""RULER by a chat template, with and without a thought before the answer."""

import pytest

from ropext.converter.errors import UsageError
from ropext.converter.evaluation.tasks.benchmark import chat_prompt
from ropext.converter.evaluation.tasks.items import make_task
from ropext.converter.evaluation.tasks.ruler import TASKS
from ropext.converter.evaluation.tasks.ruler_chat import chat_of
from tests.helpers.asked import tokenizer, with_tokenizer
from tests.helpers.measured import answered, results, write

PLAIN = "<u>{{ messages[0].content }}</u><a>"
THINKS = PLAIN + "{% if enable_thinking is defined and not enable_thinking %}<think>\n\n</think>\n\n{% endif %}"
"""As Qwen3's template has it."""


def chatting(template):
    made = tokenizer()
    made.chat_template = template
    return made


class Model:
    """Writes what it is told to, one text a call, and keeps what it was given."""

    def __init__(self, *texts):
        self.texts, self.given = list(texts), []

    def continuation(self, text, new_tokens, *, special_tokens=True):
        self.given.append((text, new_tokens, special_tokens))
        return self.texts[len(self.given) - 1]


def run_of(words, **settings):
    made = make_task("ruler", 1, 0, {"tasks": ["niah_single_1"], **settings})
    (item,) = made.items(words, 2500)
    return made, item


def test_a_task_is_put_by_the_template_and_the_answer_begun_after_it():
    made, item = run_of(chatting(THINKS), chat=True)
    prompt = item.example.prompt
    assert prompt.startswith("<u>")
    assert "</u><a><think>\n\n</think>\n\n The special magic number" in prompt  # told not to think
    assert len(prompt) + TASKS["niah_single_1"].new_tokens <= 2500
    model = Model("42")
    assert item.measure(model)["prediction"] == "42"
    assert model.given == [(prompt, 128, False)]
    assert made.settings["chat"] is True
    assert run_of(tokenizer())[0].settings["chat"] is None


def test_a_thought_that_ends_is_followed_by_the_answer():
    made, item = run_of(chatting(THINKS), thinking=300)
    assert len(item.example.prompt) + 128 + 300 + len("</think>\n\n") <= 2500
    model = Model("I look.\n</think>\n\nIt is so", f" {item.example.answers[0]}")
    value = item.measure(model)
    (asked, budget, special), (again, new, _) = model.given
    assert asked.endswith("</u><a>")
    assert (budget, special, new) == (300, False, 128)
    assert again.startswith(f"{asked}I look.\n</think>\n\nThe special magic number")
    assert (value["thought"], value["thought_ended"], value["score"]) == ("I look.\n", True, 1.0)
    assert (made.settings["chat"], made.settings["thinking"]) == (True, 300)


def test_a_thought_without_end_is_ended():
    _, item = run_of(chatting(THINKS), thinking="100")
    model = Model("I look and look", "nothing")
    value = item.measure(model)
    assert model.given[1][0].startswith(f"{model.given[0][0]}I look and look</think>\n\nThe special magic")
    assert (value["thought_ended"], value["score"]) == (False, 0.0)


@pytest.mark.parametrize(
    ("template", "settings", "message"),
    [
        (None, {"chat": True}, "--chat: the tokenizer has no chat template"),
        (PLAIN, {"thinking": 100}, "--thinking: the chat template does not show how a thought ends"),
        (PLAIN + "{% if enable_thinking %}!{% endif %}", {"thinking": 100}, "does not show how a thought ends"),
        (THINKS, {"thinking": 2500}, "--thinking 2500: leaves nothing of 2500 tokens"),
        (THINKS.replace("think>", "s>"), {"thinking": 100}, "</s> is a special token"),
    ],
)
def test_what_a_template_cannot_do_is_refused(template, settings, message):
    with pytest.raises(UsageError, match=message):
        run_of(chatting(template), **settings)


ALWAYS = PLAIN + "{{ '<think>\\n' }}"
"""As templates of models that cannot be told not to think end."""


def test_a_thought_that_a_template_begins_is_ended_where_the_model_is_not_to_think():
    _, item = run_of(chatting(ALWAYS), chat=True)
    assert "</u><a><think>\n\n</think>\n\n The special magic number" in item.example.prompt
    assert chat_prompt(chatting(ALWAYS), "x") == "<u>x</u><a><think>\n\n</think>\n\n"
    assert chat_prompt(chatting(PLAIN + "<u>"), "x") == "<u>x</u><a><u>"  # no thought
    _, item = run_of(chatting(ALWAYS), thinking=100)
    model = Model("I look.</think> So", item.example.answers[0])
    assert item.measure(model)["score"] == 1.0
    assert model.given[0][0].endswith("</u><a><think>\n")
    assert "<think>\nI look.</think>\n\nThe special magic" in model.given[1][0]


def test_thoughts_that_did_not_end_are_said(run, tmp_path):
    values = [
        {**answered(name, 4096, seed, "vt", 1.0), "thought_ended": name is None or seed != 1}
        for name in (None, "a")
        for seed in range(3)
    ]
    shown = run("report", write(tmp_path / "ruler.jsonl", "ruler", values)).stdout
    assert "a: 1 of 3 thoughts were cut at the tokens of --thinking" in shown
    assert "base: " not in shown.partition("thoughts")[0].splitlines()[-1]


def test_a_template_without_thinking_puts_a_task_all_the_same():
    assert chat_of(chatting(PLAIN)).template == "<u>{task}</u><a>"


def test_it_runs(run, tiny_llama, tmp_path):
    with_tokenizer(tiny_llama)
    chatting(THINKS).save_pretrained(tiny_llama)
    run("eval", "ruler", tiny_llama, "-l", 2500, "--tasks", "niah_single_1", "-n", 1, "--thinking", 8, "--no-short")
    settings, (value,) = results(tmp_path / "results" / tiny_llama.name / "ruler.jsonl")
    assert settings["thinking"] == 8
    assert len(value["thought"]) <= 8
    assert "thinking 8" in run("report", "results").stdout
