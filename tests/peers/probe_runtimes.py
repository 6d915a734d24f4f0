"""What `ropext probe` finds in an installed vLLM or mlx-lm, on configurations that work and on some that do nothing.

    python tests/peers/probe_runtimes.py vllm
    python tests/peers/probe_runtimes.py mlx

Needs the runtime to be importable; no GPU. Prints the verdict of each configuration, and the keys that are ignored.
"""

import sys
from importlib import import_module

from ropext.converter.probe.api import probe_config
from tests.converter.probe.test_probe import (
    GEMMA,
    LINEAR,
    LLAMA,
    LLAMA3,
    LONGROPE,
    MROPE,
    QWEN3_VL,
    SWITCHING,
    TEXT,
    YARN,
    text,
)

BASE = {**LLAMA, "head_dim": 32, "intermediate_size": 64, "rms_norm_eps": 1e-6, "vocab_size": 64}
BASE |= {"tie_word_embeddings": True}
AXES = {**YARN, "rope_theta": 1e6, "mrope_section": [8, 4, 4]}
QWEN2_5_VL = {
    "model_type": "qwen2_5_vl",
    "architectures": ["Qwen2_5_VLForConditionalGeneration"],
    "text_config": {**TEXT, "model_type": "qwen2_5_vl_text", "rope_theta": 1e6, "rope_scaling": AXES},
}
CONFIGS = {
    **{
        f"{scaling['rope_type']} in {key}": {**BASE, key: {**scaling, "rope_theta": 5e5}, "rope_theta": 5e5}
        for scaling in (YARN, LINEAR, LLAMA3, LONGROPE)
        for key in ("rope_scaling", "rope_parameters")
    },
    "yarn, attention_factor": {**BASE, "rope_scaling": {**YARN, "attention_factor": 1.0}, "rope_theta": 5e5},
    "longrope of two tables": {
        **BASE,
        "rope_scaling": SWITCHING,
        "rope_theta": 5e5,
        "original_max_position_embeddings": 1024,
    },
    "misspelt beta_fast": {**BASE, "rope_scaling": {**YARN, "beta_fst": 16}, "rope_theta": 5e5},
    "scaling beside parameters": {**BASE, "rope_scaling": YARN, "rope_parameters": {"rope_theta": 1e6}},
    "Qwen3-VL, yarn in text_config": text(QWEN3_VL, rope_parameters={**YARN, **MROPE}),
    "Qwen3-VL, linear at the top": {**QWEN3_VL, "rope_scaling": LINEAR},
    "Qwen2.5-VL, yarn in text_config": QWEN2_5_VL,
    "Gemma 3, linear": GEMMA,
    "Gemma 3, one dictionary": text(GEMMA, rope_scaling=None, rope_parameters={**LINEAR, "factor": 8.0}),
}


def main() -> None:
    tables = import_module(f"ropext.converter.probe.in_{sys.argv[1]}").tables
    for name, config in CONFIGS.items():
        found = probe_config(config, tables)
        keys = ", ".join(each.key for each in found.ignored)
        print(f"{name:34} {found.verdict:9} {keys}{'; '.join(found.notes)[:120]}")


if __name__ == "__main__":
    main()
