"""What RULER's prompts are made from in tests: a tokenizer of words, prose, files formed as SQuAD and HotpotQA."""

import hashlib
import json
import random

from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

LENGTH = 4096
SAMPLES = 3
THINGS = ("river", "bridge", "garden", "window", "letter", "mountain", "harbour", "engine", "candle", "forest")


def word_tokenizer():
    """Every word and every run of punctuation is one token; a text starts with one more."""
    tokenizer = Tokenizer(models.WordLevel({"[UNK]": 0, "[BOS]": 1}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(single="[BOS] $A", special_tokens=[("[BOS]", 1)])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer)


def sentences(number):
    rng = random.Random(0)
    return [
        f"In {rng.randint(1500, 1999)} the {rng.choice(THINGS)} was {rng.randint(2, 99)} steps from the winter market."
        for _ in range(number)
    ]


def prose():
    return " ".join(sentences(2000))


def squad(file):
    """Articles of ten paragraphs of four sentences; each paragraph with a question that it answers and one that not."""
    paragraphs = [" ".join(each) for each in zip(*[iter(sentences(1600))] * 4, strict=True)]
    articles = [paragraphs[i : i + 10] for i in range(0, len(paragraphs), 10)]
    data = [{"paragraphs": [_paragraph(context) for context in article]} for article in articles]
    file.write_text(json.dumps({"data": data}))
    return file


def _paragraph(context):
    answers = [{"text": word} for word in context.rstrip(".").split()[1::6]]
    asked = {"question": f"What is said of {context[:12]}?", "is_impossible": False, "answers": answers}
    return {"context": context, "qas": [{"question": "And of nothing?", "is_impossible": True, "answers": []}, asked]}


def hotpotqa(file):
    """Questions about ten pages each."""
    rng = random.Random(1)
    known = sentences(900)
    data = []
    for i in range(40):
        starts = rng.sample(range(0, 900, 3), 10)
        context = [[f"Page {start}", known[start : start + 3]] for start in starts]
        data.append({"question": f"What is on page {i}?", "answer": known[starts[0]].split()[1], "context": context})
    file.write_text(json.dumps(data))
    return file


def digest(prompt, answers):
    return hashlib.sha256(json.dumps([prompt, list(answers)]).encode()).hexdigest()
