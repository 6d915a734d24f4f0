"""The models that the steps run: every contact with `ropext.modeling`, and with names that transformers changes.

A step asks for `build`, `stock` and `forward`, and for the attention primitives that this file imports.
"""

from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
import torch
from transformers import Cache, LlamaConfig, LlamaForCausalLM

from benchmarks.settings import SETTINGS, SETTINGS_PAIRS, SETTINGS_WINDOW
from ropext.converter.model_classes import configuration_class, model_class
from ropext.modeling.rope_ext_attention import (  # noqa: F401
    Pairs,
    flash_attention,
    grouped_logits,
    masked_softmax,
    merge,
    packaged_attention,
    weighted_values,
)
from ropext.modeling.rope_ext_attention import _blockwise_attention as blockwise_attention  # noqa: F401
from tests.helpers import tiny

TOKEN_COUNTS = ("local_window", "window", "shift", "chunk_size", "activate_beyond", "from")
TOKEN_COUNTS += ("mapping_length", "full_length", "length_step", "tail")
"""Parameters that count tokens, where they are integers."""
DEFAULTS = {"gali": tiny.GALI, "dca": {"temperature": False}}
"""What `SETTINGS` leaves to the converter."""


@dataclass(frozen=True)
class Shape:
    """The dimensions of a Llama, and the length that it counts as trained to (tokens)."""

    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    hidden: int
    intermediate: int
    vocabulary: int
    trained: int
    rope_theta: float = 10000.0

    @property
    def pairs(self):
        """How many pairs of dimensions RoPE turns."""
        return self.head_dim // 2

    @property
    def inv_freq(self):
        """Radians per token of each pair."""
        exponents = torch.arange(0, self.head_dim, 2).float() / self.head_dim
        return (1.0 / self.rope_theta**exponents).tolist()


def checked_cases(shape):
    """The cases of `tests/helpers/tiny.py`, their token counts and pairs scaled to a shape."""
    return {name: _scaled(case, shape) for name, case in tiny.CASES.items()}


def _scaled(case, shape):
    longer, wider = shape.trained // tiny.INITIAL_WINDOW, shape.pairs // len(tiny.INV_FREQ)
    parameters = {key: _scaled_value(key, value, longer, wider) for key, value in case.parameters.items()}
    slower = np.divide(case.inv_freq, tiny.INV_FREQ).repeat(wider)
    inv_freq = np.multiply(shape.inv_freq, slower).tolist()
    return replace(case, parameters=parameters, tables=_tables(parameters, shape), inv_freq=inv_freq)


def _scaled_value(key, value, longer, wider):
    """A parameter for a text `longer` times as long and heads `wider` times as wide; also inside regions and layers."""
    if key in TOKEN_COUNTS and isinstance(value, int):
        return value * longer
    if key == "top_k":
        return value * wider
    if key == "dimension_groups":
        return [border * wider for border in value]
    if key == "factors":  # one for each pair
        return np.repeat(value, wider).tolist()
    if isinstance(value, dict):
        return {inner: _scaled_value(inner, each, longer, wider) for inner, each in value.items()}
    if isinstance(value, list):
        return [_scaled_value("", each, longer, wider) for each in value]
    return value


def timed_case(name, shape):
    """A method by the settings of the benchmarks, scaled to a shape."""
    method = name.removesuffix("_top_k")
    parameters = DEFAULTS.get(method, {}) | SETTINGS.get(method, {})
    for key in TOKEN_COUNTS:
        if key in parameters:
            parameters[key] = parameters[key] * shape.trained // SETTINGS_WINDOW
    if "dimension_groups" in parameters:
        borders = [border * shape.pairs // SETTINGS_PAIRS for border in parameters["dimension_groups"]]
        parameters["dimension_groups"] = borders
    if name.endswith("_top_k"):
        parameters["top_k"] = shape.pairs // 2
    return tiny.Case(method, parameters, _tables(parameters, shape), shape.inv_freq)


def _tables(parameters, shape):
    """The table of `top_k` random frequency pairs for each head; empty without `top_k`."""
    if "top_k" not in parameters:
        return {}
    scores = np.random.default_rng(0).random((shape.layers, shape.heads, shape.pairs))
    return {"selected_pairs": tiny.packed(scores.argsort(-1).argsort(-1) < parameters["top_k"])}


def build(case, shape, **how):
    """A model with a method; `how` as for `stock`."""
    base = {"hidden_act": "silu", "rope_theta": shape.rope_theta, "rope_scaling": None}
    lengths = {"initial_window": shape.trained, "target_window": 16 * shape.trained, "base": base}
    pairs = {"layers": list(range(shape.layers)), "layout": "halves", "first": 0, "sign": 1}
    block = tiny.block(case) | lengths | {"pairs": pairs | {"inv_freq": shape.inv_freq}}
    config = configuration_class("llama")(rope_ext=block, **_arguments(shape, 16 * shape.trained))
    return _made(model_class("llama", case.method), config, **how)


def stock(shape, **how):
    """The model of transformers itself.

    Args:
        shape: its dimensions.
        how: `dtype`, `device`, `attn` and `state`, its weights by name, or random ones; or `attn` and `like`, a stock
            model whose weights it shares.
    """
    config = LlamaConfig(rope_theta=shape.rope_theta, **_arguments(shape, shape.trained))
    return _made(LlamaForCausalLM, config, **how)


def _arguments(shape, length):
    return {
        "hidden_size": shape.hidden,
        "intermediate_size": shape.intermediate,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.kv_heads,
        "head_dim": shape.head_dim,
        "vocab_size": shape.vocabulary,
        "max_position_embeddings": length,
        "tie_word_embeddings": False,
    }


def _made(model_class, config, *, dtype=torch.float32, device="cpu", attn="sdpa", state=None, like=None):
    config._attn_implementation = attn
    with _by_default(dtype), torch.device(device if like is None else "meta"):
        model = model_class(config)
    if state is not None:
        model.load_state_dict({name: weight.to(device, dtype) for name, weight in state.items()}, assign=True)
    if like is not None:
        _share(model, like)
    model.generation_config.eos_token_id = None
    return model.eval().requires_grad_(False)


def _share(model, like):
    """Give a model on the meta device another's weights, and the buffers that no state has: the frequencies."""
    model.load_state_dict(like.state_dict(), assign=True)
    own = dict(model.named_buffers())
    for name, buffer in like.named_buffers():
        if name in own:
            module, _, attribute = name.rpartition(".")
            setattr(model.get_submodule(module), attribute, buffer)


@contextmanager
def _by_default(dtype):
    """Set the default dtype, as `from_pretrained` does: `model.to(dtype)` would round the float32 frequencies."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def weights(shape):
    """Seeded float32 weights, large enough that every part of a layer matters."""
    generator = torch.Generator().manual_seed(0)
    model = stock(shape)

    def draw(name, like):
        noise = torch.randn(like.shape, generator=generator)
        return like + 0.2 * noise if "norm" in name else 1.5 * like.shape[-1] ** -0.5 * noise

    return {name: draw(name, weight) for name, weight in model.state_dict().items()}


def forward(model, ids, state=None, **given):
    """One forward that fills a cache.

    Args:
        model: of `build` or `stock`.
        ids: [B, T].
        state: what the forward before returned; None at the first.
        given: to the model.

    Returns:
        Logits, and the cache by the name under which this transformers takes it.
    """
    out = model(ids, use_cache=True, **(state or {}), **given)
    return out.logits, {name: value for name, value in out.items() if isinstance(value, Cache)}
