"""Hostile files of measurements, for `python -m tools.fuzz`."""

from __future__ import annotations

import json

from tools.fuzz_damage import mutated

SETTINGS = {"task": "ppl", "source": "org/model", "seed": 0, "command": "ropext eval ppl", "versions": {"torch": "2.9"}}
MEASURED = {"preset": None, "length": 4096, "tokens": 4096, "seed": 0, "seconds": 1.5}
OF_TASK = {
    "ppl": {"nll": 5.0, "counted": 10},
    "passkey": {"answers": [{"depth": 0.5, "log_probability": -0.1, "exact": True}]},
    "ruler": {"task": "niah_single_1", "score": 50.0},
    "attention": {
        "logits": [[1.0], [-2.0, 3.0]],
        "weights": [[1.0], [0.25, 0.75]],
        "distances": {"from": [0, 1, 1024], "logits": [0.0, 1.0, 2.0], "weights": [0.5, 0.25, 0.1]},
        "first": 0.4,
    },
    "leval": {"task": "quality", "score": 50.0, "document": 0},
    "helmet": {"task": "nq", "score": 1.0, "document": 0, "groups": ["RAG", "nq"]},
    "infinitebench": {"task": "passkey", "score": 1.0, "document": 0},
    "longbench2": {"task": "longbench2", "score": 1.0, "document": 0, "groups": ["hard", "long"]},
}


def results_input(rng, folder):
    """A file of measurements."""
    task = rng.choice(list(OF_TASK))
    lines = [{"settings": SETTINGS | {"task": task}}]
    for preset in (None, "a", "b"):
        value = MEASURED | OF_TASK[task] | {"preset": preset, "length": rng.choice([1024, 4096])}
        lines.append({"key": str(preset), "value": json.loads(json.dumps(value))})
    texts = [mutated(rng, line) if rng.random() < 0.5 else json.dumps(line).encode() for line in lines]
    (folder / "r.jsonl").write_bytes(b"\n".join(texts) + b"\n")
    return ["report", str(folder / "r.jsonl"), "--format", rng.choice(["md", "csv", "json", "html"])]
