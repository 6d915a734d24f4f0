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


def helmet_documents(number, count, right=""):
    """Documents as HELMET's retriever gave them; one may have the answer."""
    texts = [f"Nothing is said of {number} here, or of {each}." for each in range(count)]
    if right:
        texts[count // 2] = f"It is said that {number} is {right}."
    return [{"title": f"Page {each}", "text": text, "id": each} for each, text in enumerate(texts)]


def helmet_rag(count, documents, start, *, depths=1, with_id=True, popular=False):
    """Questions, each at several places of the right document."""
    records = []
    for number in range(count):
        for depth in range(depths):
            record = {
                "question": f"what is {start} {number}?",
                "answers": [f"The {start} of {number}", f"{number}-{start}"],
                "ctxs": helmet_documents(number, documents, f"the {start} of {number}"),
                "depth": depth / 2,
            }
            record |= {"id": number + 100} if popular else {"id": f"q{number}"} if with_id else {}
            records.append(record | ({"s_pop": 10 ** (1 + number % 4)} if popular else {}))
    return records


def write_helmet(folder, length=4096, keys=50, documents=20, questions=7):
    """The files of one length, each of few questions."""
    for number, (task, kind) in enumerate(
        (("niah_multikey_2", "number"), ("niah_multikey_3", "uuid"), ("niah_multivalue", "numbers"))
    ):
        values = [f"{number}00{each}11" for each in range(2 if kind == "numbers" else 1)]
        record = {
            "context": f"{NOISE * 20}One of the special magic {kind} for worn-lamp is: {values[0]}. {NOISE * 20}",
            "query": "worn-lamp", "type_needle_v": kind, "input": "x", "length": 999,
        }  # fmt: skip
        records = [record | {"index": each, "outputs": values} for each in range(questions)]
        write(folder / f"ruler/{task}/validation_{length}.jsonl", records)
    pairs = [[f"demo-{each}", f"value-{each}"] for each in range(3)]
    context = 'JSON data:\n{"k1": "v1-%d", "k2": "v2"}'
    records = [
        {"context": context % each, "question": "k1", "answer": f"v1-{each}", "demos": pairs, "num_kvs": keys,
         "depth": 0.5}
        for each in range(questions)
    ]  # fmt: skip
    write(folder / f"json_kv/test_k{keys}_dep6.jsonl", records)
    for name, depths, with_id in (("nq", 6, False), ("triviaqa", 6, True), ("hotpotqa", 3, True)):
        end = f"dep{depths}.jsonl"
        test = helmet_rag(questions, documents, name, depths=2, with_id=with_id)
        write(folder / f"kilt/{name}-dev-multikilt_1000_k{documents}_{end}", test)
        known = helmet_rag(5, 3, f"old {name}", depths=2, with_id=with_id)
        write(folder / f"kilt/{name}-train-multikilt_1000_k3_{end}", known)
    test = helmet_rag(questions, documents, "fame", depths=2, popular=True)
    write(folder / f"kilt/popqa_test_1000_k{documents}_dep6.jsonl", test)
    write(folder / "kilt/popqa_test_1000_k3_dep6.jsonl", helmet_rag(questions, 3, "fame", depths=2, popular=True))
    return folder
