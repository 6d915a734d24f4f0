"""Results of evaluations, made up."""

import json

import numpy as np

LENGTHS = (4096, 16384)
ORIGIN = {
    "command": "ropext eval niah tiny --preset tiny-dpe",
    "versions": {"ropext": "0.1.0", "torch": "2.13"},
    "machine": "a <small> machine",
}
SETTINGS = {"source": "tiny", "seed": 0, "dtype": "auto", **ORIGIN}


def write(file, task, values, tail="", **settings):
    """A file of measurements."""
    file.parent.mkdir(parents=True, exist_ok=True)
    lines = [{"settings": {"task": task, **SETTINGS, **settings}}]
    lines += [{"key": json.dumps([value["preset"], number]), "value": value} for number, value in enumerate(values)]
    file.write_text("".join(f"{json.dumps(line)}\n" for line in lines) + tail)
    return file


def results(file):
    """The settings of a file, and its measurements but for those of short prompts."""
    first, *rest = map(json.loads, file.read_text().splitlines())
    return first["settings"], [each["value"] for each in rest if not each["value"].get("short")]


def asked(preset, length, seed, answers, seconds=2.0):
    """A prompt with questions: depth, log-probability and whether it was answered right."""
    keys = ("depth", "log_probability", "exact")
    found = [{**dict(zip(keys, answer, strict=True)), "distance": 7} for answer in answers]
    return {
        "preset": preset, "length": length, "tokens": length - 9, "seed": seed, "seconds": seconds, "answers": found
    }  # fmt: skip


def needles(presets=(None, "tiny-dpe"), prompts=4):
    """The base finds all at 4k and nothing at 16k, where the others find three of four."""
    rng = np.random.default_rng(0)
    for preset in presets:
        for length in LENGTHS:
            for seed in range(prompts):
                right = length == LENGTHS[0] or bool(preset)
                level = -1.0 - seed if right else -9.0 - seed
                jitter = 0.1 * rng.standard_normal(2) if preset else (0.0, 0.0)
                answers = [
                    (0.2 + 0.01 * seed, level + jitter[0], right and not (preset and seed == 1)),
                    (0.8, level + jitter[1], right),
                ]
                yield asked(preset, length, seed, answers, seconds=2.2 if preset else 2.0)


def perplexity(preset, length, seed, nll, counted=1000):
    return {
        "preset": preset, "length": length, "tokens": length, "seed": seed, "seconds": 1.0, "nll": nll,
        "counted": counted,
    }  # fmt: skip


def mixed(preset, length, seed, level):
    """Two needles and a passkey, and two pieces of text."""
    answers = [("needles", level, True), ("needles", level - 2, False), ("passkeys", level - 1, True)]
    keys = ("kind", "log_probability", "exact")
    found = [{**dict(zip(keys, answer, strict=True)), "depth": 0.5, "distance": 7} for answer in answers]
    return {**asked(preset, length, seed, []), "answers": found, "losses": [-level / 32, -level / 32]}


def answered(preset, length, seed, task, score):
    return {
        "preset": preset, "length": length, "tokens": 9, "seed": seed, "seconds": 1.0, "task": task, "score": score,
        "prediction": "x", "answers": ["y"],
    }  # fmt: skip
