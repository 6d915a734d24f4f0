"""Whether a base's weights can be those of its configuration, by the names in their headers alone.

transformers fills what it does not find with random numbers, and says so in a warning at most. Names and shapes one by
one need the model's class: `verify` has that. Here stands what can be said of every family.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Set
from typing import Any

from ropext.converter.errors import RopextError
from ropext.converter.text import printable

from .description import describe, text_model
from .layers import kinds_of

__all__ = ["loaded", "notes_on_tensors", "require_unwrapped"]

_WRAPPERS = {
    "_orig_mod": "torch.compile; save its `_orig_mod`",
    "_fsdp_wrapped_module": "FSDP; save a full state_dict",
    "_checkpoint_wrapped_module": "activation checkpointing; save the model inside",
    "base_layer": "PEFT; save what `merge_and_unload()` returns",
    "base_model": "PEFT; save what `merge_and_unload()` returns",
    "lora_A": "PEFT; save what `merge_and_unload()` returns",
    "lora_B": "PEFT; save what `merge_and_unload()` returns",
    "lora_magnitude_vector": "PEFT; save what `merge_and_unload()` returns",
    "modules_to_save": "PEFT; save what `merge_and_unload()` returns",
    "original_module": "PEFT; save what `merge_and_unload()` returns",
    "parametrizations": "torch's parametrizations; remove them before it is saved",
    "_forward_module": "Lightning or DeepSpeed; save the model inside",
}
"""Parts of names that a model has while it is wrapped, by what wraps it and what to do."""

_LAYER = re.compile(
    r"^(?:(?:model|language_model|text_model|decoder|transformer|gpt_neox|backbone)\.)*(?:layers|h|blocks)\.(\d+)\.(.+)"
)
_HEADS = ("lm_head", "embed_out", "output_layer", "output.")
_EMBEDDINGS = ("embed", "wte", "tok_")


def require_unwrapped(names: Set[str], where: str) -> None:
    """Refuse weights that were saved with the names of a wrapper.

    Raises:
        RopextError: it names the wrapper and what to do.
    """
    for name in sorted(names):
        parts = name.split(".")
        wrapper = next((part for part in parts if part in _WRAPPERS), None)
        why = _WRAPPERS[wrapper] if wrapper else ""
        if wrapper is None and parts[0] == "module" and all(each.startswith("module.") for each in names):
            why = "torch's DistributedDataParallel; save its `module`"
        if why:
            raise RopextError(
                f"{where}: {printable(name)}: is named by a wrapper, so that the weights the configuration asks for "
                f"are missing, and transformers would fill in random numbers. It is the name of {why}."
            )


def notes_on_tensors(config: Mapping[str, Any], names: Set[str], where: str) -> Iterator[str]:
    """Hold the names of tensors against a configuration.

    Args:
        config: a base's, of a family that can be converted.
        names: of all tensors.
        where: the checkpoint, for messages.

    Yields:
        What the user should know, though it can be right.

    Raises:
        RopextError: tensors are missing that every such model has.
    """
    require_unwrapped(names, where)
    total, text = describe(config).num_layers, text_model(config)
    blocks = total // 2 if text.family.layers == "double" else total
    found: dict[int, set[str]] = {}
    for name in names:
        match = _LAYER.match(name)
        if match:
            found.setdefault(int(match[1]), set()).add(match[2])
    if not found:
        yield "weights: no tensor is named as a layer's; `ropext verify` says whether they are missing"
        return
    _require_ends(config, names, where)
    missing = [index for index in range(blocks) if index not in found]
    if missing:
        raise RopextError(
            f"{where}: the weights of layer {missing[0]} are missing"
            + (f", and of {len(missing) - 1} more" if len(missing) > 1 else "")
            + f": the configuration asks for {blocks} layers, and there are {len(found)}. transformers would fill in "
            "random numbers; set num_hidden_layers, or take all of the weights."
        )
    yield from _uneven(found, blocks)
    yield from _missing_everywhere(found, names, text.family.model_type)
    extra, drafts = sorted(index for index in found if index >= blocks), text.config.get("num_nextn_predict_layers")
    if len(extra) > (drafts if isinstance(drafts, int) else 0):
        yield (
            f"weights: there are {len(found)} layers, and the configuration asks for {blocks}: transformers leaves out "
            f"layer {extra[0]} and those after it"
        )


def loaded(config: Mapping[str, Any], names: Set[str]) -> set[str]:
    """Choose the tensors that a model loads: none that draft tokens, and no head that is the embeddings.

    Args:
        config: its `config.json`, that of a converted model too.
        names: of all tensors.
    """
    text = text_model(config)
    count = len(kinds_of(text.config, text.family, text.place)[0])
    blocks = count // 2 if text.family.layers == "double" else count
    tied = config.get("tie_word_embeddings", text.config.get("tie_word_embeddings"))

    def is_loaded(name: str) -> bool:
        match = _LAYER.match(name)
        if name.startswith("mtp.") or (match and int(match[1]) >= blocks):
            return False
        return not (tied and name.endswith(("lm_head.weight", "embed_out.weight")))

    return {name for name in names if is_loaded(name)}


def _require_ends(config: Mapping[str, Any], names: Set[str], where: str) -> None:
    """Refuse a model without embeddings, or without the head that its configuration asks for."""
    if not any(part in name for name in names for part in _EMBEDDINGS):
        raise RopextError(f"{where}: the embeddings are missing in its weights.")
    architectures = config.get("architectures")
    heads = isinstance(architectures, list) and str(architectures[:1]).endswith("ForCausalLM']")
    if heads and config.get("tie_word_embeddings") is False and not any(p in name for name in names for p in _HEADS):
        raise RopextError(
            f"{where}: lm_head is missing in its weights, and tie_word_embeddings is false. transformers would fill in "
            "random numbers; set tie_word_embeddings to true if the model was trained so."
        )


def _uneven(found: Mapping[int, Set[str]], blocks: int) -> Iterator[str]:
    """Note a layer that has less than many, and nothing that those have not: a layer of another kind has both."""
    layers = {index: frozenset(names) for index, names in found.items() if index < blocks}
    counts = Counter(layers.values())
    usual = counts.most_common(_KINDS)
    for index, names in sorted(layers.items()):
        fuller = next((kind for kind, count in usual if count > counts[names] and names < kind), None)
        if fuller:
            lacking = sorted(fuller - names)
            more = f" (and {len(lacking) - 1} more)" if len(lacking) > 1 else ""
            yield f"weights: {printable(lacking[0])}{more} is missing in layer {index}, and most layers have it"
            return


_KINDS = 8
"""Kinds of layers that a model has at most."""

_WITHOUT_NORM = ("olmo", "nanochat")
"""Families whose norms have no weights."""


def _missing_everywhere(found: Mapping[int, Set[str]], names: Set[str], model_type: str) -> Iterator[str]:
    """Note what no layer has, and the norm after them, though nearly every model has it."""
    inner = set().union(*found.values())
    attention = {name.split(".")[1] for name in inner if re.match(r"(self_)?att(n|ention)\.", name)}
    missing = []
    if attention & {"k_proj", "v_proj"} and not any(part.startswith("q") for part in attention):
        missing.append("q_proj in every layer")
    if "q_proj" in attention and not any(part.startswith(("k_proj", "kv")) for part in attention):
        missing.append("k_proj in every layer")
    if not any(re.search("mlp|feed_forward|moe|expert|ffn", name) for name in inner):
        missing.append("every feed-forward layer")
    outside = [name for name in names if not _LAYER.match(name)]
    if model_type not in _WITHOUT_NORM and not any("norm" in name for name in outside):
        missing.append("the norm after the last layer")
    if missing:
        yield (
            f"weights: {', '.join(missing)} seems to be missing, which transformers would fill in; `ropext verify` "
            "says what is"
        )
