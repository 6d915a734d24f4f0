"""Tiny converted models, by method, and the base that they share."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from transformers import LlamaForCausalLM

from ropext.converter.checkpoint.model_cache import cache_name
from ropext.converter.model_classes import configuration_class, model_class
from ropext.modeling.configuration_llama_ext import GUARD

DATA = Path(__file__).parents[1] / "data"
TINY_LLAMA = DATA / "tiny-llama"
CACHE = cache_name(LlamaForCausalLM)
"""What this transformers calls the cache."""
INITIAL_WINDOW = 64
TARGET_WINDOW = 256
INV_FREQ = (1.0 / (10000.0 ** (torch.arange(0, 16, 2).float() / 16))).tolist()
NO_NOISE = {
    "distribution": "none",
    "std": 1.0,
    "scale_by_distance": True,
    "interpolated_only": True,
    "seed": 0,
}
DPE = {"local_window": 16, "scale_factors": [2, 8, 4, 16], "dimension_groups": [0, 2, 4, 6, 8]}
DCA = {"chunk_size": 40, "local_window": 8}
GALI = {
    "chunk_size": 24,
    "chunk_ends": "input",
    "local_window": 8,
    "logit_interpolation": True,
    "noise": NO_NOISE,
}
YARN = {"scaling_factor": 4.0, "attention_factor": 1.1386, "beta_fast": 32, "beta_slow": 1, "truncate": True}
PROFILE = {"shape": "uniform", "scaling_factor": 4.0, "attention_factor": 1.1386, "beta_fast": 32, "beta_slow": 1}
LOCAL_PROFILE = {"local_window": 13, "factors": [0.5 ** (1 + i / 4) for i in range(8)]}
BANDS = {"regions": [{"from": 13, "scale_factor": 2}, {"from": 29, "scale_factor": 5}], "whole_positions": True}
THREE_REGIONS = [
    {"from": 12, "scale_factor": [1.5, 3]},
    {"from": 30, "scale_factor": [2, 8]},
    {"from": 60, "scale_factor": 1},
]
LAMPE = {
    "form": "paper",
    "local_window": 12,
    "tail": 10,
    "mapping_length": 40,
    "full_length": 80,
    "attention_factor": 1.0,
}
SELECTED = np.random.default_rng(0).random((3, 4, 8)) < 0.6


@dataclass(frozen=True)
class Case:
    """A method with its parameters.

    Attributes:
        feeding: its logits do not depend on how the input is cut into forwards.
    """

    method: str
    parameters: dict[str, Any]
    tables: dict[str, Any] = field(default_factory=dict)
    inv_freq: list[float] = field(default_factory=lambda: INV_FREQ)
    feeding: bool = True


def sets(parameters: dict[str, Any]) -> list[dict[str, Any]]:
    """Parameters, and those that some layers have of their own."""
    return [parameters, *(entry["parameters"] for entry in parameters.get("by_layer", ()))]


def packed(booleans: np.ndarray) -> dict[str, Any]:
    """As the configuration holds them."""
    bits = np.packbits(booleans, bitorder="little").tobytes()
    return {"shape": list(booleans.shape), "bits": base64.b64encode(bits).decode()}


CASES = {
    "original": Case("original", {}),
    "self_extend": Case("self_extend", {"group_size": 4, "local_window": 16}),
    "self_extend_uneven": Case("self_extend", {"group_size": 5, "local_window": 13, "query_scaling": True}),
    "self_extend_activate": Case("self_extend", {"group_size": 4, "local_window": 16, "activate_beyond": 40}),
    "self_extend_by_layer": Case(
        "self_extend",
        {
            "group_size": 4,
            "local_window": 16,
            "by_layer": [
                {"layers": [0], "parameters": {"group_size": 3, "local_window": 24, "query_scaling": True}},
                {"layers": [1, 2], "parameters": {"group_size": 5, "local_window": 9, "activate_beyond": 40}},
            ],
        },
    ),
    "rerope": Case("rerope", {"local_window": 20}),
    "rerope_activate": Case("rerope", {"local_window": 20, "activate_beyond": 50}),
    "rerope_leaky": Case("rerope", {"local_window": 20, "leak": 3.5, "query_scaling": True}),
    "string": Case("string", {"shift": 21, "local_window": 8}),
    "string_activate": Case("string", {"shift": 21, "local_window": 8, "query_scaling": True, "activate_beyond": 50}),
    "jet_long": Case("jet_long", {"window": 48, "local_window": 16}, feeding=False),
    "jet_long_activate": Case(
        "jet_long", {"window": 48, "local_window": 16, "query_scaling": True, "activate_beyond": 70}, feeding=False
    ),
    "dca": Case("dca", DCA | {"temperature": False}),
    "dca_temperature": Case("dca", DCA | {"temperature": True}, feeding=False),
    "dca_activate": Case("dca", DCA | {"temperature": False, "activate_beyond": 60}),
    "dca_temperature_activate": Case(
        "dca", DCA | {"temperature": True, "query_scaling": True, "activate_beyond": 70}, feeding=False
    ),
    "dpe": Case("dpe", DPE),
    "dpe_uneven": Case(
        "dpe", {"local_window": 13, "scale_factors": [3, 5], "dimension_groups": [0, 3, 8], "query_scaling": True}
    ),
    "dpe_top_k": Case("dpe", DPE | {"top_k": 5}, {"selected_pairs": packed(SELECTED)}),
    "dpe_activate": Case("dpe", DPE | {"activate_beyond": 40}),
    "dpe_by_layer": Case(
        "dpe",
        DPE | {"by_layer": [{"layers": [1], "parameters": DPE | {"local_window": 9, "top_k": 5}}], "top_k": 5},
        {"selected_pairs": packed(SELECTED)},
    ),
    "local_profile": Case("local_profile", LOCAL_PROFILE | {"joined": True, "attention_factor": 1.0}),
    "local_profile_apart": Case("local_profile", LOCAL_PROFILE | {"joined": False, "attention_factor": 1.1}),
    "local_profile_activate": Case(
        "local_profile",
        LOCAL_PROFILE | {"joined": True, "attention_factor": 1.1, "query_scaling": True, "activate_beyond": 40},
    ),
    "bands": Case("bands", BANDS),
    "bands_activate": Case("bands", BANDS | {"activate_beyond": 50, "query_scaling": True}),
    "bands_groups": Case(
        "bands",
        {
            "regions": THREE_REGIONS,
            "whole_positions": False,
            "dimension_groups": [0, 3, 8],
            "attention_factor": 1.1,
            "query_scaling": True,
        },
    ),
    "dprope": Case("dprope", {}, inv_freq=[w / f for w, f in zip(INV_FREQ, [1, 1, 4, 1, 4, 4, 4, 4], strict=True)]),
    "lampe": Case("lampe", LAMPE),
    "lampe_step": Case("lampe", LAMPE | {"mapping_length": 48, "length_step": 16}, feeding=False),
    "lampe_program": Case("lampe", LAMPE | {"form": "program", "tail": 0, "attention_factor": 1.069}),
    "linear": Case("linear", {"scaling_factor": 4.0}, inv_freq=[w / 4 for w in INV_FREQ]),
    "ntk": Case("ntk", {"scaling_factor": 4.0}, inv_freq=[w / 4 ** (i / 7) for i, w in enumerate(INV_FREQ)]),
    "yarn": Case("yarn", YARN, inv_freq=[w / f for w, f in zip(INV_FREQ, [1, 1.2, 2, 3, 4, 4, 4, 4], strict=True)]),
    "profile": Case("profile", PROFILE, inv_freq=[w / 4 ** (i / 7) ** 2 for i, w in enumerate(INV_FREQ)]),
    "dynamic_ntk": Case("dynamic_ntk", {"scaling_factor": 4.0}, feeding=False),
    "gali": Case("gali", GALI, feeding=False),
    "gali_grid": Case("gali", GALI | {"chunk_ends": "grid"}),
    "gali_fraction": Case("gali", GALI | {"chunk_size": 0.3, "chunk_ends": "grid", "query_scaling": True}),
    "gali_positions": Case("gali", GALI | {"logit_interpolation": False, "chunk_ends": "grid", "query_scaling": True}),
    "gali_activate": Case("gali", GALI | {"activate_beyond": 80, "chunk_ends": "grid"}),
    "gali_noise": Case("gali", GALI | {"chunk_ends": "grid", "noise": NO_NOISE | {"distribution": "gaussian"}}),
}


@cache
def weights() -> dict[str, torch.Tensor]:
    return load_file(TINY_LLAMA / "model.safetensors")


def block(case: Case) -> dict[str, Any]:
    """The `rope_ext` block of a configuration."""
    return {
        "format": 2,
        "ropext_version": "0",
        "method": case.method,
        "preset": "tiny",
        "initial_window": INITIAL_WINDOW,
        "target_window": TARGET_WINDOW,
        "parameters": case.parameters,
        "inv_freq": case.inv_freq,
        "pairs": {"layers": [0, 1, 2], "layout": "halves", "first": 0, "sign": 1, "inv_freq": INV_FREQ},
        "tables": case.tables,
        "base": {"hidden_act": "silu", "rope_theta": 10000.0, "rope_scaling": None},
    }


def converted(case: Case | str, attn: str = "sdpa", dtype: torch.dtype = torch.float32) -> Any:
    """The tiny model with a method."""
    source = json.loads((TINY_LLAMA / "config.json").read_text())
    del source["architectures"]
    source["max_position_embeddings"] = TARGET_WINDOW
    source |= {"hidden_act": GUARD, "rope_scaling": {"rope_type": GUARD}}
    config = configuration_class("llama")(rope_ext=block(CASES[case] if isinstance(case, str) else case), **source)
    config._attn_implementation = attn
    model = model_class("llama", config.rope_ext["method"])(config)
    model.load_state_dict(weights())
    model.generation_config.eos_token_id = None
    return model.eval().to(dtype)


def base(attn: str = "sdpa", dtype: torch.dtype = torch.float32) -> Any:
    """The tiny model as it is."""
    model: Any = LlamaForCausalLM.from_pretrained(TINY_LLAMA, attn_implementation=attn)
    model.generation_config.eos_token_id = None
    return model.eval().to(dtype)


def tokens(length: int, seed: int = 0, rows: int = 1) -> torch.Tensor:
    """[rows, length] random token ids above the special ones."""
    return torch.randint(3, 128, (rows, length), generator=torch.Generator().manual_seed(seed))


def left_padded(*rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids and mask of rows [1, any length]."""
    width = max(row.shape[1] for row in rows)
    ids = torch.cat([torch.nn.functional.pad(row, (width - row.shape[1], 0)) for row in rows])
    mask = torch.stack([torch.arange(width) >= width - row.shape[1] for row in rows]).long()
    return ids, mask


def generate(model: Any, ids: torch.Tensor, mask: torch.Tensor | None = None, **how: Any) -> torch.Tensor:
    """The new tokens, [rows, max_new_tokens]."""
    how = {"do_sample": False, "max_new_tokens": 6, "pad_token_id": 0} | how
    mask = torch.ones_like(ids) if mask is None else mask
    new: torch.Tensor = model.generate(ids, attention_mask=mask, **how)[:, ids.shape[1] :]
    return new


def from_folder(folder: Path) -> tuple[Any, dict[str, Any]]:
    """The shipped classes as a converted tiny model's folder configures them, and its `rope_ext` block."""
    config = json.loads((folder / "config.json").read_text())
    model = model_class("llama", config["rope_ext"]["method"])(configuration_class("llama")(**config))
    model.load_state_dict(weights())
    return model.eval(), config["rope_ext"]
