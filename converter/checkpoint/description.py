"""How a base turns queries and keys: what the `rope_ext` block and the methods need, found in `config.json` alone.

It is what a probe of the stock model would find: the layers with full attention and rotary positions, which dimensions
of their heads form pairs, and how fast each pair turns. `test_families_table.py` holds the two to each other.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from ropext.converter.errors import RopextError

from .config_values import count, place_of, positive, refuse
from .families import FAMILIES, family_of
from .family import Family, Layout, Sizes
from .layers import Layers, layers_of
from .rope import MAX_HEAD_DIM, rotary_dim, scaled_inv_freq
from .rope_keys import Rope, read_rope

__all__ = ["TEXT", "Description", "TextModel", "base_inv_freq", "describe", "text_model"]

TEXT = "text_config"
"""The key under which a model with a text model inside keeps that one's configuration."""


@dataclass(frozen=True)
class TextModel:
    """The language model of a configuration: all of it, or the part that lies inside.

    Attributes:
        outer: the family of the whole.
        family: the family of the text model.
        config: the text model's configuration.
        place: where that lies: "" for the file's top level, or `text_config`.
    """

    outer: Family
    family: Family
    config: Mapping[str, Any]
    place: str

    def size(self, key: str) -> int:
        """Return one of the keys of `Sizes`, or what the family's configuration class takes for it.

        Raises:
            RopextError: it is not a positive whole number.
        """
        sizes: Sizes | None = self.family.sizes
        return count(self.config, self.place, key, getattr(sizes, key) or None if sizes else None)

    def key_value_heads(self) -> int:
        """Return the key heads of a layer: as many as query heads where neither key nor class says otherwise.

        Raises:
            RopextError: the query heads cannot share them evenly.
        """
        sizes = self.family.sizes
        default = sizes.num_key_value_heads if sizes else 0
        if self.config.get("num_key_value_heads") is None and not default:
            return self.size("num_attention_heads")
        heads, shared = self.size("num_attention_heads"), self.size("num_key_value_heads")
        if heads % shared:
            raise refuse(self.place, "num_key_value_heads", f"{shared} cannot be shared evenly by {heads} query heads")
        return shared


@dataclass(frozen=True)
class Description:
    """How a base turns queries and keys, in the layers that a method acts on.

    Attributes:
        model_type: of the whole checkpoint.
        text_model_type: of its text model; the same where there is none inside.
        text_place: where the text model's configuration lies: "" or `text_config`.
        stock_class: the class that a conversion extends.
        stock_module: the module of transformers that has it.
        guard: the key, beside the text model's, of the activation function that a stock class looks up, or "".
        num_layers: layers of the text model.
        layers: indices of those with full attention and rotary positions.
        window: tokens that those see, if they slide and the window has to be turned off.
        layout: how pairs lie among the dimensions that are turned, as the attention function gets them.
        first: the first of those dimensions.
        sign: -1 where pairs turn backwards.
        norms_after: norms with weights between rotation and attention: the query's, the key's.
        head_dim: the width of a query or key, in dimensions.
        inv_freq: radians per token, [pairs]; 0 for pairs that never turn.
        rope: RoPE as the configuration has it.
        per_type: whether `rope_parameters` holds a dictionary for each layer type; `Family.per_type`.
        axes: of each pair, the axis (time, height, width) by whose position it turns; empty where there is one.
    """

    model_type: str
    text_model_type: str
    text_place: str
    stock_class: str
    stock_module: str
    guard: str
    num_layers: int
    layers: tuple[int, ...]
    window: int | None
    layout: Layout
    first: int
    sign: Literal[1, -1]
    norms_after: tuple[str, ...]
    head_dim: int
    inv_freq: tuple[float, ...]
    rope: Rope
    per_type: bool | Literal["legacy"]
    axes: tuple[int, ...] = ()

    def pairs(self) -> dict[str, Any]:
        """Return the `pairs` of a `rope_ext` block."""
        pairs: dict[str, Any] = {"layers": list(self.layers), "layout": self.layout}
        pairs |= {"first": self.first, "sign": self.sign}
        pairs |= {"norms_after": list(self.norms_after)} if self.norms_after else {}
        return pairs | ({"axes": list(self.axes)} if self.axes else {})


def describe(config: Mapping[str, Any]) -> Description:
    """Find out how a base turns queries and keys.

    Args:
        config: its `config.json`, in either spelling.

    Raises:
        RopextError: its family cannot be converted, a value is missing or out of range, or two places contradict each
            other; the message says which and what to do.
    """
    text = text_model(config)
    family = text.family
    layers = layers_of(text.config, family, text.place)
    width, turned = _widths(text, layers)
    rope = read_rope(_with_layer_theta(text, layers), family, text.place, width)
    dim = turned if family.latent else rotary_dim(width, rope.partial)
    inv_freq = scaled_inv_freq(rope.theta, dim, rope.scaling, rope.place)
    return Description(
        model_type=text.outer.model_type,
        text_model_type=family.model_type,
        text_place=text.place,
        stock_class=text.outer.stock_class,
        stock_module=text.outer.stock_module,
        guard=family.guard,
        num_layers=layers.count,
        layers=layers.full,
        window=layers.window,
        layout=family.layout,
        first=width - turned if family.latent else 0,
        sign=family.sign,
        norms_after=family.norms_after,
        head_dim=width,
        inv_freq=tuple(inv_freq),
        rope=rope,
        per_type=family.per_type,
        axes=_axes(text, rope, len(inv_freq)) if family.sections else (),
    )


def base_inv_freq(config: Mapping[str, Any]) -> list[float]:
    """Compute the angle per token of every frequency pair, as the base has it in its full layers.

    Args:
        config: a `config.json`, in either spelling.

    Returns:
        One number for each pair, in radians per token, highest frequency first, each exact in float32.

    Raises:
        RopextError: as `describe`.
    """
    return list(describe(config).inv_freq)


# The text model


def text_model(config: Mapping[str, Any]) -> TextModel:
    """Find the language model of a configuration.

    Args:
        config: a `config.json`.

    Raises:
        RopextError: its family, or its text model's, cannot be converted or is not known, or it is no causal model.
    """
    outer = _known(config)
    if outer.refused:
        raise RopextError(f"config.json: model_type {outer.model_type!r} cannot be converted: {outer.refused}.")
    if outer.inside:
        raise RopextError(
            f"config.json: model_type {outer.model_type!r} is the text model inside {outer.inside!r}; convert that."
        )
    text = _inner(config, outer) if outer.text else TextModel(outer, outer, config, "")
    for place, part in (("", config), (text.place, text.config)):
        _refuse_not_causal(part, place)
    return text


def _known(config: Mapping[str, Any]) -> Family:
    inner, model_type = config.get(TEXT), config.get("model_type")
    if not isinstance(model_type, str) or model_type in FAMILIES or not isinstance(inner, Mapping):
        return family_of(model_type)
    kind = inner.get("model_type")
    known = isinstance(kind, str) and kind in FAMILIES and not FAMILIES[kind].refused
    raise RopextError(
        f"config.json: model_type: {model_type!r} is a model around a text model of type {kind!r}. "
        f"ropext converts {'that one by itself' if known else 'neither'}, not the whole; `ropext families` lists what "
        "it converts."
    )


def _inner(config: Mapping[str, Any], outer: Family) -> TextModel:
    inner = config.get(TEXT)
    if inner is None and "hidden_size" in config and len(outer.text) == 1:
        return TextModel(outer, FAMILIES[outer.text[0]], config, "")  # flat, as Qwen2.5-VL was published
    if not isinstance(inner, Mapping):
        raise refuse("", TEXT, f"expected the configuration of the text model of {outer.model_type!r}")
    kind = inner.get("model_type", outer.text[0])
    if kind not in outer.text:
        tried = f"it was not tried as the text model of {outer.model_type!r}, as were {', '.join(outer.text)}"
        raise refuse(TEXT, "model_type", f"{kind!r} cannot be converted: {family_of(kind).refused or tried}")
    for key in ("rope_theta", "rope_scaling", "rope_parameters"):
        # Qwen2.5-VL has been saved with the text model's keys in both places.
        if config.get(key) and _unspelt(config[key]) != _unspelt(inner.get(key)):
            raise refuse("", key, f"lies beside {TEXT}, where stock classes ignore it, and differs; write it inside")
    return TextModel(outer, FAMILIES[kind], inner, TEXT)


def _unspelt(value: object) -> object:
    """Return one of RoPE's dictionaries without the different names of one thing."""
    if not isinstance(value, Mapping):
        return value
    kind = value.get("rope_type", value.get("type"))
    rest = {key: entry for key, entry in value.items() if key not in ("type", "rope_type")}
    return {**rest, "rope_type": "default" if kind == "mrope" else kind}


def _refuse_not_causal(config: Mapping[str, Any], place: str) -> None:
    seen = "this is an encoder or an embedding model, in which tokens see those after them"
    for key in ("is_causal", "causal", "causal_attention"):
        if config.get(key) is not None and not config[key]:
            raise refuse(place, key, f"is {json.dumps(config[key])}: {seen}")
    for key in ("use_bidirectional_attention", "bidirectional", "is_bidirectional", "bidirectional_attention"):
        # Of images alone, as Gemma 3 has it beside text, it is another matter.
        if config.get(key) and config[key] != "vision":
            raise refuse(place, key, f"is set: {seen}")
    for key in ("is_encoder_decoder", "add_cross_attention"):
        if config.get(key):
            raise refuse(place, key, "is set; only decoders can be converted")


# Widths


def _widths(text: TextModel, layers: Layers) -> tuple[int, int]:
    """Return the width of a query or key and, for a latent attention, how much of it is turned."""
    if text.family.latent:
        return _latent_widths(text, text.family.latent)
    width = _layer_width(text, layers)
    if width is None:
        width = text.config.get(text.family.head_key) or text.family.head_dim
    if width is None:
        width = text.size("hidden_size") // text.size("num_attention_heads")
    return _even(width, text.place, text.family.head_key), 0


def _latent_widths(text: TextModel, default: tuple[int, int]) -> tuple[int, int]:
    keys = ("qk_nope_head_dim", "qk_rope_head_dim")
    plain, turned = (count(text.config, text.place, key, value) for key, value in zip(keys, default, strict=True))
    written = text.config.get("head_dim")
    if text.family.head_dim is not None and written not in (None, turned):
        raise RopextError(
            f"config.json: {place_of(text.place, 'head_dim')} is {written!r} and {place_of(text.place, keys[1])} is "
            f"{turned}: they contradict each other. Remove head_dim."
        )
    return plain + _even(turned, text.place, keys[1]), turned


def _layer_width(text: TextModel, layers: Layers) -> int | None:
    """Return the width that single layers have of their own, as transformers 5 writes Gemma 4's."""
    own = text.config.get("per_layer_config")
    if own is None or own == {}:
        return None
    if text.family.head_key != "global_head_dim" or not isinstance(own, Mapping):
        raise refuse(text.place, "per_layer_config", f"{text.family.model_type} is not known with layers of their own")
    if not all(key.isdigit() and isinstance(entry, Mapping) for key, entry in own.items()):
        raise refuse(text.place, "per_layer_config", "expected a dictionary for each layer, by its index")
    by_index = {int(key): entry for key, entry in own.items()}
    entries = [by_index.get(index, {}) for index in layers.full]
    widths = {entry.get("head_dim", text.config.get("head_dim")) for entry in entries}
    if len(widths) != 1:
        raise refuse(text.place, "per_layer_config", "expected one head_dim for all layers with full attention")
    return _even(widths.pop(), text.place, "per_layer_config.head_dim")


def _even(value: object, place: str, key: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 2 <= value <= MAX_HEAD_DIM or value % 2:
        raise refuse(place, key, f"{value!r} is not a positive even number up to {MAX_HEAD_DIM}")
    return value


def _axes(text: TextModel, rope: Rope, pairs: int) -> tuple[int, ...]:
    """Return the axis of each pair: blocks of pairs for each axis, or, interleaved, time, height, width in turns."""
    written = rope.scaling.get("mrope_section")
    sections = written or text.family.sections
    if not written and not _are_sizes(sections or (), pairs):
        return ()  # what a class means by none does not fit; then images are refused when they come
    if not isinstance(sections, list | tuple) or not _are_sizes(sections, None if text.family.interleaved else pairs):
        raise refuse(text.place, "mrope_section", f"{sections!r} are not three numbers of pairs that sum up to {pairs}")
    if not text.family.interleaved:
        return tuple(axis for axis, size in enumerate(sections) for _ in range(size))
    return tuple(pair % 3 if pair < 3 * sections[pair % 3] else 0 for pair in range(pairs))


def _are_sizes(sections: Sequence[object], pairs: int | None) -> bool:
    sizes = [size for size in sections if isinstance(size, int) and not isinstance(size, bool) and size >= 0]
    return len(sizes) == len(sections) == 3 and sum(sizes) in (sum(sizes) if pairs is None else pairs, pairs)


def _with_layer_theta(text: TextModel, layers: Layers) -> Mapping[str, Any]:
    """Refuse full layers that differ in their base, where a family can have one for each layer."""
    thetas = text.config.get("layer_rope_theta") if text.family.nope == "layer_rope_theta" else None
    if not thetas:
        return text.config
    found = {positive(thetas[index], text.place, f"layer_rope_theta[{index}]") for index in layers.full}
    if len(found) > 1:
        raise refuse(text.place, "layer_rope_theta", "its layers with full attention differ in it; one is supported")
    rope = {key: text.config.get(key) for key in ("rope_scaling", "rope_parameters")}
    changed = {key: {**value, "rope_theta": min(found)} for key, value in rope.items() if isinstance(value, Mapping)}
    return {**text.config, "rope_theta": min(found), **changed}
