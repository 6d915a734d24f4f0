"""Converted by the command's own function, loaded by a stranger: no ropext, only torch and transformers."""

import json
import os
from pathlib import Path

import pytest
import torch
import yaml
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from ropext.converter.convert.api import convert_checkpoint
from ropext.converter.presets.load import load_preset
from tests.helpers import forked, tiny

SCORES = torch.rand(3, 4, 8, generator=torch.Generator().manual_seed(0))
CASES = ["dpe", "dpe_top_k", "gali", "dprope", "dynamic_ntk"]


def write_preset(folder, name):
    """The preset file of one of the tiny cases."""
    case = tiny.CASES[name]
    parameters = dict(case.parameters)
    if name == "dpe_top_k":
        parameters |= {"top_k": 5, "dimension_scores": "scores.safetensors"}
        save_file({"scores": SCORES}, folder / "scores.safetensors")
    if name == "dprope":
        parameters["scaling_factors"] = [a / b for a, b in zip(tiny.INV_FREQ, case.inv_freq, strict=True)]
    return preset_file(folder, f"tiny-{case.method}", case.method, parameters)


def preset_file(folder, name, method, parameters):
    preset = {
        "name": name,
        "description": "For a tiny model.",
        "base_model": "tiny-llama",
        "initial_window": tiny.INITIAL_WINDOW,
        "target_window": tiny.TARGET_WINDOW,
        "method": method,
        "parameters": parameters,
    }
    file = folder / f"{name}.yaml"
    file.write_text(yaml.safe_dump(preset))
    return file


def add_tokenizer(folder):
    """One word for each token id, so that texts can be written down."""
    special = {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>"}
    words = [*special.values(), *(f"t{i}" for i in range(3, 128))]
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=64, **special).save_pretrained(folder)


@torch.no_grad()
def expected_logits(name):
    ids, case = tiny.tokens(150), tiny.CASES[name]
    if name == "dpe_top_k":  # which pairs the converter chooses from scores is part of what is checked
        chosen = SCORES.topk(5, -1).indices
        selected = torch.zeros_like(SCORES, dtype=torch.bool).scatter(-1, chosen, True)
        case = tiny.Case("dpe", case.parameters, {"selected_pairs": tiny.packed(selected.numpy())})
    return ids, tiny.converted(case)(ids).logits[0]


def run_alone(script, *arguments, cwd, start=forked.Forked):
    """Run a script in a process of its own, with a module cache of its own; returns what it printed."""
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "HF_MODULES_CACHE": str(cwd / "modules")}
    path = Path(__file__).parents[1] / "helpers" / script
    status, printed, said = forked.script(path, *arguments, cwd=cwd, env=environment, start=start)
    assert status == 0, said
    return printed


@pytest.mark.parametrize("name", ["dpe-llama", "dpe-llama-top_k", "gali-llama"])
def test_in_a_process_of_its_own_it_equals_the_authors_program(name, tiny_llama, tmp_path):
    path = tiny.DATA / f"{name}.safetensors"
    golden = load_file(path)
    with safe_open(path, "pt") as file:
        spec = json.loads(file.metadata()["spec"])
    if name == "gali-llama":
        method, parameters = "gali", {"chunk_size": spec["chunk_size"], "local_window": spec["local_window"]}
        ids, prefill = golden["sequences"][:, :-1], golden["input_ids"].shape[1]
    else:
        method, groups = "dpe", spec["dimension_groups_range"]
        parameters = {
            "local_window": spec["local_window_size"],
            "scale_factors": spec["scale_factors"],
            "dimension_groups": groups,
        }
        if spec["topk"]:
            save_file({"scores": golden["norms"]}, tmp_path / "norms.safetensors")
            parameters |= {"top_k": spec["topk"], "dimension_scores": "norms.safetensors"}
        ids, prefill = golden["input_ids"], 190
    preset = preset_file(tmp_path, f"golden-{method}", method, parameters)
    output = convert_checkpoint(load_preset(str(preset)), str(tiny_llama), tmp_path / "converted").output
    save_file({"input_ids": ids, "prefill": torch.tensor(prefill)}, tmp_path / "input.safetensors")
    run_alone("answered.py", output, tmp_path, cwd=tmp_path)
    for key, logits in load_file(tmp_path / "output.safetensors").items():
        part = key.partition(".")[2]
        if method == "gali":
            if part == "whole":  # as published, the last chunk ends with the input: the authors fed a shorter one
                continue
            expected = golden["logits"][:prefill] if part == "prefill" else golden["logits"][prefill:]
        elif part == "steps":
            logits, expected = logits[:-1], golden["decode_logits"][1:]
        else:
            expected = golden["logits"][: len(logits)]
        torch.testing.assert_close(logits, expected, atol=2e-4, rtol=0, msg=lambda text, key=key: f"{key}: {text}")


@pytest.mark.parametrize("name", CASES)
def test_a_stranger_loads_it(name, tiny_llama, tmp_path):
    add_tokenizer(tiny_llama)
    preset = load_preset(str(write_preset(tmp_path, name)))
    output = tmp_path / f"{name}-converted"
    convert_checkpoint(preset, str(tiny_llama), output)
    ids, logits = expected_logits(name)
    save_file({"input_ids": ids, "logits": logits}, tmp_path / "expected.safetensors")
    printed = run_alone("loaded.py", output, tmp_path, cwd=tmp_path)
    assert printed.splitlines()[-1] == "refused without trust_remote_code"
