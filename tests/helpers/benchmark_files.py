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


NOISE = "The grass is green. The sky is blue. "
BOOK = "Mira kept the lamp and Jon kept the door. " * 60


def infinitebench_record(number, text, asked, answer, options=()):
    return {"id": number, "context": text, "input": asked, "answer": answer, "options": list(options)}


INFINITEBENCH = {
    "passkey": [
        infinitebench_record(0, f"{NOISE * 40}The pass key is 71432. {NOISE * 40}", "What is the pass key?", ["71432"]),
        infinitebench_record(1, f"{NOISE * 9}The pass key is 00317. {NOISE}", "What is the pass key?", ["00317"]),
    ],
    "number_string": [
        infinitebench_record(
            0,
            f"{NOISE}The sequence of digits is 4433221100. {NOISE}",
            "What is the sequence of digits?",
            ["4433221100"],
        )
    ],
    "kv_retrieval": [
        infinitebench_record(
            0,
            'JSON data:\n{"2a8d": "6f9a-11", "99c1": "0b44-27"}',
            '\nKey: "99c1"\nThe value associated with the specified key is: ',
            ["0b44-27"],
        )
    ],
    "math_find": [
        infinitebench_record(
            0,
            "[3, 17, 42, 8]",
            "You should answer with only one number, no other words. The second largest number of the list is: ",
            [17],
        ),
        infinitebench_record(
            1, "[3, 4]", "You should answer with only one number. The median number of the list is: ", [3.5]
        ),
    ],
    "code_run": [
        infinitebench_record(
            0,
            "def func_1(x):\n    return func_0(x) - 3\n",
            "Please give me the exact number of the return value of func_1(-5). Be concise.",
            [-8],
        )
    ],
    "code_debug": [
        infinitebench_record(
            0, "def cmd_gen():\n    retrun 1\n", "Which function?", ["cmd_gen"], ["_init", "cmd_gen", "run", "stop"]
        ),
        infinitebench_record(
            1, "def run():\n    rase\n", "Which function?", ["run", "C"], ["_init", "cmd_gen", "run", "stop"]
        ),
    ],
    "longbook_choice_eng": [
        infinitebench_record(0, BOOK, "Who kept the lamp?", ["Mira"], ["Jon", "Ada", "Mira", "Nobody"]),
        infinitebench_record(1, BOOK, "Who kept the door?", ["Jon"], ["Jon", "Ada", "Mira", "Nobody"]),
    ],
}


def write_infinitebench(folder):
    for task, records in INFINITEBENCH.items():
        write(folder / f"{task}.jsonl", records)
    return folder
