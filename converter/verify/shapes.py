"""Whether transformers would take a converted checkpoint: its weights' names and shapes, its settings of generation."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import torch
import transformers

from ropext.converter.checkpoint.places import Shapes
from ropext.converter.converted.read import Converted
from ropext.converter.errors import RopextError

from .parts import build, fitted, layer_of, quiet, require_text_only, total_layers
from .report import Unchecked

__all__ = ["require_generation", "shape_faults"]


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
    there = 1 + max(map(layer_of, held), default=-1)
    if layers > 2 * there + _MORE:  # and a model of that many would take hours to build
        yield f"the configuration asks for {layers} layers, and the weights have {there}"
        return
    with quiet(), torch.device("meta"):
        model = build(converted, fitted(config, layers))
    wanted = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    names = _names_in_model(model, wanted, held)
    if config.get("quantization_config"):
        _require_known_quantizer(config["quantization_config"])
        yield from _quantized_faults(converted, model, wanted, {names[name][0]: held[name] for name in held})
    else:
        yield from _tensor_faults(converted, model, wanted, names, held)
    known = [re.compile(each) for each in getattr(model, "_keys_to_ignore_on_load_unexpected", None) or ()]
    for name in held:
        if layer_of(name) >= layers and not any(pattern.search(name) for pattern in known):
            yield f"{name} belongs to a layer beyond the {layers} of the configuration"


_MORE = 64
"""Layers beyond those of the weights for which a model is built, to name what is missing."""

_EXPERTS = re.compile(r"layers\.\d+\.(mlp|block_sparse_moe|feed_forward)\.experts\.")
"""What is called otherwise in a file than in a mixture's model, where transformers does not say how."""


def _names_in_model(model: Any, wanted: Shapes, held: Shapes) -> dict[str, tuple[str, bool]]:
    """Return, by the names in files, those in the model, and whether transformers joins or splits such a tensor."""
    try:
        from transformers.conversion_mapping import get_model_conversion_mapping
        from transformers.core_model_loading import WeightConverter, rename_source_key
    except ImportError:  # transformers 4 stores them as it has them, but for the model's prefix
        start = f"{model.base_model_prefix}."
        own = {name.removeprefix(start): name for name in wanted}
        return {name: (own.get(name.removeprefix(start), name), bool(_EXPERTS.search(name))) for name in held}
    rules = get_model_conversion_mapping(model)
    renamings = [rule for rule in rules if not isinstance(rule, WeightConverter)]
    converters = [rule for rule in rules if isinstance(rule, WeightConverter)]
    found = {}
    for name in held:
        target, rule = rename_source_key(name, renamings, converters, model.base_model_prefix, wanted)
        found[name] = (target, rule is not None)
    return found


def _tensor_faults(
    converted: Converted, model: Any, wanted: Shapes, names: Mapping[str, tuple[str, bool]], held: Shapes
) -> Iterator[str]:
    """Compare tensors one by one, and of those that are joined or split on loading how many numbers a layer has."""
    plain = {target: held[name] for name, (target, joined) in names.items() if not joined}
    there: Counter[int] = Counter()
    for name, (target, joined) in names.items():
        if joined:
            there[layer_of(target)] += math.prod(held[name])
    tied, asked = _tied(converted, model), Counter[int]()
    for name, shape in wanted.items():
        if name in plain:
            if tuple(plain[name]) != shape:
                yield f"{name} is {list(plain[name])}, and the configuration asks for {list(shape)}"
        elif layer_of(name) in there:
            asked[layer_of(name)] += math.prod(shape)
        elif name not in tied:
            yield f"{name} is missing"
    for layer in sorted(there):
        if asked[layer] != there[layer]:
            what = "experts" if any(_EXPERTS.search(f"{name}.") for name in wanted) else "joined tensors"
            yield (
                f"the {what} of layer {layer} have {there[layer]:,} numbers, and the configuration asks for "
                f"{asked[layer]:,}"
            )


def require_generation(settings: Mapping[str, Any]) -> None:
    """Refuse settings of generation with which transformers does not load a model.

    Raises:
        RopextError: it says why.
    """
    try:
        with quiet():
            transformers.GenerationConfig.from_dict(dict(settings))
    except Exception as error:  # its classes fail in any way
        raise RopextError(f"generation_config.json: transformers does not take it: {error}") from None


def _require_known_quantizer(settings: Any) -> None:
    """Refuse settings that transformers passes over: then it loads the weights as they are.

    Raises:
        Unchecked: it does not know the method.
    """
    from transformers.quantizers.auto import AutoHfQuantizer

    with quiet():
        known = isinstance(settings, dict) and AutoHfQuantizer.supports_quant_method(settings)
    if not known:
        raise Unchecked(
            f"transformers {transformers.__version__} does not know the quant_method of quantization_config, and loads "
            "the weights as they are"
        )


def _quantized_faults(converted: Converted, model: Any, wanted: Shapes, found: Shapes) -> Iterator[str]:
    modules = {name[: dot.start()] for name in found for dot in re.finditer(r"\.", name)}
    tied = _tied(converted, model)
    for name, shape in wanted.items():
        if _EXPERTS.search(f"{name}."):
            continue
        if re.search("norm|embed_tokens", name):
            missing = name not in found
            if not missing and tuple(found[name]) != shape:
                yield f"{name} is {list(found[name])}, and the configuration asks for {list(shape)}"
        else:
            missing = name.rpartition(".")[0] not in modules
        if missing and name not in tied:
            yield f"{name} is missing"


def _tied(converted: Converted, model: Any) -> set[str]:
    """Tensors that are others as well, and so need not be stored."""
    if not converted.config.get("tie_word_embeddings", model.config.tie_word_embeddings):
        return set()
    return {"lm_head.weight", *(getattr(model, "_tied_weights_keys", None) or ())}
