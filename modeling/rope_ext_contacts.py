"""The contacts with transformers: all that this code knows of how a model is run. Seen the same from 4.55.4 to 5.24.0.

1. A registered attention function: it gets queries and keys as the model rotated them, values, the mask, the scaling.
2. A view of the configuration on each attention layer that the method acts on. Its one property names our function, or,
   where a forward is the base's, the user's own backend: so the base is the base to the last bit.
3. A torch hook on the rotary modules: the positions.
4. A torch hook before the attention modules: the cache, found by its type and never by the name of an argument.

Beside these, torch hooks around the decoder mark where a forward begins and ends. What is called in another way than
described here is an error that says so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, Cache

from .rope_ext_attention import in_range, one_type
from .rope_ext_cache import UNKNOWN, check_kept, is_held, note_kept, refuse_masked
from .rope_ext_copies import Copies, Recent
from .rope_ext_method import Method, Tokens
from .rope_ext_model import (
    OTHER_VERSION,
    attention_modules,
    inverse_frequencies,
    positions_of,
    rotary_modules,
    same_frequencies,
)
from .rope_ext_positions import Forward, Now, now_in_thread

NAME = "rope_ext"
"""Under which the attention function is registered."""

PROBE = 977
"""Where a token is put to see how the model rotates it."""

BACKENDS = ("sdpa", "flash_attention_2", "eager")
"""Values of `attn_implementation`: torch's kernels, those of the package flash-attn, and the dense reference."""

_TOLD = "position_ids cache_position output_attentions use_cache is_causal output_hidden_states return_dict layer_idx"
_TOLD += " position_embeddings attention_mask past_key_value past_key_values cache output_router_logits head_mask"
_TOLD += " layer_head_mask logits_to_keep num_items_in_batch token_type_ids mm_token_type_ids kwargs labels"
_TOLD += " cu_seq_lens_q cu_seq_lens_k max_length_q max_length_k sliding_window s_aux softcap seq_idx"
KNOWN = frozenset(_TOLD.split())
"""Arguments that are understood, or that mean nothing to attention; another one with a value is an error."""


class View:
    """A configuration as one attention layer sees it: the same, with another `_attn_implementation`.

    It is no subclass, whose class attributes would come before the configuration's own, and does not pretend to be of
    the configuration's class, which torch.compile would take at its word.
    """

    def __init__(self, config: Any, attachment: Attachment, layer: int) -> None:
        vars(self).update(rope_ext_config=config, rope_ext_attachment=attachment, rope_ext_layer=layer)

    @property
    def _attn_implementation(self) -> str:
        now: Now = vars(self)["rope_ext_attachment"].now
        if now.layer == vars(self)["rope_ext_layer"] and now.stock and not torch.compiler.is_compiling():
            now.asked.add(vars(self)["rope_ext_layer"])
            return now.backend
        return NAME

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or "rope_ext_config" not in vars(self):
            raise AttributeError(name)
        return getattr(vars(self)["rope_ext_config"], name)

    def __reduce__(self) -> Any:
        return View, tuple(vars(self)[f"rope_ext_{name}"] for name in ("config", "attachment", "layer"))


class Attachment:
    """A method on a decoder of transformers.

    Attributes:
        method: None while the decoder is asked what it rotates.
        others: of layers that have parameters of their own.
        config: of the decoder, the model without its head; of an image-text model the part that reads text.
        layers: indices of the layers that the method acts on.
        norms_after: names of an attention module's norms that come after the rotation, of queries and of keys.
        observer: is shown each layer's method and what it is given; the base's own function is not called then.
        recorded: queries and keys by module, while it is asked.
    """

    def __init__(self, decoder: Any, method: Method | None, layers: list[int] | None) -> None:
        AttentionInterface.register(NAME, attention)
        self.method = method
        self.others: dict[int, Method] = {}
        self.config = decoder.config
        self.norms_after: list[str] | None = None
        self.observer: Callable[[Method, Tokens], None] | None = None
        self.recorded: dict[Any, tuple[Tensor, Tensor]] | None = None
        self._main = Now(decoder.config._attn_implementation)
        self._tables: list[Tensor] = []
        self._has_kernels = bool(getattr(decoder, "_supports_sdpa", True))
        self._shares_keys = bool(getattr(decoder.config, "num_kv_shared_layers", 0))
        self._handles: list[Any] = []
        self._modules = [m for m in attention_modules(decoder) if layers is None or m.layer_idx in layers]
        self.layers = frozenset(module.layer_idx for module in self._modules)
        if layers is not None and self.layers != set(layers):
            missing = sorted(set(layers) - self.layers)
            raise ValueError(f"ropext: {type(decoder).__name__} has no attention in layers {missing}; {OTHER_VERSION}")
        for module in self._modules:
            module.config = View(module.config, self, module.layer_idx)
            module.rope_ext = self
            self._handles.append(module.register_forward_pre_hook(self._before_attention, with_kwargs=True))
        rotaries = rotary_modules(decoder)
        if not rotaries or not self._modules:
            raise ValueError(f"ropext: {type(decoder).__name__} has no rotary attention that could be extended")
        self._handles += [module.register_forward_hook(self._after_rotary, with_kwargs=True) for module in rotaries]
        self._handles.append(decoder.register_forward_pre_hook(self._before_decoder, with_kwargs=True))
        self._handles.append(decoder.register_forward_hook(self._after_decoder))

    @property
    def now(self) -> Now:
        """Where the forward of this thread stands: a model may run in several at once."""
        return self._main if torch.compiler.is_compiling() else now_in_thread(self, self._main)

    @property
    def methods(self) -> tuple[Method, ...]:
        """All of them, each once."""
        return () if self.method is None else tuple({self.method, *self.others.values()})

    def method_of(self, layer: int) -> Method:
        """The method with a layer's parameters."""
        assert self.method is not None
        return self.others.get(layer, self.method)

    def detach(self) -> None:
        """Take the method off: the stock model again, bit for bit."""
        for handle in self._handles:
            handle.remove()
        for module in self._modules:
            module.config = vars(module.config)["rope_ext_config"]
            del module.rope_ext
        self._handles, self._modules = [], []

    @torch.no_grad()
    def record(self, decoder: Any, positions: Tensor) -> dict[Any, tuple[Tensor, Tensor]]:
        """Return query and key of each attention module for one token at some positions [.., 1, 1].

        One token attends to itself alone, so what its position changes in them is the rotation and nothing else.
        """
        training = decoder.training
        decoder.eval()
        self.recorded = {}
        try:
            ids = torch.ones((1, 1), dtype=torch.long, device=positions.device)
            decoder(input_ids=ids, position_ids=positions, use_cache=False)
            return self.recorded
        finally:
            self.recorded = None
            decoder.train(training)

    def check_rotation(self, decoder: Any) -> None:
        """Check on two one-token forwards that the layers rotate what the configuration says, as fast as it says.

        Raises:
            RuntimeError: a layer does not.
        """
        device = next(decoder.parameters()).device
        stock, moved = (torch.full((1, 1), place, device=device) for place in (0, PROBE))
        first, second = self.record(decoder, stock), self.record(decoder, moved)
        if {module.layer_idx for module in first} != self.layers:  # a router may know its layer, and never ask
            raise RuntimeError(f"ropext: a layer did not ask for an attention function; {OTHER_VERSION}")
        assert self.method is not None
        rotated = self.method.rotated.to(device)
        table = self.method.pairs.turn(stock, moved, rotated, rotated)
        for module in first:
            gains = [getattr(module, name).weight for name in self.norms_after or ()] or [1.0, 1.0]
            for x, expected, gain in zip(first[module], second[module], gains, strict=True):
                turned = self.method.pairs.rotate(x / gain, table) * gain
                ratio = (expected.float().norm() / turned.float().norm()).item()  # some scale a query by its position
                off = float((turned * ratio - expected).abs().max() / expected.abs().max())
                if not off < (2e-3 if expected.dtype in (torch.float32, torch.float64) else 0.05):
                    raise RuntimeError(f"ropext: layer {module.layer_idx} rotates in another way; {OTHER_VERSION}")

    def wants_weights(self, kwargs: dict[str, Any]) -> bool:
        """Whether to compute all logits: with `eager`; where a family has nothing else, if weights are asked for."""
        if self.now.backend != "eager" or self._has_kernels:
            return self.now.backend == "eager"
        return bool(kwargs.get("output_attentions") or getattr(self.config, "output_attentions", False))

    # Hooks

    def _before_decoder(self, module: nn.Module, args: Any, kwargs: Any) -> None:
        now = self.now
        now.backend = self.config._attn_implementation
        if now.backend not in BACKENDS:
            raise ValueError(f"attention backend {now.backend!r} cannot run this method; use one of {BACKENDS}")
        now.latest = None
        if not torch.compiler.is_compiling():
            now.asked.clear()

    def _after_decoder(self, module: nn.Module, args: Any, output: Any) -> None:
        now = self.now
        forward, now.latest = now.latest, None
        if torch.compiler.is_compiling() or self.recorded is not None:
            return
        now.layer = now.forward = None  # nothing of a text is kept
        if now.asked != self.layers:
            missing = sorted(self.layers - now.asked)
            raise RuntimeError(f"ropext: layers {missing} did not ask for an attention function; {OTHER_VERSION}")
        if forward is not None and not self._shares_keys:
            check_kept(forward, self.layers)

    def _after_rotary(self, module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        positions = positions_of(module, args, kwargs)
        self._note_type(module)
        now = self.now
        if now.latest is None or now.latest.given is not positions:
            now.latest = Forward(positions)
        if not torch.compiler.is_compiling():
            for method in self.methods:
                method.place(positions.device)
            # Layers that run again for their gradient are given the same tables, when another forward is the latest.
            for table in _tensors(output):
                table._rope_ext_forward = now.latest

    def _note_type(self, rotary: nn.Module) -> None:
        """Learn by which frequencies a model rotates: a model that was cast to 16 bits has rounded its own."""
        if torch.compiler.is_compiling() or self.method is None:
            return
        for _, table in inverse_frequencies(rotary):
            if not any(table is seen for seen in self._tables):
                self._tables.append(table)
                if same_frequencies(table, base := self.method.base):
                    for method in self.methods:
                        method.rotated = table.float() * base.sign().to(table.device)

    def _before_attention(self, module: Any, args: Any, kwargs: Any) -> None:
        compiling, now = torch.compiler.is_compiling(), self.now
        if self.recorded is not None:
            now.stock = False
            return
        if not compiling:
            now.layer, now.stock = module.layer_idx, False
            if now.latest is None:  # it runs again for its gradient, on CUDA in a thread of autograd
                now.backend = self.config._attn_implementation
        forward = self._forward(args, kwargs)
        cache = next((x for x in (*kwargs.values(), *args) if isinstance(x, Cache)), None)
        forward.enter(cache, module.layer_idx)
        if not compiling:
            method = self.method_of(module.layer_idx)
            assert forward.last is not None
            now.forward = forward
            base = not (method.small or self.observer) and method.is_base(forward.last + 1)
            now.stock = base and module.layer_idx not in forward.notes.far

    def _forward(self, args: Any, kwargs: Any) -> Forward:
        """The forward whose tables a layer was given; else the latest."""
        forward = self.now.latest
        if not torch.compiler.is_compiling():
            marked = (getattr(x, "_rope_ext_forward", None) for x in _tensors((*kwargs.values(), *args)))
            forward = next((each for each in marked if each is not None), forward)
        if forward is None:
            raise RuntimeError(f"ropext: attention was called before the rotary module; {OTHER_VERSION}")
        return forward

    # Attention

    def tokens(
        self, module: Any, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, kwargs: dict[str, Any]
    ) -> Tokens:
        """What the method needs to know of a call."""
        compiling, now = torch.compiler.is_compiling(), self.now
        forward = now.latest if compiling else now.forward
        assert forward is not None
        count, flash = query.shape[2], "flash" in now.backend
        geometry = forward.geometry(mask, query.shape[0], count, key.shape[2], flash=flash)
        if key.shape[2] != geometry.length:  # a static cache: what is not filled yet
            key, value = key[:, :, : geometry.length], value[:, :, : geometry.length]
        method = self.method_of(module.layer_idx)
        if method.kind is not None:
            geometry = geometry.memo(f"kind {method.kind}", geometry.again)
        tokens = Tokens(
            layer=module.layer_idx,
            query=query,
            key=key,
            value=value,
            geometry=geometry,
            pairs=method.pairs,
            scale=kwargs["scaling"],
            gains=tuple(getattr(module, name).weight for name in self.norms_after or ()) or None,
            softcap=kwargs.get("softcap"),
            sinks=kwargs.get("s_aux"),
            dropout=kwargs["dropout"],
            backend=now.backend,
        )
        if not compiling:
            self._use_cache(tokens, forward)
            note_kept(forward, module.layer_idx, key)
        return tokens

    def _use_cache(self, tokens: Tokens, forward: Forward) -> None:
        """Let the cache hold far keys, or keep copies of them beside it, where either can be."""
        notes, layer, geometry = forward.notes, tokens.layer, tokens.geometry
        method = self.method_of(layer)
        held = layer in notes.far
        can_hold = method.keys_stay and not self._shares_keys
        one = tokens.query.shape[2] == 1 and tokens.query.shape[0] == 1 and geometry.one_call
        if geometry.axes is not None:
            if held:  # from now on each pair has its own distance: the cache is to hold exact keys again
                self._bring_back(tokens)
                notes.far.discard(layer)
            return
        if held or (can_hold and is_held(tokens.key, forward.cache, layer)):
            if notes.unknown:
                raise ValueError(UNKNOWN)
            start = geometry.length - tokens.query.shape[2] if held else 0
            far_key, tokens.far_key, tokens.exact_from = tokens.key, tokens.key, start
            if forward.tail is not None and forward.tail[0] is far_key:  # a layer that calls attention once more
                tokens.key, tokens.exact_from = forward.tail[1:]
                return
            tokens.key = far_key[:, :, start:].clone()
            table = geometry.memo(("to_far", start), lambda: method.far_key_table(geometry, start, geometry.length))
            far_key[:, :, start:] = tokens.turn_key(tokens.key, table)
            forward.tail = far_key, tokens.key, start
            notes.far.add(layer)
            tokens.recent = notes.beside(layer, Recent, one)
        elif method.moves_keys and is_held(tokens.key, forward.cache, layer):
            tokens.copies = notes.beside(layer, Copies, one)

    def _bring_back(self, tokens: Tokens) -> None:
        """Let a cache that holds far keys hold exact ones."""
        start = tokens.length - tokens.query.shape[2]
        cos, sin = self.method_of(tokens.layer).far_key_table(tokens.geometry, 0, start)
        tokens.key[:, :, :start] = tokens.turn_key(tokens.key[:, :, :start], (cos, -sin))


def attention(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    **kwargs: Any,
) -> tuple[Tensor, Tensor | None]:
    """Attention by the method of a module's attachment: the function that is registered with transformers.

    Args:
        module: the attention module of a layer.
        query: [B, H, T, D], rotated by the model.
        key: [B, K, L, D], rotated by the model, those of the cache among them.
        value: [B, K, L, Dv].
        attention_mask: as transformers makes it for the backend that the user has chosen.
        scaling: factor on the logits.
        dropout: of the weights.
        **kwargs: what the layer passes on.

    Returns:
        [B, T, H, Dv], and with the backend `eager` the weights [B, H, T, L].

    Raises:
        ValueError: an argument has a value and is not known, or the mask is more than this code understands.
    """
    attachment: Attachment = module.rope_ext
    if attachment.recorded is not None:
        attachment.recorded[module] = query, key
        repeated = value.repeat_interleave(query.shape[1] // value.shape[1], dim=1)
        return repeated.transpose(1, 2), None
    unknown = sorted(name for name, given in kwargs.items() if name not in KNOWN and given is not None)
    if unknown or kwargs.get("sliding_window") is not None:
        raise ValueError(
            f"ropext: {type(module).__name__} passes {unknown or 'sliding_window'} to attention; {OTHER_VERSION}"
        )
    if not torch.compiler.is_compiling():
        attachment.now.asked.add(module.layer_idx)
        refuse_masked(module, query, key)
    query, key, value = one_type(query, key, value)
    query, scaling = in_range(query, query.shape[-1] ** -0.5 if scaling is None else scaling)
    kwargs |= {"scaling": scaling, "dropout": dropout}
    tokens = attachment.tokens(module, query, key, value, attention_mask, kwargs)
    method = attachment.method_of(module.layer_idx)
    if attachment.observer is not None:
        attachment.observer(method, tokens)
    out, weights = method.attend(tokens, weights=attachment.wants_weights(kwargs))
    return out.transpose(1, 2).contiguous(), weights


def _tensors(values: Any) -> Iterator[Tensor]:
    """Tensors, also those in tuples, lists and dictionaries."""
    for value in (values,) if isinstance(values, Tensor) else values.values() if isinstance(values, dict) else values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, tuple | list | dict):
            yield from _tensors(value)
