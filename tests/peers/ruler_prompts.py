"""RULER's prompts as lm-evaluation-harness makes them, from NVIDIA's code, against ours: same seed, same tokenizer.

    python -m tests.peers.ruler_prompts [--tokenizer FOLDER] [--lengths 4096,8192] [--samples 10] [--write]

Needs lm-eval, wonderwords, nltk and scipy. `--write` puts the digests of the harness's prompts for the tokenizer of
the tests into tests/data/ruler/published.json. The harness leaves out parts of NVIDIA's prompts, so four things are put
back: the answer prefix counts as a part of the prompt; common words have their solved example, and each of their lists
is shuffled with a generator of its own; questions end with NVIDIA's answer prefix; tokens for the beginning of a text
are not counted. Sentences are cut as ours are, since Punkt's data does not come with NLTK.
"""

import argparse
import json
import random
import re
import tempfile
from pathlib import Path

import nltk
import numpy as np
from transformers import AutoTokenizer

nltk.data.find = lambda *args, **kwargs: None  # the harness looks for Punkt's data when it is imported
from lm_eval.tasks.ruler import cwe_utils, fwe_utils, niah_utils, prepare_niah, qa_utils, vt_utils  # noqa: E402

from ropext.converter.evaluation.tasks import ruler, ruler_needles  # noqa: E402
from tests.helpers import ruler_inputs  # noqa: E402

PUBLISHED = Path(__file__).parent.parent / "data" / "ruler" / "published.json"
NEEDLES_ANSWER = " The special magic {type_needle_v} for {query} mentioned in the provided text are"
HAYSTACKS = {"noise": "repeat", "needle": "needle", "essay": "essay"}


class WithoutBeginning:
    """A tokenizer that adds nothing to a text."""

    def __init__(self, tokenizer):
        self.tokenizer = tokenizer

    def __call__(self, text, **options):
        return self.tokenizer(text, add_special_tokens=False)


class SolvedExampleInside(WithoutBeginning):
    """For common words: the harness joins an example, empty here, and the prompt by a line end."""

    def __call__(self, text, **options):
        return super().__call__(text.removeprefix("\n"))


class ShuffleAnew:
    def shuffle(self, words):
        random.Random(42).shuffle(words)


def needles(name, tokenizer, length, samples, text):
    task = ruler.TASKS[name].parameters
    kind = HAYSTACKS[task.haystack]
    haystack = re.sub(r"\s+", " ", text).split(" ") if kind == "essay" else prepare_niah.get_haystack(kind)
    made = prepare_niah.generate_samples(
        haystack,
        tokenizer,
        max_seq_length=length,
        type_haystack=kind,
        type_needle_k=task.key,
        type_needle_v=task.value,
        template=niah_utils.TEMPLATE + NEEDLES_ANSWER,
        num_samples=samples,
        num_needle_k=task.keys,
        num_needle_v=task.values,
        num_needle_q=task.queries,
    )
    return [(each["input"], each["outputs"]) for each in made]


def variables(tokenizer, length, samples):
    make = vt_utils.sys_vartrack_w_noise_random
    example = make(tokenizer=tokenizer, num_samples=1, max_seq_length=500, incremental=5)[0]
    made = make(tokenizer=tokenizer, num_samples=samples, max_seq_length=length, icl_example=example)
    return [(f"{each['input']} {each['gen_prefix']} ", each["outputs"]) for each in made]


def common_words(tokenizer, length, samples, alone=cwe_utils.generate_input_output):
    def with_example(*args, **options):
        example, prompt, answer = alone(*args, **options)
        return "", f"{example}\n{prompt}", answer

    kinds = ("noun", "adjective", "verb")
    cwe_utils.WORDS = sorted({word for kind in kinds for word in cwe_utils.r._categories[kind]})
    cwe_utils.RNG = ShuffleAnew()
    cwe_utils.RNG.shuffle(cwe_utils.WORDS)
    cwe_utils.generate_input_output = with_example
    made = cwe_utils.sys_word_pair_random(samples, length, SolvedExampleInside(tokenizer.tokenizer))
    return [(f"{each['input']} {each['gen_prefix']}", each["outputs"]) for each in made]


def frequent_words(tokenizer, length, samples):
    made = fwe_utils.sys_kwext(tokenizer, length, samples)
    return [(f"{each['input']} {each['gen_prefix']}", each["outputs"]) for each in made]


def questions(tokenizer, length, samples, read, file):
    qa_utils.TEMPLATE = qa_utils.CONFIG["template"] + " Answer:"
    qa_utils.download_json = lambda url: json.loads(file.read_text())
    qas, documents = read.__wrapped__("")
    made = qa_utils.generate_samples(tokenizer, documents, qas, length, samples)
    return [(each["input"], each["outputs"]) for each in made]


def theirs(name, tokenizer, length, samples, text, squad, hotpotqa):
    random.seed(42)
    np.random.seed(42)
    tokenizer = WithoutBeginning(tokenizer)
    if name.startswith("niah"):
        return needles(name, tokenizer, length, samples, text)
    if name == "vt":
        return variables(tokenizer, length, samples)
    if name == "cwe":
        return common_words(tokenizer, length, samples)
    if name == "fwe":
        return frequent_words(tokenizer, length, samples)
    read, file = (qa_utils.read_squad, squad) if name == "qa_1" else (qa_utils.read_hotpotqa, hotpotqa)
    return questions(tokenizer, length, samples, read, file)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--tokenizer", help="a model's folder; the tests' own by default")
    parser.add_argument("--lengths", default=str(ruler_inputs.LENGTH))
    parser.add_argument("--samples", type=int, default=ruler_inputs.SAMPLES)
    parser.add_argument("--write", action="store_true")
    args = parser.parse_args()
    prepare_niah.cached_sent_tokenize = ruler_needles._sentences
    own = ruler_inputs.word_tokenizer()
    tokenizer = AutoTokenizer.from_pretrained(args.tokenizer) if args.tokenizer else own
    digests = {}
    with tempfile.TemporaryDirectory() as folder:
        squad = ruler_inputs.squad(Path(folder) / "squad.json")
        hotpotqa = ruler_inputs.hotpotqa(Path(folder) / "hotpotqa.json")
        text = ruler_inputs.prose()
        for length in map(int, args.lengths.split(",")):
            for name in ruler.TASKS:
                published = theirs(name, tokenizer, length, args.samples, text, squad, hotpotqa)
                ours = ruler.generate(name, tokenizer, length, args.samples, text=text, squad=squad, hotpotqa=hotpotqa)
                pairs = zip(published, ours, strict=True)
                same = sum((prompt, tuple(answers)) == (each.prompt, each.answers) for (prompt, answers), each in pairs)
                print(f"{name:16} {length:7} tokens: {same} of {args.samples} are the same", flush=True)
                digests[name] = [ruler_inputs.digest(*each) for each in published]
    if args.write:
        PUBLISHED.write_text(json.dumps(digests, indent=1) + "\n")


if __name__ == "__main__":
    main()
