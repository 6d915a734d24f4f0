"""Any stock model, its attention a plain formula over all pairs of tokens, for any distances.

Nothing here knows which dimensions form a frequency pair, in which order or direction they turn, or what happens to a
query after the rotation. Queries and keys at other positions come from the stock attention module itself: it is run
again on the same hidden states with the tables that the stock rotary module makes of those positions.

Letters: B rows (one), T tokens, H query heads, D head_dim, P frequency pairs.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, MutableMapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface, Cache
from transformers.masking_utils import eager_mask

from .regions import Region, Setting

NAME = "oracle"
Method = Callable[[Setting], list[Region]]
UNDERSTOOD = {"position_ids", "cache_position", "position_embeddings", "attention_mask", "token_type_ids"}
"""Tensors that layers hand to an attention function and that its result does not depend on."""


@torch.no_grad()
def logits(
    model: Any, method: Method, ends: list[int] | None = None, *, local_layers: bool = False, **inputs: Any
) -> Tensor:
    """Logits [T, vocabulary], in float64, of one row that comes all at once.

    Args:
        model: a stock model, in the widest type in which it runs.
        method: gives the regions of one layer.
        ends: for each token, the number of tokens at the end of the forward that is taken to have brought it; None:
            all came at once.
        local_layers: ask the method of layers that see a window or a chunk, too.
        inputs: of the model's forward, with `input_ids` [1, T].
    """
    count = inputs["input_ids"].shape[1]
    oracle = Oracle(decoder_of(model), method, ends or [count] * count, local_layers)
    with oracle.in_place():
        return model(**inputs, use_cache=False).logits[0].double()


def decoder_of(model: Any) -> Any:
    """The text model: the outermost module that holds its configuration."""
    config = model.config.get_text_config()
    return next(module for module in model.modules() if getattr(module, "config", None) is config)


class Captured(Exception):
    """Ends a run of an attention module when its query and key are known."""

    def __init__(self, query: Tensor, key: Tensor) -> None:
        self.query, self.key = query, key


@dataclass
class TableCall:
    """One call of a rotary module: what it was given, and the table that came out."""

    module: nn.Module
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    table: Any

    @property
    def position_ids(self) -> Tensor:
        """[1, T], or [axes, 1, T]."""
        given = (self.kwargs.get("position_ids"), *self.args)
        return next(x for x in given if is_positions(x))

    @property
    def inv_freq(self) -> Tensor:
        """[P]: the frequencies that this call used; a module may hold those of several kinds of layers."""
        far = torch.full(self.position_ids.shape[-1:], 977.0)
        for name, buffer in frequency_buffers(self.module).items():
            with scaled(self.module, {name: torch.zeros_like(buffer)}):
                without = self.at(far)
            if not same(without, self.at(far)):
                return buffer.detach().double().flatten()
        raise AssertionError(f"{type(self.module).__name__} uses no inv_freq")

    def at(self, positions: Tensor) -> Any:
        """The table of other positions, [T] or [T, P].

        With positions for each pair, the changes that each pair alone brings are summed: one entry of a table depends
        on one pair.
        """
        if positions.dim() == 1:
            return self._run(positions)
        start = total = self._run(torch.zeros_like(positions[:, 0]))
        for pair, column in enumerate(positions.unbind(1)):
            alone = {n: torch.arange(b.shape[-1]) == pair for n, b in frequency_buffers(self.module).items()}
            with scaled(self.module, alone):
                changed = self._run(column)
            total = each(lambda t, new, old: t + (new - old), total, changed, start)
        return total

    def _run(self, positions: Tensor) -> Any:
        given = positions.expand(self.position_ids.shape)
        args = [given if is_positions(x) else x for x in self.args]
        kwargs = {k: given if k == "position_ids" else v for k, v in self.kwargs.items()}
        return self.module.forward(*args, **kwargs)


class Oracle:
    """Stands in for attention in one forward of a model."""

    def __init__(self, decoder: Any, method: Method, ends: list[int], local_layers: bool) -> None:
        self.decoder, self.method, self.ends, self.local_layers = decoder, method, ends, local_layers
        self.calls: list[TableCall] = []
        self.inputs: dict[nn.Module, tuple[tuple[Any, ...], dict[str, Any]]] = {}
        self.keys: list[tuple[Tensor, nn.Module]] = []
        self.capturing = False

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Put hooks on the rotary modules and the attention modules, and choose `attention`."""
        AttentionInterface.register(NAME, self.attention)
        AttentionMaskInterface.register(NAME, eager_mask)
        config = self.decoder.config
        chosen = config._attn_implementation
        with ExitStack() as stack:
            stack.callback(setattr, config, "_attn_implementation", chosen)
            config._attn_implementation = NAME
            for module in self.decoder.modules():
                if frequency_buffers(module):
                    stack.callback(module.register_forward_hook(self.see_table, with_kwargs=True).remove)
                elif hasattr(module, "layer_idx"):
                    stack.callback(module.register_forward_pre_hook(self.see_layer, with_kwargs=True).remove)
            yield

    def see_table(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], table: Any) -> None:
        """Remember a call of a rotary module."""
        self.calls.append(TableCall(module, args, kwargs, table))

    def see_layer(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Remember what a module with a layer's index was given."""
        self.inputs[module] = args, kwargs

    def call_of(self, module: nn.Module) -> TableCall | None:
        """The call whose table the module was given; None for layers without positions."""
        args, kwargs = self.inputs[module]
        found = next((call for call in self.calls for x in (*args, *kwargs.values()) if is_table(x, call.table)), None)
        assert found or kwargs.get("position_embeddings") is None, "a table that no rotary module made"
        return found

    def at(self, module: nn.Module, positions: Tensor, amplitude: float = 1.0) -> Captured:
        """Query and key of an attention module with all its tokens at other positions, [T] or [T, P]."""
        (args, kwargs), call = self.inputs[module], self.call_of(module)
        assert call is not None
        table = each(lambda x: x * amplitude, call.at(positions))

        def replacement(x: Any) -> Any:
            if is_table(x, call.table):
                return table
            if isinstance(x, Cache):
                return None
            return copy.copy(x) if isinstance(x, MutableMapping) else x  # keys that layers share

        self.capturing = True
        try:
            module.forward(*map(replacement, args), **{k: replacement(v) for k, v in kwargs.items()})
        except Captured as captured:
            return captured
        finally:
            self.capturing = False
        raise AssertionError(f"{type(module).__name__} did not call its attention function")

    def attention(
        self,
        module: nn.Module,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attention_mask: Tensor | None,
        scaling: float | None = None,
        dropout: float = 0.0,
        softcap: float | None = None,
        s_aux: Tensor | None = None,
        sliding_window: int | None = None,
        **kwargs: Any,
    ) -> tuple[Tensor, Tensor]:
        """Softmax over the keys that the stock mask allows, and over the sink if there is one, in float64."""
        if self.capturing:
            raise Captured(query, key)
        unknown = {k for k, v in kwargs.items() if isinstance(v, Tensor)} - UNDERSTOOD
        assert not unknown, f"{type(module).__name__} passes {sorted(unknown)} to its attention function"
        source = next((owner for known, owner in self.keys if known is key), module)
        self.keys.append((key, source))
        local = sliding_window is not None or self.is_local(module)
        if (local and not self.local_layers) or not self.turns(module):
            products = dot(query, key)
        else:
            products = self.products(module, source)
        scores = products * (query.shape[-1] ** -0.5 if scaling is None else scaling)
        if softcap:
            scores = torch.tanh(scores / softcap) * softcap
        weights = softmax(scores, attention_mask, s_aux).to(value.dtype)
        values = value.repeat_interleave(query.shape[1] // value.shape[1], 1)
        return (weights @ values).transpose(1, 2).contiguous(), weights

    def is_local(self, module: nn.Module) -> bool:
        """Whether the layer sees a window or a chunk only, where distances are short."""
        kinds = getattr(self.decoder.config, "layer_types", None)
        return bool(kinds) and kinds[module.layer_idx].startswith(("sliding", "chunked"))

    def turns(self, module: nn.Module) -> bool:
        """Whether the layer's queries depend on positions at all."""
        if self.call_of(module) is None:
            return False
        first, second = (self.at(module, torch.full((len(self.ends),), p)).query for p in (0.0, 977.0))
        return not torch.equal(first, second)

    def products(self, module: nn.Module, source: nn.Module) -> Tensor:
        """[1, H, T, T]: the unscaled logits, region by region; `source` made the keys."""
        total: Any = 0.0
        for region in self.regions(module):
            query = self.at(module, region.a, region.amplitude).query
            key = self.at(source, region.b, region.amplitude).key
            if region.pairs is not None:
                query = query * self.dimensions(module, region.pairs)
            total = total + torch.where(region.mask, region.weight * dot(query, key), 0.0)
        return total

    def regions(self, module: nn.Module) -> list[Region]:
        """Those of one layer; where a token has several positions, those of each axis for its own pairs."""
        call = self.call_of(module)
        assert call is not None
        positions, inv_freq = call.position_ids.double(), call.inv_freq
        axes = positions.reshape(-1, positions.shape[-1])
        if (axes == axes[0]).all():
            return self.method(Setting(axes[0], self.ends, inv_freq, module.layer_idx))
        owners = pair_axes(self.decoder.config, len(inv_freq))
        return [
            Region(region.mask, region.a, region.b, region.weight, region.amplitude, owners == axis)
            for axis, p in enumerate(axes)
            for region in self.method(Setting(p, self.ends, inv_freq, module.layer_idx))
        ]

    def dimensions(self, module: nn.Module, pairs: Tensor) -> Tensor:
        """[D]: 1 for the dimensions that turn with some pairs; with the first pair, for those that never turn too."""

        def turned(which: Tensor) -> Tensor:
            moved, still = (torch.zeros(len(self.ends), len(which)) for _ in range(2))
            moved[:, which] = 977.0
            differ = self.at(module, moved).query != self.at(module, still).query
            return differ.any(0).any(0).any(0)

        found = turned(pairs)
        return (found | ~turned(torch.ones_like(pairs)) if pairs[0] else found).double()


def pair_axes(config: Any, count: int) -> Tensor:
    """[P]: the axis that turns each pair, 0 time, 1 height, 2 width, as the configuration says."""
    rope = getattr(config, "rope_parameters", None) or config.rope_scaling
    section = rope["mrope_section"]
    if not rope.get("mrope_interleaved"):
        return torch.arange(3).repeat_interleave(torch.tensor(section))
    return torch.tensor([d % 3 if d % 3 and d < 3 * section[d % 3] else 0 for d in range(count)])


def dot(query: Tensor, key: Tensor) -> Tensor:
    """[1, H, T, T]: each query head with the keys of its group."""
    key = key.repeat_interleave(query.shape[1] // key.shape[1], 1)
    return query.double() @ key.double().transpose(2, 3)


def softmax(scores: Tensor, mask: Tensor | None, sinks: Tensor | None) -> Tensor:
    """[1, H, T, T] weights; the mask, which may be wider, is added; a sink is one more key without a value."""
    T = scores.shape[-1]
    if mask is None:
        mask = torch.full((T, T), -torch.inf).triu(1)
    scores = scores + mask[..., :T]
    if sinks is not None:
        scores = torch.cat((scores, sinks.double().reshape(1, -1, 1, 1).expand(*scores.shape[:3], 1)), -1)
    return scores.softmax(-1)[..., :T]


def is_positions(x: Any) -> bool:
    """Whether an argument of a rotary module is the positions."""
    return isinstance(x, Tensor) and not x.is_floating_point()


def frequency_buffers(module: nn.Module) -> dict[str, Tensor]:
    """The inverse frequencies that a rotary module holds, by name."""
    own = {**dict(module.named_buffers(recurse=False)), **vars(module)}
    return {
        name: tensor
        for name, tensor in own.items()
        if name.endswith("inv_freq") and "original" not in name and isinstance(tensor, Tensor)
    }


@contextmanager
def scaled(module: nn.Module, factors: dict[str, Tensor]) -> Iterator[None]:
    """Multiply frequencies of a rotary module for a while, those that it computes at each call too."""
    given = {name: getattr(module, name) for name in factors}
    changed = {name: given[name] * factors[name] for name in factors}
    if hasattr(module, "rope_init_fn") and len(factors) == 1:
        made = given["rope_init_fn"] = module.rope_init_fn
        (factor,) = factors.values()

        def remade(*args: Any, **kwargs: Any) -> tuple[Tensor, float]:
            inv_freq, attention_factor = made(*args, **kwargs)
            return inv_freq * factor, attention_factor

        changed["rope_init_fn"] = remade
    try:
        for name, value in changed.items():
            setattr(module, name, value)
        yield
    finally:
        for name, value in given.items():
            setattr(module, name, value)


def each(function: Callable[..., Any], *tables: Any) -> Any:
    """Apply a function to the parts of tables, which are tensors or tuples of them."""
    if isinstance(tables[0], (tuple, list)):
        return tuple(function(*column) for column in zip(*tables, strict=True))
    return function(*tables)


def parts(table: Any) -> tuple[Tensor, ...]:
    """The tensors of a table."""
    return tuple(table) if isinstance(table, (tuple, list)) else (table,)


def same(first: Any, second: Any) -> bool:
    """Whether two tables are equal to the last bit."""
    return all(torch.equal(x, y) for x, y in zip(parts(first), parts(second), strict=True))


def is_table(argument: Any, table: Any) -> bool:
    """Whether an argument is a table, or made of views of the whole of it."""
    pairs = list(zip(parts(argument), parts(table), strict=False))
    return len(parts(argument)) == len(parts(table)) and all(
        isinstance(x, Tensor) and x.data_ptr() == y.data_ptr() and x.shape == y.shape for x, y in pairs
    )
