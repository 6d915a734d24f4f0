"""What transformers makes of a longrope that is the base for short prompts and a table of its own for longer ones.

    python tests/peers/longrope_switch.py BASE [--switch 1024] [--factor 4]

BASE is the folder of a Llama. The configuration is written by hand: `short_factor` all ones, `long_factor` MrRoPE's
uniform shape, `original_max_position_embeddings` the length where it switches. Prints whether a short prompt is the
base's bit for bit, and the loss of 256 tokens beyond the switch: read in one forward, and after a cache that was filled
before it. No attention factor.
"""

import argparse
import json
import pydoc_data.topics
import tempfile
from pathlib import Path

import torch
import transformers
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from ropext.converter.checkpoint.description import base_inv_freq, describe
from ropext.converter.checkpoint.facts import read_config
from ropext.converter.methods.profile import banded

BEFORE, BEYOND = 32, 256


def switching(config, short, factors, length):
    """A configuration with two lists of factors."""
    scaling = {
        "rope_type": "longrope",
        "short_factor": short,
        "long_factor": factors,
        "factor": 1.0,
        "attention_factor": 1.0,
        "original_max_position_embeddings": length,
    }
    changed = {"rope_scaling": scaling, "rope_parameters": {**scaling, "rope_theta": config["rope_theta"]}}
    # Transformers 4 looks for the length at the top alone.
    return {**config, **changed, "original_max_position_embeddings": length}


def load(folder, config):
    with tempfile.TemporaryDirectory() as name:
        (Path(name) / "config.json").write_text(json.dumps(config))
        read = AutoConfig.from_pretrained(name)
    return AutoModelForCausalLM.from_pretrained(folder, config=read, dtype=torch.float32).eval()


def losses(model, ids, length):
    """Of the tokens beyond the switch: in one forward, and after a cache of what comes before it."""
    wanted = ids[0, length:]
    whole = model(ids[:, :-1]).logits[0, length - 1 :]
    cache = model(ids[:, : length - BEFORE]).past_key_values
    after = model(ids[:, length - BEFORE : -1], past_key_values=cache).logits[0, BEFORE - 1 :]
    return [torch.nn.functional.cross_entropy(each, wanted).item() for each in (whole, after)]


@torch.no_grad()
def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("base", type=Path)
    parser.add_argument("--switch", type=int, default=1024)
    parser.add_argument("--factor", type=float, default=4.0)
    asked = parser.parse_args()
    config, _ = read_config(asked.base)
    config["rope_theta"] = describe(config).rope.theta  # transformers 4 looks for it at the top alone
    frequencies, trained = base_inv_freq(config), config["max_position_embeddings"]
    turns = [trained * frequency / (2 * torch.pi) for frequency in frequencies]
    factors = [1 / each for each in banded(turns, "uniform", asked.factor, 32, 1)]
    text = "\n".join(pydoc_data.topics.topics[name] for name in sorted(pydoc_data.topics.topics))
    ids = AutoTokenizer.from_pretrained(asked.base)(text, return_tensors="pt").input_ids[:, : asked.switch + BEYOND]
    ones = [1.0] * len(factors)
    models = {
        "the base": load(asked.base, config),
        "one table": load(asked.base, switching(config, factors, factors, trained)),
        "a switch": load(asked.base, switching(config, ones, factors, asked.switch)),
    }
    short = [models[name](ids[:, : asked.switch]).logits for name in ("the base", "a switch")]
    print(f"transformers {transformers.__version__}, {asked.switch} tokens as the base: {torch.equal(*short)}")
    for name, model in models.items():
        whole, after = losses(model, ids, asked.switch)
        print(f"{name:12} in one forward {whole:.3f}, after a cache {after:.3f} nats a token")


if __name__ == "__main__":
    main()
