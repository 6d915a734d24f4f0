"""Runs in a process of its own, where ropext cannot be imported: what a stranger does with a converted checkpoint.

    python loaded.py CONVERTED SCRATCH

Compares with `expected.safetensors` in SCRATCH and prints what it did, a line each; raises at the first fault.
"""

import sys

sys.modules["ropext"] = None  # importing it fails from here on

from pathlib import Path

import torch
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM, pipeline

TRUST = {"trust_remote_code": True}
TOLERANCE = {"atol": 2e-4, "rtol": 0}


def refused(load, *args, **kwargs):
    try:
        load(*args, **kwargs)
    except Exception as error:
        assert "trust_remote_code" in str(error), error
    else:
        raise AssertionError(f"{load} loaded it without trust_remote_code")


def check_settings(folder):
    config = AutoConfig.from_pretrained(folder, **TRUST)
    assert config.hidden_act == "silu"
    assert config.rope_ext["method"]
    assert config.max_position_embeddings == 256
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert tokenizer.model_max_length == 256
    assert tokenizer("t7 t9").input_ids == [7, 9]
    print("AutoConfig, AutoTokenizer")
    return tokenizer


def check_models(folder, ids, expected):
    model = AutoModelForCausalLM.from_pretrained(folder, **TRUST).eval()
    assert type(model).__name__ == "LlamaRopeExtForCausalLM"
    assert model.config._attn_implementation == "sdpa"
    torch.testing.assert_close(model(ids).logits[0], expected, **TOLERANCE)
    print("AutoModelForCausalLM: logits")

    hidden = AutoModel.from_pretrained(folder, **TRUST).eval()(ids).last_hidden_state
    torch.testing.assert_close(model.lm_head(hidden)[0], expected, **TOLERANCE)
    print("AutoModel")

    eager = AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager", **TRUST).eval()
    out = eager(ids, output_attentions=True)
    torch.testing.assert_close(out.logits[0], expected, **TOLERANCE)
    assert len(out.attentions) == 3
    print("eager, attentions")

    for dtype in (torch.bfloat16, torch.float16):
        half = AutoModelForCausalLM.from_pretrained(folder, torch_dtype=dtype, **TRUST).eval()
        assert half.dtype == dtype
        assert (half(ids).logits[0].float() - expected).abs().mean() < 0.2
    print("bfloat16, float16")
    return model


def check_pipeline(folder, model, tokenizer):
    generate = pipeline("text-generation", model=str(folder), tokenizer=str(folder), **TRUST)
    text = generate("t7 t9 t11", max_new_tokens=4, do_sample=False, return_full_text=False)[0]["generated_text"]
    own = model.generate(torch.tensor([[7, 9, 11]]), attention_mask=torch.ones(1, 3), max_new_tokens=4, do_sample=False)
    assert text.split() == tokenizer.decode(own[0, 3:], skip_special_tokens=True).split(), text
    print("pipeline")


def check_saving(folder, model, tokenizer, ids):
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    again = AutoModelForCausalLM.from_pretrained(folder, **TRUST).eval()
    torch.testing.assert_close(again(ids).logits, model(ids).logits, atol=0, rtol=0)
    refused(AutoModelForCausalLM.from_pretrained, folder, trust_remote_code=False)
    print("save_pretrained and back")


@torch.no_grad()
def main(folder, scratch):
    expected = load_file(scratch / "expected.safetensors")
    ids = expected["input_ids"]
    tokenizer = check_settings(folder)
    model = check_models(folder, ids, expected["logits"])
    check_pipeline(folder, model, tokenizer)
    check_saving(scratch / "saved", model, tokenizer, ids)
    for load in (AutoModelForCausalLM.from_pretrained, AutoModel.from_pretrained, LlamaForCausalLM.from_pretrained):
        refused(load, folder)
    refused(pipeline, "text-generation", model=str(folder))
    print("refused without trust_remote_code")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
