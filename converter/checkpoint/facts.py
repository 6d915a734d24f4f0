"""What methods need to know of a model, from its `config.json`."""

from __future__ import annotations

import re
from collections.abc import Mapping, Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ropext.converter.errors import RopextError
from ropext.converter.files.json_object import read_object
from ropext.converter.hub import client as hub

from .description import Description, TextModel, describe, text_model
from .families import FAMILIES
from .roles import inside
from .rope import rotary_dim
from .trained import stretched_length

__all__ = [
    "ModelFacts",
    "extended_class",
    "facts_of",
    "read_config",
    "read_facts",
    "require_no_adapter",
    "without_private",
]

MAX_CONFIG_BYTES = 4_000_000


@dataclass(frozen=True)
class ModelFacts:
    """What a method needs to know of a base model; of one with a text model inside, that one's sizes.

    Attributes:
        source: the folder or Hub id, as the user named it.
        model_type: the family, such as `llama`.
        architecture: the class that the checkpoint names, such as `LlamaForCausalLM`.
        head_dim: the width of a query or key, in dimensions.
        num_hidden_layers: decoder layers.
        num_attention_heads: query heads of a layer.
        num_key_value_heads: key heads of a layer.
        rope_theta: RoPE's base, in the layers that a method acts on.
        rope_type: its scaling there, `default` where there is none.
        trained_length: `max_position_embeddings`, tokens.
        partial_rotary_factor: the part of each head that RoPE turns.
        rotary_width: dimensions of a head that RoPE turns, where the part does not tell; None: it does.
        attention_factor: what the base multiplies turned queries and keys by, each.
        text_place: where the text model's configuration lies: "" or `text_config`.
        layers: the layers that a method acts on; None: all.
        window: tokens that those see, if they slide and a conversion turns that off.
        stretched_length: the trained length where a linear factor is beside `max_position_embeddings` and not in it.
        rope_scaling: the base's scaling, `rope_type` and numbers; empty where that was not asked.
    """

    source: str
    model_type: str
    architecture: str
    head_dim: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    rope_theta: float
    rope_type: str
    trained_length: int
    partial_rotary_factor: float = 1.0
    rotary_width: int | None = None
    attention_factor: float = 1.0
    text_place: str = ""
    layers: tuple[int, ...] | None = None
    window: int | None = None
    stretched_length: int | None = None
    rope_scaling: Mapping[str, Any] = field(default_factory=dict)

    @property
    def rotary_dim(self) -> int:
        """Dimensions of a head that RoPE turns, in half as many frequency pairs."""
        return self.rotary_width or rotary_dim(self.head_dim, self.partial_rotary_factor)

    @property
    def acted_layers(self) -> tuple[int, ...]:
        """The layers that a method acts on, each by its index."""
        return tuple(range(self.num_hidden_layers)) if self.layers is None else self.layers

    @property
    def seen_length(self) -> int:
        """The longest distance that attention met in training, tokens: less than the length where layers slide."""
        return min(self.longest_length, self.window or self.longest_length)

    @property
    def longest_length(self) -> int:
        """The most tokens that it can have been trained to."""
        return max(self.trained_length, self.stretched_length or 0)


def read_facts(source: str) -> ModelFacts:
    """Read what methods need to know of a model; of a Hub id only `config.json` is fetched.

    Args:
        source: a local folder or a Hub id.

    Raises:
        RopextError: there is no such model, or its configuration is not one of a base model with RoPE.
    """
    local = hub.resolve(source, only=("config.json",))
    return facts_of(read_config(local.folder)[0], source)


def read_config(folder: Path) -> tuple[dict[str, Any], list[str]]:
    """Read `config.json` without its private keys.

    Keys that begin with `_` are transformers' own state; some make it load code (CVE-2026-4372). Those inside
    `quantization_config` are the quantizer's own and stay: torchao's settings cannot be read without. By
    `configuration_files` it would read another file in the place of this one.

    Args:
        folder: where it lies.

    Returns:
        The configuration and the dotted names of the keys that were dropped.

    Raises:
        RopextError: there is none, or it is not a JSON object.
    """
    file = folder / "config.json"
    if not file.is_file() and (folder / "adapter_config.json").is_file():
        raise RopextError(f"{folder}: is a PEFT adapter, and no model: {_MERGE}.")
    if not file.is_file():
        raise RopextError(f"{folder}: no config.json: this is not a Hugging Face checkpoint.")
    config = read_object(inside(folder, "config.json"), str(file), MAX_CONFIG_BYTES, unambiguous=True)
    return without_private(config)


def require_no_adapter(names: Set[str], where: str) -> None:
    """Refuse a model with an adapter beside it, which transformers would apply.

    Args:
        names: of its files.
        where: the model, for messages.

    Raises:
        RopextError: it says what to do.
    """
    if "adapter_config.json" in names:
        raise RopextError(
            f"{where}: has a PEFT adapter beside its weights, which transformers applies on loading and a conversion "
            f"would not: {_MERGE}, or remove adapter_config.json from a copy to convert the model without it."
        )


_MERGE = "load it with peft, merge it into its base model (`merge_and_unload`), save that, and convert it"


def without_private(config: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Drop the keys by which transformers would load other code, or another configuration; see `read_config`.

    Returns:
        The configuration and the dotted names of the keys that were dropped.
    """
    dropped: list[str] = []
    return _without_private(config, "", dropped), dropped


def facts_of(config: Mapping[str, Any], source: str) -> ModelFacts:
    """Read a configuration, in either spelling, as the facts of a base model.

    Args:
        config: a `config.json`.
        source: what to call the model.

    Raises:
        RopextError: a fact is missing or out of range, or this is no plain base model.
    """
    try:
        _refuse_unplain(config)
        text = text_model(config)
        description = describe(config)
        return _facts(config, source, text, description)
    except RopextError as error:
        raise RopextError(f"{source}: {error}") from None


def _facts(config: Mapping[str, Any], source: str, text: TextModel, description: Description) -> ModelFacts:
    heads, rope = text.size("num_attention_heads"), description.rope
    everywhere = len(description.layers) == description.num_layers
    return ModelFacts(
        source=source,
        model_type=description.model_type,
        architecture=_architecture(config),
        head_dim=description.head_dim,
        num_hidden_layers=description.num_layers,
        num_attention_heads=heads,
        num_key_value_heads=text.key_value_heads(),
        rope_theta=rope.theta,
        rope_type=rope.kind,
        trained_length=text.size("max_position_embeddings"),
        partial_rotary_factor=rope.partial,
        rotary_width=2 * len(description.inv_freq) if text.family.latent else None,
        attention_factor=rope.attention_factor,
        text_place=description.text_place,
        layers=None if everywhere else description.layers,
        window=description.window,
        stretched_length=stretched_length(text, description),
        rope_scaling=rope.scaling,
    )


def extended_class(facts: ModelFacts) -> str:
    """Return the shipped class that takes the place of a checkpoint's; its family is one that can be converted.

    Raises:
        RopextError: none does; it names the stock classes that can be replaced.
    """
    known = FAMILIES[facts.model_type].own_classes
    if facts.architecture not in known:
        raise RopextError(
            f"config.json: architectures: {facts.architecture!r} cannot be extended; "
            f"of {facts.model_type} there are {', '.join(sorted(known))}."
        )
    return known[facts.architecture]


_DTYPES = (
    *(None, "float16", "bfloat16", "float32", "float64", "half", "float", "double"),
    *("float8_e4m3fn", "float8_e5m2"),
)


def _refuse_unplain(config: Mapping[str, Any]) -> None:
    if "rope_ext" in config:
        raise RopextError("has been converted by ropext already; convert its base model instead.")
    _model_type(config)
    for place, part in (("", config), ("text_config.", config.get("text_config"))):
        if isinstance(part, Mapping):
            _refuse_quantized_by_nobody(part.get("quantization_config"), place)
        for key in ("torch_dtype", "dtype"):
            if isinstance(part, Mapping) and part.get(key) not in _DTYPES:
                raise RopextError(
                    f"config.json: {place}{key}: {part[key]!r} is no type of torch, and transformers cannot load it; "
                    "write that of the weights, or remove the key."
                )
    if config.get("auto_map"):
        known = config["model_type"] in FAMILIES and not FAMILIES[config["model_type"]].refused
        raise RopextError(
            "config.json: auto_map: brings its own code, which a converted checkpoint could not use as well; "
            + (
                f"transformers has {config['model_type']} too: remove auto_map from a copy to convert that."
                if known
                else "start from one whose model class is part of transformers."
            )
        )


def _refuse_quantized_by_nobody(settings: object, place: str) -> None:
    """Refuse settings of a quantizer that do not name it: transformers loads no such model."""
    if settings is None:
        return
    where = f"config.json: {place}quantization_config"
    if not isinstance(settings, Mapping):
        raise RopextError(f"{where}: expected the settings of one quantizer.")
    if not {"quant_method", "load_in_4bit", "load_in_8bit"} & settings.keys():
        raise RopextError(
            f"{where}.quant_method: is missing, and transformers cannot load the model; write it, or remove "
            "quantization_config if the weights are not quantized."
        )


def _model_type(config: Mapping[str, Any]) -> str:
    value = config.get("model_type")
    if not isinstance(value, str) or not re.fullmatch(r"[a-z0-9_\-]+", value):
        raise RopextError(f"config.json: model_type: {value!r} does not name a model family.")
    return value


def _architecture(config: Mapping[str, Any]) -> str:
    names = config.get("architectures")
    if not isinstance(names, list) or len(names) != 1 or not isinstance(names[0], str):
        raise RopextError(f"config.json: architectures: expected one class name, found {names!r}.")
    return names[0]


def _without_private(value: Any, path: str, dropped: list[str]) -> Any:
    """Copy a JSON value without keys that begin with an underscore, and list those."""
    if isinstance(value, list):
        return [_without_private(entry, path, dropped) for entry in value]
    if not isinstance(value, dict) or _is_number(value):
        return value
    kept = {}
    for key, entry in value.items():
        kernel = key == "attn_implementation" and not _is_word(entry)
        if key.startswith("_") or kernel or path + key == "configuration_files":
            dropped.append(path + key)
        elif path + key == "quantization_config":
            kept[key] = entry
        else:
            kept[key] = _without_private(entry, f"{path}{key}.", dropped)
    return kept


def _is_number(value: Mapping[str, Any]) -> bool:
    """Whether it is what transformers 5 writes for a number that JSON does not have."""
    return list(value) == ["__float__"] and value["__float__"] in ("Infinity", "-Infinity", "NaN")


def _is_word(value: object) -> bool:
    """Whether it is the name of a kernel of transformers itself: one with a slash is fetched from the Hub, and run."""
    return value is None or (isinstance(value, str) and re.fullmatch(r"\w+", value) is not None)
