"""L-Eval's files, made up in their published form, and a tokenizer with a chat template."""

import json

from ropext.converter.evaluation.tasks import leval
from tests.helpers.asked import tokenizer

CHAT = (
    "{% for each in messages %}<{{ each.role }}>{{ each.content }}</{{ each.role }}>{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)
NO_SYSTEM = "{% if messages[0].role == 'system' %}{{ raise_exception('there is no system role') }}{% endif %}" + CHAT

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
