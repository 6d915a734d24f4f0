"""Converted by the command's own function, loaded by a stranger: no ropext, only torch and transformers."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from ropext.converter.commands_convert import convert_checkpoint
from ropext.converter.presets import load_preset
from tests import tiny

LOADED = Path(__file__).parent / "loaded.py"
SCORES = torch.rand(3, 4, 8, generator=torch.Generator().manual_seed(0))
CASES = ["dpe", "dpe_top_k", "gali", "dprope"]


def write_preset(folder, name):
    """The preset file of one of the tiny cases."""
    case = tiny.CASES[name]
    parameters = dict(case.parameters)
    if name == "dpe_top_k":
        parameters |= {"top_k": 5, "dimension_scores": "scores.safetensors"}
        save_file({"scores": SCORES}, folder / "scores.safetensors")
    if name == "dprope":
        parameters["scaling_factors"] = [a / b for a, b in zip(tiny.INV_FREQ, case.inv_freq, strict=True)]
    preset = {
        "name": f"tiny-{case.method}",
        "description": "For a tiny model.",
        "base_model": "tiny-llama",
        "initial_window": tiny.INITIAL_WINDOW,
        "target_window": tiny.TARGET_WINDOW,
        "method": case.method,
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


@pytest.mark.parametrize("name", CASES)
def test_a_stranger_loads_it(name, tiny_llama, tmp_path):
    add_tokenizer(tiny_llama)
    preset = load_preset(str(write_preset(tmp_path, name)))
    output = tmp_path / f"{name}-converted"
    convert_checkpoint(preset, str(tiny_llama), output)
    ids, logits = expected_logits(name)
    save_file({"input_ids": ids, "logits": logits}, tmp_path / "expected.safetensors")
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "HF_MODULES_CACHE": str(tmp_path / "modules")}
    run = subprocess.run(
        [sys.executable, str(LOADED), str(output), str(tmp_path)],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=environment,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert run.stdout.splitlines()[-1] == "refused without trust_remote_code"
