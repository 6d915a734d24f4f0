"""Whether the weights of a converted checkpoint are those that its configuration asks for: names and shapes."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import Any

import torch

from .converted import Converted
from .verify_parts import build, fitted, layer_of, quiet, require_text_only, total_layers
from .verify_places import Shapes

__all__ = ["shape_faults"]


def shape_faults(converted: Converted, held: Shapes) -> Iterator[str]:
    """Name the tensors that the configuration asks for and the weights do not have, or have otherwise.

    Of quantized matrices, whose tensors a quantizer names, there has to be something; experts, which transformers
    stores one by one or joined, are counted.

    Args:
        converted: the checkpoint.
        held: the shapes that its files of weights name.

    Raises:
        Unchecked: it is a kind of checkpoint that is not compared.
    """
    require_text_only(converted)
    config, layers = converted.config, total_layers(converted)
    with quiet(), torch.device("meta"):
        model = build(converted, fitted(config, layers))
    start = f"{model.base_model_prefix}."  # which transformers adds or takes away where a head is or is not there
    wanted = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    found = {name.removeprefix(start): tuple(shape) for name, shape in held.items()}
    mixture = any(key in config for key in _COUNTS_OF_EXPERTS)
    yield from _tensor_faults(converted, model, wanted, found, mixture=mixture)
    if mixture and not config.get("quantization_config"):
        yield from _expert_faults(wanted, found, layers)
    known = [re.compile(each) for each in getattr(model, "_keys_to_ignore_on_load_unexpected", None) or ()]
    for name in held:
        if layer_of(name) >= layers and not any(pattern.search(name) for pattern in known):
            yield f"{name} belongs to a layer beyond the {layers} of the configuration"


def _tensor_faults(converted: Converted, model: Any, wanted: Shapes, found: Shapes, *, mixture: bool) -> Iterator[str]:
    config, start = converted.config, f"{model.base_model_prefix}."
    quantized = bool(config.get("quantization_config"))
    modules = {name[: dot.start()] for name in found for dot in re.finditer(r"\.", name)}
    ties = config.get("tie_word_embeddings", model.config.tie_word_embeddings)
    tied = {"lm_head.weight", *(getattr(model, "_tied_weights_keys", None) or ())} if ties else set()
    for name, shape in wanted.items():
        stored = name.removeprefix(start)
        if mixture and _EXPERTS.search(name):
            continue
        if quantized and not re.search("norm|embed_tokens", name):
            missing = stored.rpartition(".")[0] not in modules
        else:
            missing = stored not in found
            if not missing and found[stored] != shape:
                yield f"{name} is {list(found[stored])}, and the configuration asks for {list(shape)}"
        if missing and name not in tied:
            yield f"{name} is missing"


_COUNTS_OF_EXPERTS = ("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts")
_EXPERTS = re.compile(r"layers\.\d+\.(mlp|block_sparse_moe|feed_forward)\.")
"""What is called otherwise in a file than in a mixture's model."""


def _expert_faults(wanted: Shapes, found: Shapes, layers: int) -> Iterator[str]:
    """Compare how many numbers the experts of each layer have, with what is beside them."""
    asked, there = ([0] * layers for _ in range(2))
    for shapes, numbers in ((wanted, asked), (found, there)):
        for name, shape in shapes.items():
            if _EXPERTS.search(name) and layer_of(name) < layers:
                numbers[layer_of(name)] += math.prod(shape)
    for layer in range(layers):
        if asked[layer] != there[layer]:
            yield (
                f"the experts of layer {layer} have {there[layer]:,} numbers, and the configuration asks for "
                f"{asked[layer]:,}"
            )
