"""vLLM's own models, with the rotation and the attention of the layers that a method acts on replaced."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from vllm.model_executor.layers.attention import Attention
from vllm.model_executor.models.utils import PPMissingLayer

from ropext.modeling.rope_ext_dca import Dca
from ropext.modeling.rope_ext_frequencies import FrequencyMethod
from ropext.modeling.rope_ext_model import blocks_by_layer, read_block

from . import FAMILIES
from .band import BandAttention
from .chunks import ChunkAttention
from .method import Refused, method_of
from .rotary import OTHER_FREQUENCIES, Base, ChunkRotary, FarRotary

__all__: list[str] = []

_OLD_DCA = "dual_chunk_attention_config"
"""What DCA's checkpoints say to vLLM before 0.11. Newer ones hand it to an attention that does not know it."""


def __getattr__(name: str) -> Any:
    """Make the model class of an architecture that ropext emits."""
    family, emitted, ending = name.partition("RopeExtFor")
    if not emitted:
        raise AttributeError(name)
    made = _served(name, family) if ending == "CausalLM" and family in FAMILIES else _refusing(name)
    globals()[name] = made
    return made


def _served(name: str, family: str) -> type:
    module, stock_name = FAMILIES[family]
    stock: Any = getattr(import_module(f"vllm.model_executor.models.{module}"), stock_name)

    def build(self: Any, *, vllm_config: Any, prefix: str = "") -> None:
        vars(vllm_config.model_config.hf_config).pop(_OLD_DCA, None)
        stock.__init__(self, vllm_config=vllm_config, prefix=prefix)
        with_method(self.model, vllm_config)

    return type(name, (stock,), {"__init__": build, "__module__": __name__})


def _refusing(name: str) -> type:
    """A class that vLLM takes for a language model until it builds it."""
    stock: Any = import_module("vllm.model_executor.models.llama").LlamaForCausalLM

    def build(self: Any, *, vllm_config: Any, prefix: str = "") -> None:
        served = ", ".join(FAMILIES)
        raise Refused(
            f"vLLM does not run {name}: ropext serves the families {served} there, of which this is none. "
            "A frequency method runs by `ropext convert --native`"
        )

    return type(name, (stock,), {"__init__": build, "__module__": __name__})


def with_method(decoder: Any, vllm_config: Any) -> None:
    """Put the method of the configuration on the layers of vLLM's decoder.

    Raises:
        Refused: vLLM cannot run it; the message has the reason.
    """
    block = read_block(vllm_config.model_config.hf_config)
    method = method_of(block)
    methods = dict.fromkeys(block["pairs"]["layers"], method)
    for some, own in blocks_by_layer(block):
        methods |= dict.fromkeys(some, method_of(own))
    layers = {index: layer for index, layer in enumerate(decoder.layers) if not isinstance(layer, PPMissingLayer)}
    if block["method"] == "original" or not layers:
        return
    if isinstance(method, FrequencyMethod):
        _retune(layers, block, method, vllm_config)
        return
    if vllm_config.kv_transfer_config is not None and not isinstance(method, Dca):
        raise Refused("vLLM: KV connectors carry one cache of a layer, and with this method of ropext it has two")
    kept = max(each.start for each in methods.values())  # one window for all: vLLM makes groups of equal layers
    rotaries: dict[Any, Any] = {}
    for index in block["pairs"]["layers"]:
        if index in layers:
            _extend(_attention(layers[index]), block, methods[index], kept, vllm_config, rotaries)


def _attention(layer: Any) -> Any:
    """The module of a layer with a rotation and an attention."""
    found = [m for m in layer.modules() if hasattr(m, "rotary_emb") and isinstance(getattr(m, "attn", None), Attention)]
    if len(found) != 1:
        raise Refused(f"vLLM builds {type(layer).__name__} with {len(found)} attentions of the known form, not 1")
    return found[0]


def _retune(layers: dict[int, Any], block: dict[str, Any], method: Any, vllm_config: Any) -> None:
    """Frequencies of the method's own, wherever the model turns by those of the base."""
    made: dict[int, Any] = {}
    length = vllm_config.model_config.max_model_len
    for outer in map(_attention, layers.values()):
        base = Base(outer.rotary_emb, block["pairs"])
        if base.is_described():
            key = id(outer.rotary_emb)
            if key not in made:
                made[key] = base.tuned(method.inv_freq, method.attention_factor, length)
            outer.rotary_emb = made[key]
    if not made:
        raise Refused(OTHER_FREQUENCIES)


def _extend(
    outer: Any, block: dict[str, Any], method: Any, kept: int, vllm_config: Any, rotaries: dict[Any, Any]
) -> None:
    """The method's rotation of each head, and an attention that takes it; a band keeps this many exact keys."""
    old = outer.attn
    if old.sliding_window is not None or old.kv_sharing_target_layer_name is not None:
        raise Refused(f"vLLM builds layer {old.layer_name} with a sliding window or with keys of another layer")
    rotary, chunks = outer.rotary_emb, isinstance(method, Dca)
    key = id(rotary), method
    if key not in rotaries:
        made = ChunkRotary if chunks else FarRotary
        rotaries[key] = made(rotary, block, method, old.head_size, vllm_config.model_config.max_model_len)
    outer.rotary_emb = rotaries[key]
    del vllm_config.compilation_config.static_forward_context[old.layer_name]
    more = {"sinks": outer.sinks} if getattr(old, "has_sink", False) else {}
    if chunks:
        outer.attn = ChunkAttention(old, method, vllm_config.cache_config, rotary.cos_sin_cache.device, **more)
    else:
        outer.attn = BandAttention(old, method, kept, vllm_config.cache_config, **more)
