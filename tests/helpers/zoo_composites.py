"""Tiny stock image-text models, one row of `TEXT` and of `AROUND` each, and inputs that hold an image."""

from __future__ import annotations

import copy
import inspect
from functools import cache
from typing import Any

import torch
from torch import Tensor
from transformers import CONFIG_MAPPING, AutoModelForImageTextToText
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING,
    MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES,
)

from .zoo import COMMON, FULL, GEMMA_4, QWEN3_5, SLIDING, V4, YARN, Row, fill, rope

VOCABULARY = 160
IMAGE, VIDEO, START, END = 150, 151, 152, 153
SPECIAL = [*range(140, VOCABULARY)]
"""Tokens that stand for pictures, and the free ones around them: never generated."""

EXPERTS = {
    "moe_intermediate_size": 32,
    "shared_expert_intermediate_size": 32,
    "num_experts": 4,
    "num_experts_per_tok": 2,
}
DELTA = {
    "linear_num_value_heads": 4,
    "linear_num_key_heads": 2,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
    **QWEN3_5,
}
QWEN3_VL = rope(mrope_section=[4, 2, 2], mrope_interleaved=True)
MINISTRAL3 = rope(
    "yarn",
    **YARN
    | {"mscale": 1.0, "mscale_all_dim": 1.0, "llama_4_scaling_beta": 0.1, "original_max_position_embeddings": 32},
)

TEXT: dict[str, Row] = {
    "gemma3": {"model_type": "gemma3_text", "query_pre_attn_scalar": 16, "sliding_window": 24, **SLIDING},
    "gemma4": {
        "model_type": "gemma4_text",
        "sliding_window": 24,
        "hidden_size_per_layer_input": 8,
        "vocab_size_per_layer_input": VOCABULARY,
        "num_kv_shared_layers": 0,
        **GEMMA_4,
    },
    "idefics3": {"model_type": "llama", **rope()},
    "internvl": {"model_type": "qwen2", "use_sliding_window": False, **rope()},
    "llava": {"model_type": "llama", **rope()},
    "llava_next": {"model_type": "mistral", **FULL, **rope()},
    "mistral3": {"model_type": "mistral", **FULL, **rope()},
    "mistral3+ministral3": {"model_type": "ministral3", **FULL, **MINISTRAL3},
    "qwen2_5_vl": {"model_type": "qwen2_5_vl_text", "use_sliding_window": False, **rope(mrope_section=[2, 3, 3])},
    "qwen3_5": {"model_type": "qwen3_5_text", **DELTA},
    "qwen3_5_moe": {"model_type": "qwen3_5_moe_text", **EXPERTS, **DELTA},
    "qwen3_vl": {"model_type": "qwen3_vl_text", **QWEN3_VL},
    "qwen3_vl_moe": {"model_type": "qwen3_vl_moe_text", **EXPERTS, **QWEN3_VL},
    "smolvlm": {"model_type": "llama", **rope()},
}
"""The text model inside, beside what all have; after a plus sign, a variant."""

SMALL = {"hidden_size": 32, "intermediate_size": 48, "num_attention_heads": 2}
SIGLIP = {**SMALL, "num_hidden_layers": 2, "image_size": 16, "patch_size": 4}
CLIP = {**SIGLIP, "model_type": "clip_vision_model", "projection_dim": 16, "vocab_size": VOCABULARY}
QWEN = {
    "depth": 2,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_heads": 2,
    "patch_size": 4,
    "spatial_merge_size": 2,
    "temporal_patch_size": 2,
    "out_hidden_size": 64,
    "num_position_embeddings": 64,
}
QWEN_IDS = {
    "image_token_id": IMAGE,
    "video_token_id": VIDEO,
    "vision_start_token_id": START,
    "vision_end_token_id": END,
}
GEMMA_4_VISION = {
    **SMALL,
    "model_type": "gemma4_vision",
    "num_hidden_layers": 2,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "patch_size": 4,
    "pooling_kernel_size": 2,
    "position_embedding_size": 64,
}
UNTIED = {"tie_word_embeddings": False}

AROUND: dict[str, Row] = {
    "gemma3": {
        "vision_config": {**SIGLIP, "model_type": "siglip_vision_model", "vision_use_head": False},
        "mm_tokens_per_image": 4,
        "image_token_index": IMAGE,
        "boi_token_index": START,
        "eoi_token_index": END,
        **UNTIED,
    },
    "gemma4": {
        "vision_config": GEMMA_4_VISION,
        "audio_config": None,
        "image_token_id": IMAGE,
        "video_token_id": VIDEO,
        "boi_token_id": START,
        "eoi_token_id": END,
        "audio_token_id": 154,
        "boa_token_id": 155,
        "eoa_token_index": 156,
        **UNTIED,
    },
    "idefics3": {"vision_config": SIGLIP, "image_token_id": IMAGE, "scale_factor": 2, "pad_token_id": 0, **UNTIED},
    "internvl": {
        "vision_config": {**SIGLIP, "model_type": "internvl_vision"},
        "image_token_id": IMAGE,
        "image_seq_length": 4,
        "downsample_ratio": 0.5,
        **UNTIED,
    },
    "llava": {"vision_config": CLIP, "image_token_index": IMAGE, "image_seq_length": 16, **UNTIED},
    "llava_next": {
        "vision_config": CLIP,
        "image_token_index": IMAGE,
        "image_seq_length": 16,
        "image_grid_pinpoints": [[16, 16]],
        **UNTIED,
    },
    "mistral3": {
        "vision_config": {**SIGLIP, "model_type": "pixtral", "head_dim": 16},
        "image_token_index": IMAGE,
        "spatial_merge_size": 2,
        **UNTIED,
    },
    "qwen2_5_vl": {"vision_config": {**QWEN, "window_size": 16, "fullatt_block_indexes": [1]}, **QWEN_IDS},
    "qwen3_5": {"vision_config": {**QWEN, "model_type": "qwen3_5_vision"}, **QWEN_IDS},
    "qwen3_5_moe": {"vision_config": {**QWEN, "model_type": "qwen3_5_moe_vision"}, **QWEN_IDS},
    "qwen3_vl": {"vision_config": {**QWEN, "deepstack_visual_indexes": [0]}, **QWEN_IDS},
    "qwen3_vl_moe": {"vision_config": {**QWEN, "deepstack_visual_indexes": [0]}, **QWEN_IDS},
    "smolvlm": {"vision_config": SIGLIP, "image_token_id": IMAGE, "scale_factor": 2, **UNTIED},
}
"""What is around the text model."""

IMAGES: dict[str, tuple[int, Row]] = {
    "gemma3": (4, {"pixel_values": (1, 3, 16, 16)}),
    "gemma4": (4, {"pixel_values": (1, 16, 48)}),
    "idefics3": (4, {"pixel_values": (1, 1, 3, 16, 16)}),
    "internvl": (4, {"pixel_values": (1, 3, 16, 16)}),
    "llava": (16, {"pixel_values": (1, 3, 16, 16)}),
    "llava_next": (36, {"pixel_values": (1, 2, 3, 16, 16), "image_sizes": [[16, 16]]}),
    "mistral3": (4, {"pixel_values": (1, 3, 16, 16), "image_sizes": [[16, 16]]}),
    "smolvlm": (4, {"pixel_values": (1, 1, 3, 16, 16)}),
}
"""Tokens of one image, and what comes with it: random numbers of a shape, or given ones."""
QWEN_IMAGE: tuple[int, Row] = (24, {"pixel_values": (8 * 12, 3 * 2 * 4 * 4), "image_grid_thw": [[1, 8, 12]]})


def available(name: str) -> bool:
    """Whether the installed transformers has the type, and its text model."""
    model_type = name.partition("+")[0]
    known = {model_type, TEXT[name]["model_type"]} <= set(CONFIG_MAPPING)
    return known and model_type in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES


def config(name: str) -> Any:
    """The tiny configuration of a type."""
    model_type = name.partition("+")[0]
    text = {**COMMON, "vocab_size": VOCABULARY, "head_dim": 16, **TEXT[name]}
    return CONFIG_MAPPING[model_type](**copy.deepcopy({**AROUND[model_type], "text_config": text}))


@cache
def weights(name: str) -> dict[str, Tensor]:
    """Seeded weights, of a size at which every part of a layer matters."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = AutoModelForImageTextToText.from_config(config(name))
    fill(model)
    return model.state_dict()


def build(name: str, attn: str = "sdpa", dtype: torch.dtype = torch.float32) -> Any:
    """The tiny stock model of a type."""
    model = AutoModelForImageTextToText.from_config(config(name), attn_implementation=attn)
    model.load_state_dict(weights(name))
    model.generation_config.eos_token_id = None
    return model.eval().to(dtype)


def inputs(name: str, length: int, seed: int = 0, image_at: int = 10) -> dict[str, Tensor]:
    """One row of random tokens, an image among them."""
    model_type = name.partition("+")[0]
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(4, 140, (1, length), generator=generator)
    count, given = IMAGES.get(model_type, QWEN_IMAGE)
    ids[0, image_at : image_at + count] = IMAGE
    if model_type not in IMAGES:
        ids[0, image_at - 1], ids[0, image_at + count] = START, END
    made = {
        key: torch.randn(value, generator=generator) if isinstance(value, tuple) else torch.tensor(value)
        for key, value in given.items()
    }
    return {"input_ids": ids, **made, **companions(model_type, ids)}


def companions(model_type: str, ids: Tensor) -> dict[str, Tensor]:
    """What a processor gives beside ids and pixels, as far as the installed transformers takes it."""
    of_type = MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING[CONFIG_MAPPING[model_type]]
    taken = inspect.signature(of_type.forward).parameters
    is_image = (ids == IMAGE).long()
    found = {"attention_mask": torch.ones_like(ids)} if V4 else {}
    if model_type == "gemma3":
        found["token_type_ids"] = is_image
    elif "mm_token_type_ids" in taken:
        found["mm_token_type_ids"] = is_image
    if model_type == "gemma4":
        square = torch.meshgrid(torch.arange(4), torch.arange(4), indexing="xy")
        found["image_position_ids"] = torch.stack(square, -1).reshape(1, 16, 2)
    return found
