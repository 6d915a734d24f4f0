"""lm-evaluation-harness runs a converted checkpoint: local tasks, no network."""

import json
import os
import subprocess
import sys

import pytest
import torch

from ropext.converter.convert.api import convert_checkpoint
from ropext.converter.presets.load import load_preset
from tests.helpers import tiny
from tests.modeling.test_loading import add_tokenizer, preset_file

pytest.importorskip("lm_eval", reason="pip install 'lm-eval[hf]'")
pytestmark = pytest.mark.usefixtures("no_grad")

CHOICE = {
    "task": "choice",
    "output_type": "multiple_choice",
    "doc_to_choice": "choices",
    "doc_to_target": 0,
    "metric_list": [{"metric": "acc"}],
}
WORDS = {
    "task": "words",
    "output_type": "generate_until",
    "doc_to_target": "words",
    "generation_kwargs": {"max_gen_toks": 6, "until": ["</s>"], "do_sample": False},
    "metric_list": [{"metric": "exact_match"}],
}


def write_tasks(folder, documents):
    """The tasks' files, in YAML's subset JSON."""
    data = folder / "documents.json"
    data.write_text("\n".join(map(json.dumps, documents)))
    source = {"dataset_path": "json", "dataset_kwargs": {"data_files": {"test": str(data)}}, "test_split": "test"}
    for task in (CHOICE, WORDS):
        (folder / f"{task['task']}.yaml").write_text(json.dumps(task | source | {"doc_to_text": "text"}))


def evaluate(model, tasks, batch_size):
    """Run it; returns what was answered, by task."""
    command = [sys.executable, "-m", "ropext", "eval", "lm-eval", str(model), "--tasks", "choice,words"]
    command += ["--batch-size", str(batch_size), "--device", "cpu", "--dtype", "float32"]
    command += ["--output", str(tasks / "results"), f"--option=--include_path={tasks}", "--option=--log_samples"]
    private = {"HF_HOME": str(tasks / "home"), "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    run = subprocess.run(command, capture_output=True, text=True, cwd=tasks, env=os.environ | private)
    assert run.returncode == 0, run.stdout + run.stderr
    found = {}
    for task in ("choice", "words"):
        (file,) = tasks.glob(f"results/**/samples_{task}_*.jsonl")
        samples = sorted(map(json.loads, file.read_text().splitlines()), key=lambda sample: sample["doc_id"])
        found[task] = [sample["filtered_resps"] for sample in samples]
    return found


def numbers(text):
    return [int(word[1:]) for word in text.split()]


def logprob(model, context, continuation):
    """Of a continuation, in nats."""
    ids = torch.tensor([context + continuation])
    scores = model(ids[:, :-1]).logits[0, len(context) - 1 :].log_softmax(-1)
    return scores.gather(-1, torch.tensor(continuation)[:, None]).sum().item()


# Rows are padded on the right, without a mask, when likelihoods are computed: a method that goes by the length of the
# input takes the longest row's.
@pytest.mark.parametrize(("method", "batch_size"), [("dpe", 2), ("gali", 1)])
def test_likelihoods_and_texts_are_those_of_single_rows(method, batch_size, tiny_llama, tmp_path):
    add_tokenizer(tiny_llama)
    preset = load_preset(str(preset_file(tmp_path, f"tiny-{method}", method, tiny.CASES[method].parameters)))
    output = convert_checkpoint(preset, str(tiny_llama), tmp_path / f"tiny_{method}").output
    texts = [tiny.tokens(length, seed=length)[0].tolist() for length in (12, 70, 101, 150, 180)]
    documents = [
        {"text": " ".join(f"t{i}" for i in ids), "choices": ["t7 t9", "t11 t5 t3"], "words": "t7"} for ids in texts
    ]
    tasks = tmp_path / "tasks"
    tasks.mkdir()
    write_tasks(tasks, documents)
    found = evaluate(output, tasks, batch_size)
    model, _ = tiny.from_folder(output)
    model.generation_config.eos_token_id = 2
    for ids, document, answers, (words,) in zip(texts, documents, found["choice"], found["words"], strict=True):
        expected = [logprob(model, ids, numbers(choice)) for choice in document["choices"]]
        assert [float(value) for value, _ in answers] == pytest.approx(expected, abs=2e-4)
        prompt = torch.tensor([ids])
        mask = torch.ones_like(prompt)
        own = model.generate(prompt, attention_mask=mask, max_new_tokens=6, do_sample=False, pad_token_id=2)
        assert numbers(words) == [i for i in own[0, len(ids) :].tolist() if i > 2]
