"""What answers to L-Eval's closed-ended tasks are worth, by the rules of the published scorer.

An et al., "L-Eval: Instituting Standardized Evaluation for Long Context Language Models" (arXiv 2307.11088);
`Evaluation/auto_eval.py` and `em.py` of https://github.com/OpenLMLab/LEval at cd34b05 (July 2024). Where a rule is
odd it is kept, for the numbers to be comparable: `docs/leval.md` names these.
"""

from __future__ import annotations

import re
import string
from statistics import fmean

__all__ = ["exam", "normal", "score"]

_LETTERS = set("ABCD")
_PART = 0.25
"""For some of several right letters and no wrong one."""

_FILLING = ("will be", "of the code", "is", "would be", "the value of", "the result of", "printed")
"""What is taken out of an answer to a question about code, wherever it stands, in this order."""

_MORE_WORDS = 3
"""So many words more than the right answer has are looked at."""


def score(task: str, prediction: str, answer: str) -> float:
    """One prediction's part of a task's score, from 0 to 1.

    Args:
        task: its name in `leval.TASKS`.
        prediction: what the model wrote; of `sci_fi` both its answers, written as the right ones are.
        answer: the right one, as the file has it.
    """
    if task == "sci_fi":
        pairs = zip(_both(prediction), _both(answer), strict=True)
        return fmean(exam(_verdict(mine), right) for mine, right in pairs)
    if task in ("tpo", "quality", "coursera"):
        return exam(_chosen(prediction, several=task == "coursera"), _right_letters(answer))
    if task == "gsm100":
        return exam(_number(prediction), _number(answer))
    if task == "codeU":
        return exam(_output(prediction, answer), _plain_code(answer))
    return exam(prediction, answer)


def exam(prediction: str, answer: str) -> float:
    """L-Eval's exact match, of what was made out in a prediction.

    Letters have to be the right ones; some of them are worth a quarter. Numbers have to be equal. Of all else the
    prediction has to contain the answer, whatever the case and the spaces.
    """
    wanted = normal(answer)
    if set(wanted) <= _LETTERS:
        given = normal(prediction)
        return 1.0 if given == wanted else _PART if set(given) <= set(wanted) else 0.0
    try:
        return float(float(prediction) == float(answer))
    except ValueError:
        return float(_bare(answer) in _bare(prediction))


def normal(text: str) -> str:
    """Without punctuation, articles and superfluous space; the case stays."""
    words = "".join(character for character in text if character not in string.punctuation)
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", words).split())


def _bare(text: str) -> str:
    return text.lower().replace(" ", "")


# Letters


def _chosen(prediction: str, *, several: bool) -> str:
    """The letters that a prediction chooses; A where it has none."""
    if not prediction.strip():
        return "None"
    if prediction in "ABCD":  # in this order without a gap, too
        return prediction
    first = re.search("[A-D]", prediction)
    if first and not several:
        return first[0]
    begin = re.match("[A-D]*", prediction)
    letters = begin[0] if begin else ""
    if len(letters) > 1:
        return "".join(sorted(set(letters)))
    rest = prediction[len(letters) :].split("Question")[0]
    found = {*letters, *re.findall(r"[A-Z](?=[\s.)])", rest)} & _LETTERS
    if found:
        return "".join(sorted(found))
    run = re.search("[A-D]+", rest)
    return run[0] if run else "A"


def _right_letters(answer: str) -> str:
    """The letters of an answer such as `C`, `BD` or `(B) what the second choice says`."""
    return re.sub("[^A-D]", "", answer.split()[0]) or "A"


# Numbers


def _number(text: str) -> str:
    """The digits before the point of the number that is said to be the answer, else of the first paragraph's last."""
    stated = re.search(r"The answer is (\S+)", text)
    words = [stated[1]] if stated else text.split("\n\n")[0].split(" ")
    number = next((word for word in reversed(words) if any(map(str.isdigit, word))), "")
    return "".join(filter(str.isdigit, number.split(".")[0]))


# Code


def _plain_code(text: str) -> str:
    text = re.sub(r"\s+", " ", text)
    for mark in (",", "'", "\\", ".0"):
        text = text.replace(mark, "")
    return text.replace("] [", "][").replace("[ [", "[[").replace("] ]", "]]")


def _output(prediction: str, answer: str) -> str:
    """The words after "the final output", else the last ones."""
    text = _plain_code(prediction)
    for words in _FILLING:
        text = text.replace(words, "")
    size = len(answer.split()) + _MORE_WORDS
    _, named, after = text.rpartition("the final output")
    found = re.split(r"\s+", after)
    return " ".join(found[:size] if named else found[-size:])


# True or false


def _both(text: str) -> tuple[str, str]:
    """The answer by the story and the one in fact, from `True [fact: False]`."""
    story, fact = text.lower().split("[fact:")[:2]
    return story.strip(), fact[:-1].strip()


def _verdict(text: str) -> str:
    for word in text.split():
        for verdict in ("true", "false"):
            if verdict in word:
                return verdict
    return "<error>"
