"""Files of benchmarks, made up in their published forms."""

import json


def write(file, records):
    """One record a line."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return file


def changed(file, number, **fields):
    """Change one record of a file of lines; None takes a field away."""
    records = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    records[number] = {k: v for k, v in {**records[number], **fields}.items() if v is not None}
    return write(file, records)


def longbench2_record(text, answer, difficulty, length):
    return {
        "_id": f"66f{len(text)}", "domain": "Single-Document QA", "sub_domain": "Literary", "difficulty": difficulty,
        "length": length, "question": " Where did the heron wait? ", "choice_A": "by the weir", "choice_B": "at home",
        "choice_C": "on the roof", "choice_D": "nowhere ", "answer": answer, "context": text,
    }  # fmt: skip


LONGBENCH2 = [
    longbench2_record("\nThe heron waits by the weir. " + "It rains. " * 300, "A", "easy", "short"),
    longbench2_record("\nThe heron waits by the weir. " + "It rains. " * 300, "B", "hard", "short"),
    longbench2_record("Ferns have roots. " * 9, "D", "hard", "medium"),
    longbench2_record("Salt and rust. " * 200, "C", "easy", "long"),
]


class Scripted:
    """Answers in turn, and remembers what it was asked."""

    def __init__(self, tokenizer, *answers):
        self.tokenizer, self.answers, self.asked = tokenizer, list(answers), []

    def continuation(self, text, new_tokens, *, special_tokens=True):
        self.asked.append((text, new_tokens, special_tokens))
        return self.answers.pop(0)
