"""What is estimated for a prefill is what torch allocates, and lengths and memories answer each other."""

import math

import pytest
import torch
from torch.profiler import ProfilerActivity, profile
from transformers import CONFIG_MAPPING, AutoModelForCausalLM

from ropext.converter.memory.estimate import RUNTIMES, Load, cache_bytes, longest, need
from ropext.converter.memory.shape import Layer, Shape, shape_of

LENGTH = 1024
KERNELS = 1 << 20
"""Bytes that kernels take for themselves whatever the length: more where the CPU multiplies in bfloat16."""
COMMON = {
    "vocab_size": 512,
    "hidden_size": 256,
    "intermediate_size": 704,
    "num_hidden_layers": 4,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "max_position_embeddings": 4096,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
EXPERTS = {"num_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 128}
SLIDING = {"layer_types": ["sliding_attention"] * 3 + ["full_attention"], "sliding_window": 128}
CASES = {
    "llama": {},
    "qwen3": {},
    "phi3": {},
    "gemma": {},
    "olmo2": {},
    "gemma3_text": SLIDING,
    "mistral": {"sliding_window": 128},
    "qwen3_moe": EXPERTS,
    "qwen3_moe+wide": {**EXPERTS, "moe_intermediate_size": 512},
    "llama+narrow": {"intermediate_size": 16},
    "llama+heads": {"intermediate_size": 16, "num_key_value_heads": 8},
    "gpt_oss": {"num_local_experts": 8, "num_experts_per_tok": 2, "sliding_window": 128, "intermediate_size": 128},
}


def allocated(action):
    """The most bytes that torch held at once, of what it allocated meanwhile."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as found:
        action()
    now = most = 0
    for event in found.profiler.kineto_results.events():
        if event.name() == "[memory]":
            now += event.nbytes()
            most = max(most, now)
    return most


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@torch.no_grad()
def test_a_prefill(name, dtype):
    config = CONFIG_MAPPING[name.partition("+")[0]](**{**COMMON, **CASES[name]})
    model = AutoModelForCausalLM.from_config(config).to(getattr(torch, dtype)).eval()
    ids = torch.randint(4, 500, (1, LENGTH), generator=torch.Generator().manual_seed(0))
    model(ids[:, :32])
    kept = []
    most = allocated(lambda: kept.append(model(ids, use_cache=True, logits_to_keep=1)))
    found = need(shape_of(config.to_dict()), RUNTIMES["transformers"], Load(1, dtype, "", 0, {}), LENGTH)
    assert found.total == pytest.approx(most, rel=0.1, abs=KERNELS)


WIDTH = 64
PLAIN = Shape("llama", WIDTH, WIDTH, 4, 16, 3 * 96, 128, (Layer("full", 32, 32),) * 4)
SLIDES = Shape("llama", WIDTH, WIDTH, 4, 16, 3 * 96, 128, (Layer("sliding", 32, 32, window=100),) * 4)


def asked(**changes):
    return Load(**{"batch": 1, "dtype": "bfloat16", "kv_dtype": "", "weights": 1000, "copied": {}, **changes})


@pytest.mark.parametrize("runtime", RUNTIMES.values(), ids=RUNTIMES)
def test_the_longest_fits_and_one_more_does_not(runtime):
    for memory in (10_000_000, 123_456_789):
        found = longest(PLAIN, runtime, asked(), memory)
        assert need(PLAIN, runtime, asked(), found).total <= memory
        assert need(PLAIN, runtime, asked(), found + 1).total > memory


def test_nothing_fits_into_less_than_the_weights():
    assert longest(PLAIN, RUNTIMES["mlx"], asked(), 999) == 0


def test_a_cache_by_hand():
    assert cache_bytes(PLAIN, 1000, 1, 2.0) == 4 * 1000 * 64 * 2
    assert cache_bytes(PLAIN, 1000, 3, 4.0) == 3 * 4 * 1000 * 64 * 4
    assert cache_bytes(SLIDES, 1000, 1, 2.0) == 4 * 99 * 64 * 2
    assert cache_bytes(SLIDES, 50, 1, 2.0) == 4 * 50 * 64 * 2


def test_blocks_types_and_copies():
    at = {name: need(PLAIN, RUNTIMES[name], asked(copied={"vllm": math.inf, "mlx": 100}), 1000) for name in RUNTIMES}
    assert at["vllm"].cache["full"] == 4 * 1008 * 64 * 2
    assert at["vllm"].method == 4 * 1008 * 64 * 2
    assert at["mlx"].method == 4 * 100 * 32 * 2
    assert at["transformers"].method == 0
    assert at["llama.cpp"].cache["full"] == 4 * 1024 * 64 * 2
    eight = need(PLAIN, RUNTIMES["llama.cpp"], asked(kv_dtype="int8"), 1024)
    assert eight.cache["full"] == 4 * 1024 * 64 * 34 / 32


def test_a_vllm_that_keeps_a_window_and_a_piece():
    found = need(SLIDES, RUNTIMES["vllm"], asked(), 100_000)
    assert found.cache["sliding"] == 4 * 8304 * 64 * 2
