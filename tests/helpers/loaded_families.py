"""Runs in a process of its own, where ropext cannot be imported: each family, as a stranger loads it.

    python loaded_families.py CONVERTED SCRATCH

Compares every folder in CONVERTED with `expected.safetensors` in SCRATCH; prints its name when all is well.
"""

import sys

sys.modules["ropext"] = None  # importing it fails from here on

import json
from pathlib import Path

import torch
import transformers
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM

TRUST = {"trust_remote_code": True}
TOLERANCE = {"atol": 2e-4, "rtol": 0}


def refused(load, folder):
    try:
        load(folder)
    except Exception as error:
        assert "load this checkpoint with trust_remote_code=True" in str(error), repr(error)
    else:
        raise AssertionError(f"{load} loaded {folder} without trust_remote_code")


@torch.no_grad()
def check_logits(folder, ids, expected):
    model = AutoModelForCausalLM.from_pretrained(folder, **TRUST).eval()
    torch.testing.assert_close(model(ids).logits[0], expected, **TOLERANCE)


@torch.no_grad()
def check_everything_else(folder, saved, ids):
    written = json.loads((folder / "config.json").read_text())
    stock = getattr(transformers, written["rope_ext"]["base"]["architectures"][0])
    for load in (AutoModelForCausalLM, AutoModel, stock):
        refused(load.from_pretrained, folder)

    model = AutoModelForCausalLM.from_pretrained(folder, **TRUST).eval()
    assert type(model).__name__ == written["architectures"][0]
    hidden = AutoModel.from_pretrained(folder, **TRUST).eval()(ids).last_hidden_state
    torch.testing.assert_close(hidden, model.model(ids).last_hidden_state)

    model.save_pretrained(saved)
    again = AutoModelForCausalLM.from_pretrained(saved, **TRUST).eval()
    torch.testing.assert_close(again(ids).logits, model(ids).logits, atol=0, rtol=0)
    config = AutoConfig.from_pretrained(saved, **TRUST)
    assert config.max_position_embeddings == 256
    assert getattr(config, "sliding_window", None) is None
    for load in (AutoModelForCausalLM, AutoModel, stock):
        refused(load.from_pretrained, saved)

    for name, reference in written["auto_map"].items():
        head_class = reference.rpartition(".")[2].replace("RopeExt", "")
        known = hasattr(sys.modules[stock.__module__], head_class)  # older versions have fewer heads
        if name in ("AutoConfig", "AutoModel", "AutoModelForCausalLM") or not known:
            continue
        head = getattr(transformers, name).from_pretrained(folder, **TRUST).eval()
        assert "RopeExt" in type(getattr(head, head.base_model_prefix)).__name__
        assert torch.isfinite(head(ids)[0]).all()
        if head.base_model_prefix == "model":
            torch.testing.assert_close(head.model(ids).last_hidden_state, hidden)


def main(folder, scratch):
    torch.set_num_threads(1)
    expected = load_file(scratch / "expected.safetensors")
    ids = expected.pop("input_ids")
    for name, logits in expected.items():
        check_logits(folder / name, ids, logits)
        if name.endswith("-dpe"):
            check_everything_else(folder / name, scratch / "saved" / name, ids)
        print(name)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
