"""Checks of a converted checkpoint that take a model: loading, a reference, the base.

With the demonstration, the calibration and the evaluation it is one of the parts that import torch and transformers,
and is itself imported only when it runs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
import transformers
from torch import Tensor
from transformers import DynamicCache

from ropext.converter.checkpoint.model_cache import cache_in, cache_name
from ropext.converter.convert.config import extended_config
from ropext.converter.convert.native import UnsupportedSpelling, native_config, require_remote
from ropext.converter.converted.read import Converted, Rebuilt
from ropext.converter.errors import RopextError, UsageError
from ropext.converter.methods.registry import FREQUENCY_METHODS, method
from ropext.converter.model_classes import parts_of
from ropext.modeling.rope_ext_model import blocks_by_layer, decoder_of
from ropext.modeling.rope_ext_notes import NOTES, Notes

from .parts import Subject, kept_layers, make_model, quiet, total_layers
from .report import Unchecked

__all__ = ["Subject", "check_base", "check_reference"]

BEYOND = 32
"""Tokens that are read where the method works: beyond its windows."""

STEPS = 3
"""Tokens that are read one at a time after a cache."""

MOST_STEPPED = 1 << 11
"""Tokens of the prompt before them at most."""

MOST_LOGITS = 1 << 26
"""Of one layer's dense attention. For a longer prompt only its end is read, after a cache that is made up."""

LONGEST = 1 << 16
"""Tokens of such a cache at most."""

TOLERANCE = 1e-3
"""The difference of two outputs over the size of the reference, float32. It is 1e-6 where both are right."""

_TURNING_TOLERANCE = 1e-2
"""Where frequencies may differ in their last bit: angles magnify that."""


# The reference


def check_reference(subject: Subject) -> str:
    """Load the model and compare it, beyond the method's windows, with a reference.

    For a method with attention of its own that is its dense form: one logit for each query and key, at the distance
    that the method gives them, softmax and sum; against the merged kernel calls that a user gets. A frequency method
    is compared with transformers' own implementation, where that has one.

    Returns:
        What was done, for the report.

    Raises:
        RopextError: they differ, or the model does not load.
        Unchecked: it is too large.
    """
    with quiet():
        layers = kept_layers(subject)
        if subject.rebuilt.preset.method in FREQUENCY_METHODS:
            return _check_frequencies(subject, layers)
        model = make_model(subject, subject.converted.config, layers)
        first = _first_moved(subject.converted)
        length = min(first + BEYOND, LONGEST) if first else 2 * BEYOND
        if subject.rebuilt.facts.num_attention_heads * length**2 <= MOST_LOGITS:
            outputs = [_read(model, _ids(length, model), how) for how in ("method", "dense")]
            read = f"{length} tokens"
        else:
            cache, ids = _made_up_cache(model, length - BEYOND), _ids(BEYOND, model)
            outputs = [_read(model, ids, how, **{cache_name(model): cache()}) for how in ("method", "dense")]
            read = f"{BEYOND} tokens after a made-up cache of {length - BEYOND}"
        _require_close(outputs, TOLERANCE)
        stepped = _require_steps(subject, layers, model, _steps_length(model, first, length))
    return f"{_about(subject, layers)}: {read} as by dense attention; {stepped}"


def _steps_length(model: Any, first: int, length: int) -> int:
    """How many tokens to read in steps; where what a token sees depends on the pieces, as many as are the base's."""
    by_pieces = any(method.by_pieces for method in _methods(model.config.rope_ext))
    return min(first - 1 if by_pieces else length, MOST_STEPPED)


def _methods(block: Mapping[str, Any]) -> list[Any]:
    """The method, and as it is in layers that have parameters of their own."""
    kind, block = parts_of(str(block["method"]))[0], dict(block)
    return [kind(block), *(kind(own) for _, own in blocks_by_layer(block))]


def _require_steps(subject: Subject, layers: int, model: Any, length: int) -> str:
    """Compare the last tokens of a prompt, read one at a time after a cache, with themselves read at once.

    Raises:
        RopextError: they differ.
        Unchecked: so do they in the base, as transformers runs it.
    """
    stepped, whole = _stepped(model, length)
    try:
        _require_close([stepped, whole], TOLERANCE)
    except RopextError as error:
        base = make_model(subject, subject.converted.base_config, layers, stock=True)
        off = _difference(*_stepped(base, length))
        if not off <= TOLERANCE:
            raise Unchecked(
                f"transformers {transformers.__version__} itself reads tokens of the base after a cache otherwise than "
                f"without one, by {off:.2g} of their size"
            ) from None
        raise RopextError(f"tokens after a cache: {error}; transformers {transformers.__version__}") from None
    return f"{len(whole)} of {length} tokens one at a time after a cache"


def _stepped(model: Any, length: int) -> tuple[Tensor, Tensor]:
    """Return the last tokens' hidden states, [tokens, hidden]: one at a time after a cache, and all at once."""
    ids = _ids(length, model)
    first = max(length - STEPS, 1)
    decoder = decoder_of(model)
    whole = decoder(input_ids=ids, use_cache=False).last_hidden_state[0, first:]
    output, rows = decoder(input_ids=ids[:, :first], use_cache=True), []
    for column in range(first, length):
        given = {cache_name(decoder): cache_in(output)}
        output = decoder(input_ids=ids[:, column : column + 1], use_cache=True, **given)
        rows.append(output.last_hidden_state[0, -1])
    return torch.stack(rows), whole


def _about(subject: Subject, layers: int) -> str:
    count = total_layers(subject.converted)
    made_up = ", made-up weights" if subject.made_up else ""
    made_up += " in the place of quantized ones" if subject.quantized else ""
    return f"{layers} of {count} layers{made_up}, float32"


def _check_frequencies(subject: Subject, layers: int) -> str:
    converted, rebuilt = subject.converted, subject.rebuilt
    of_preset = (converted.base_config, rebuilt.facts, rebuilt.preset, rebuilt.baked)
    try:
        require_remote(converted.base_config, rebuilt.preset.method)
    except UsageError as error:
        raise Unchecked(f"there is nothing to compare with: {error}") from None
    if converted.native and 0 < (rebuilt.facts.window or 0) < 2 * BEYOND:
        raise Unchecked(f"a window of {rebuilt.facts.window} tokens hides some of the {2 * BEYOND} that are compared")
    ours = extended_config(*of_preset) if converted.native else converted.config
    own = replace(subject, converted=replace(converted, config=ours, record=replace(converted.record, native=False)))
    model = make_model(own, ours, layers)
    position = rebuilt.preset.initial_window
    ids, positions = _ids(2 * BEYOND, model), torch.cat((torch.arange(BEYOND), position + torch.arange(BEYOND)))[None]
    output, what = _read(model, ids, position_ids=positions), "transformers' own class"
    try:
        config = converted.config if converted.native else native_config(*of_preset)
        stock = make_model(subject, config, layers, stock=True)
    except UnsupportedSpelling:
        stock, what = model, "dense attention"
    _require_close([output, _read(stock, ids, "eager", position_ids=positions)], _TURNING_TOLERANCE)
    stepped = _require_steps(own, layers, model, min(2 * BEYOND, position))
    return f"{_about(subject, layers)}: {2 * BEYOND} tokens around position {position} as by {what}; {stepped}"


def _first_moved(converted: Converted) -> int:
    """The first length at which the method is more than the base; 0 where it never is."""
    methods = _methods(converted.block)

    def is_base(length: int) -> bool:
        return all(method.is_base(length) for method in methods)

    if is_base(1 << 40):
        return 0
    low, high = 0, 1
    while is_base(high):
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if is_base(middle) else (low, middle)
    return high


def _ids(count: int, model: Any) -> Tensor:
    """[1, count] tokens, seeded."""
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, int(model.config.vocab_size), (1, count), generator=generator)


def _read(model: Any, ids: Tensor, how: str = "", **given: Any) -> Tensor:
    """[tokens, hidden]: what the decoder makes of a prompt.

    Args:
        model: with its head or without.
        ids: [1, tokens].
        how: `eager` for all layers; `method` or `dense` for those of a method with attention of its own, as a user gets
            it or by its dense form; by default as the model's class does it.
        **given: what else the decoder takes.
    """
    decoder = decoder_of(model)
    before = decoder.config._attn_implementation
    if how == "eager":
        decoder.config._attn_implementation = how
    try:
        with _attending(decoder, how):
            hidden: Tensor = decoder(input_ids=ids, **given).last_hidden_state[0]
    finally:
        decoder.config._attn_implementation = before
    return hidden


@contextmanager
def _attending(decoder: Any, how: str) -> Iterator[None]:
    """Let a method attend as asked, whatever backend the other layers have."""
    if how not in ("method", "dense"):
        yield
        return
    methods = decoder.rope_ext_attachment.methods
    for each in methods:
        each.attend = _as_asked(each, how)
    try:
        yield
    finally:
        for each in methods:
            del each.attend


def _as_asked(method: Any, how: str) -> Callable[..., tuple[Tensor, Tensor | None]]:
    own = method.attend

    def attend(tokens: Any, *, weights: bool) -> tuple[Tensor, Tensor | None]:
        attended: tuple[Tensor, Tensor | None] = method.dense(tokens) if how == "dense" else own(tokens, weights=False)
        return attended

    return attend


def _made_up_cache(model: Any, length: int) -> Callable[[], Any]:
    """What makes caches of that many tokens: random keys and values, of the widths that the model keeps.

    Raises:
        Unchecked: some of the layers keep something else.
    """
    kept: dict[int, tuple[Tensor, Tensor]] = {}

    class Watching(DynamicCache):  # type: ignore[misc]
        def update(self, key: Tensor, value: Tensor, layer: int, *args: Any, **kwargs: Any) -> Any:
            kept[layer] = (key, value)
            return super().update(key, value, layer, *args, **kwargs)

    kinds = set(getattr(model.config, "layer_types", None) or ()) - {"full_attention", "sliding_attention"}
    if kinds:
        raise Unchecked(f"no cache of {length} tokens is made up for layers of the kind {min(kinds)}")
    _read(model, _ids(1, model), **{cache_name(model): Watching()})
    generator = torch.Generator().manual_seed(1)

    def draw(like: Tensor) -> Tensor:
        shape = (*like.shape[:2], length, like.shape[3])
        return torch.randn(shape, generator=generator) * like.float().square().mean().sqrt()

    drawn = {layer: (draw(key), draw(value)) for layer, (key, value) in sorted(kept.items())}

    def cache() -> Any:
        made = DynamicCache()
        setattr(made, NOTES, Notes(origin=torch.zeros(1, 1, dtype=torch.long)))
        for layer, (key, value) in drawn.items():
            made.update(key, value, layer)
        return made

    return cache


def _require_close(outputs: Sequence[Tensor], tolerance: float) -> None:
    """Compare an output with its reference, token by token: the error's size with the reference's."""
    error = _difference(*outputs)
    if not error <= tolerance:
        raise RopextError(f"differs from the reference by {error:.2g} of its size, and {tolerance:g} is allowed")


def _difference(output: Tensor, reference: Tensor) -> float:
    """The largest error of a token, over the size of its reference."""
    return float(((output - reference).norm(dim=-1) / reference.norm(dim=-1)).max())


# The base


def check_base(subject: Subject) -> str | None:
    """Compare with the base model, bit for bit, where the method promises that.

    Returns:
        What was done; None where the method promises nothing.

    Raises:
        RopextError: they differ, or the base does not load.
        Unchecked: it is too large.
    """
    converted, rebuilt = subject.converted, subject.rebuilt
    length = _promised(converted, rebuilt)
    if not length:
        return None
    with quiet():
        layers = kept_layers(subject)
        base = make_model(subject, converted.base_config, layers, stock=True)
        ids = _ids(min(length, 2 * BEYOND), base)
        expected = _read(base, ids)
        del base
        found = _read(make_model(subject, converted.config, layers), ids)
    if not torch.equal(found, expected):
        worst = (found - expected).abs().max().item()
        raise RopextError(f"differs from the base within {length} tokens, by up to {worst:.2g}")
    return f"{_about(subject, layers)}: {ids.shape[1]} tokens bit for bit; the method promises {length}"


def _promised(converted: Converted, rebuilt: Rebuilt) -> int:
    """Up to which length the checkpoint is to be the base, in tokens; 0: at none."""
    preset = rebuilt.preset
    if method(preset.method).grows:
        return preset.initial_window
    if preset.method in FREQUENCY_METHODS:
        return 0
    first = _first_moved(converted)
    return first - 1 if first else preset.target_window
