"""How llama.cpp serves a model: by its flags on a GGUF file of the base.

`--grp-attn-n`, its own SelfExtend, is never among them. `llama_kv_cells::pos_div` shifts keys by the opposite sign of
`pos_add`, so that divided keys turn the wrong way: log-probabilities of 600 tokens were off by 3.6 (root mean square).
"""

from __future__ import annotations

import math
from typing import Any

from .model import Model, Offer, refusal

__all__ = ["llama_cpp"]

_BASE = "base.gguf"
_PATCHED = "longer.gguf"


def llama_cpp(model: Model) -> Offer:
    """Return llama.cpp's offer."""
    if model.kind == "code":
        return refusal("llama.cpp", model, "llama.cpp runs no code of a checkpoint, and its --grp-attn-n is wrong")
    serve = f"llama-server -m {_BASE}{model.option('-c')}"
    note = f"{_BASE} is a GGUF file of the base model"
    if model.kind == "base" or model.method == "original":
        return Offer("llama.cpp", (serve,), notes=(note,))
    if why := _not_everywhere(model):
        return refusal("llama.cpp", model, why, "serve it with vLLM or transformers")
    rope = model.rope
    kind = rope.get("rope_type", rope.get("type"))
    if kind == "longrope":
        return _patched(model)
    if kind == "yarn":
        return Offer("llama.cpp", (serve + _yarn(rope),), notes=(note,))
    if kind == "linear":
        return Offer("llama.cpp", (f"{serve} --rope-scaling linear --rope-scale {rope['factor']:g}",), notes=(note,))
    if kind == "default":
        return Offer("llama.cpp", (f"{serve} --rope-freq-base {rope['rope_theta']!r}",), notes=(note,))
    return refusal("llama.cpp", model, f"llama.cpp knows no rope_type {kind}")


def _not_everywhere(model: Model) -> str:
    """Say why flags, which hold for every layer, do not mean the method; empty where they do."""
    pairs = model.config["rope_ext"].get("pairs", {})
    count = model.text.get("num_hidden_layers")
    if model.text is not model.config:
        return "its flags were not tried with image-text models"
    if isinstance(count, int) and pairs.get("layers") and len(pairs["layers"]) != count:
        return "its flags hold for every layer, and the method acts on some"
    if model.config.get("kv_lora_rank"):
        return "its flags were not tried with latent attention"
    return ""


def _patched(model: Model) -> Offer:
    if model.config.get("model_type") != "llama":
        return refusal("llama.cpp", model, "llama.cpp applies divisors to the llama architecture only")
    preset = model.config["rope_ext"].get("preset")
    patch = f"ropext gguf-patch {_BASE} {_PATCHED} --preset {preset}"
    note = f"{_BASE} is a GGUF file of the base; a GGUF file made of this folder has plain RoPE, without a message"
    commands = ("pip install 'ropext[gguf]'", patch, f"llama-server -m {_PATCHED}{model.option('-c')}")
    return Offer("llama.cpp", commands, notes=(note, f"{preset} is a shipped preset, or the file of yours"))


def _yarn(rope: dict[str, Any]) -> str:
    """Return YaRN's flags; llama.cpp scales attention by 0.1 ln(s) + 1 times its factor."""
    factor = float(rope["factor"])
    flags = f" --rope-scaling yarn --rope-scale {factor:g} --yarn-orig-ctx {rope['original_max_position_embeddings']}"
    written, usual = rope.get("attention_factor"), 0.1 * math.log(factor) + 1 if factor > 1 else 1.0
    if written is not None and not math.isclose(written, usual, rel_tol=1e-6):
        flags += f" --yarn-attn-factor {written / usual:.7g}"
    for key, option, default in (("beta_fast", "--yarn-beta-fast", 32), ("beta_slow", "--yarn-beta-slow", 1)):
        if rope.get(key) not in (None, default):
            flags += f" {option} {rope[key]:g}"
    return flags
