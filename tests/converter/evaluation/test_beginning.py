"""Prompts begin as the model's own training did, whatever its tokenizer puts around a text."""

from types import SimpleNamespace

import pytest
from jinja2 import TemplateError

from ropext.converter.evaluation.asking import beginning, prompt_ids
from ropext.converter.evaluation.tasks.leval import prompt
from ropext.converter.evaluation.tasks.passkey import passkey_prompt
from ropext.converter.evaluation.tasks.perplexity import passages

BOS, EOS, CLS = 1, 2, 3


class Letters:
    """A token a letter, and what stands before and after a text."""

    def __init__(self, before=(), after=()):
        self.before, self.after = list(before), list(after)

    def __call__(self, text, add_special_tokens=True):
        ids = [10 + ord(letter) for letter in text]
        return SimpleNamespace(input_ids=[*self.before, *ids, *self.after] if add_special_tokens else ids)


KINDS = [((BOS,), ()), ((), ()), ((BOS,), (EOS,)), ((), (EOS,)), ((CLS, BOS), (EOS,))]


@pytest.mark.parametrize(("before", "after"), KINDS)
def test_a_prompt_begins_with_what_stands_before_and_ends_with_its_text(before, after):
    tokenizer = Letters(before, after)
    assert beginning(tokenizer) == list(before)
    assert prompt_ids(tokenizer, "xy") == [*before, 10 + ord("x"), 10 + ord("y")]
    assert prompt_ids(tokenizer, "x", special_tokens=False) == [10 + ord("x")]


@pytest.mark.parametrize(("before", "after"), KINDS)
def test_no_task_has_an_end_in_its_prompt(before, after):
    tokenizer = Letters(before, after)
    hidden = passkey_prompt(tokenizer, 2000, 0.5, 0)
    assert list(hidden.input_ids[: len(before)]) == list(before)
    assert EOS not in hidden.input_ids
    text = SimpleNamespace(without_end=lambda: iter(["words and words"] * 99))
    (window,) = passages(tokenizer, text, 64, 1)
    assert EOS not in window.input_ids
    assert list(window.input_ids[: len(before)]) == list(before)


def refuses(messages):
    raise TemplateError("no system")


@pytest.mark.parametrize(
    "system",
    [
        lambda words: f"<s>{words}</s>",
        lambda words: "",  # some templates leave it out without a word
        refuses,
    ],
)
def test_a_template_without_a_system_gets_its_words_with_the_question(system):
    class Template(Letters):
        chat_template = "x"

        def apply_chat_template(self, messages, tokenize, add_generation_prompt, **how):
            said = [system(each["content"]) if each["role"] == "system" else each["content"] for each in messages]
            return "|".join(said)

    text = prompt(Template(), "quality", "DOCUMENT", "QUESTION")
    assert text.count("Now you are given a very long document") == 1
    assert "DOCUMENT" in text
