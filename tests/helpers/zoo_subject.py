"""A type of the zoo with a method attached, and what its logits have to be."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ropext.converter.checkpoint.description import describe
from ropext.converter.convert.apply import plain
from ropext.converter.errors import RopextError
from ropext.converter.model_classes import parts_of
from ropext.modeling.rope_ext_model import attach, decoder_of
from tests.helpers import tiny
from tests.reference import stock
from tests.reference.regions import FREQUENCY_METHODS, Region, Setting, regions

from . import zoo, zoo_composites

LENGTH = 92
"""Tokens of most inputs: beyond the 64 that count as trained, and beyond all that delays a method."""


def kind(name: str) -> ModuleType:
    """The table that has the type: `available`, `build`, `config` and `inputs` are alike in both."""
    return zoo_composites if name in zoo_composites.TEXT else zoo


@dataclass(frozen=True)
class Specimen:
    """A type's stock models, built once and never changed.

    Attributes:
        name: the type.
        attn: attention implementation of the models in use.
        stock: what came of uses of the stock model, where that was asked.
    """

    name: str
    attn: str = "sdpa"
    stock: dict[str, Any] = field(default_factory=dict)

    @cached_property
    def base(self) -> Any:
        """In float32."""
        return kind(self.name).build(self.name, self.attn)

    @cached_property
    def wide(self) -> Any:
        """The oracle's: in float64 where the stock model runs in it and computes the same."""
        model = kind(self.name).build(self.name, "eager", torch.float64)
        inputs = self.inputs()
        try:
            exact = model(**inputs).logits
        except (RuntimeError, ValueError):  # kernels of experts and towers
            exact = torch.inf
        forget(self.base)
        differs = float((exact - self.base(**inputs).logits).abs().max())
        return model if differs < 2e-4 else kind(self.name).build(self.name, "eager")

    def inputs(self, length: int = LENGTH, seed: int = 0) -> dict[str, Tensor]:
        """One row; with an image for composites, if it is long enough for one."""
        if self.is_composite and length < LENGTH // 2:
            return zoo.inputs(self.name, length, seed)
        made: dict[str, Tensor] = kind(self.name).inputs(self.name, length, seed)
        return made

    @property
    def is_composite(self) -> bool:
        return kind(self.name) is zoo_composites

    @cached_property
    def has_window_tables(self) -> bool:
        """Whether layers with a window have rotary tables of their own."""
        names = [name for name, _ in self.base.named_buffers() if name.endswith("inv_freq")]
        return any("sliding" in name or "local" in name for name in names)

    @property
    def has_axes(self) -> bool:
        """Whether a token of an image has several positions."""
        return self.is_composite and self.name.startswith("qwen")

    @cached_property
    def settings(self) -> list[Setting]:
        """What the oracle saw of the layers on which a method acts; none where no such layer has positions."""
        seen: list[Setting] = []

        def look(setting: Setting) -> Any:
            seen.append(setting)
            return regions(tiny.CASES["original"], setting)

        stock.logits(self.wide, look, **zoo.inputs(self.name, 12))
        return seen

    @cached_property
    def rejection(self) -> Exception | None:
        """What is raised when a method is attached, if it is by any."""
        try:
            self.attach(tiny.CASES["self_extend"])
        except Exception as error:
            return error
        return None

    def attach(self, case: tiny.Case) -> Any:
        """A fresh model with a case on it."""
        model = kind(self.name).build(self.name, self.attn)
        attach(decoder_of(model), block(case, model), *parts_of(case.method))
        return model

    def fitted(self, case: tiny.Case) -> tiny.Case:
        """A case of Llama's 8 frequency pairs, made for as many as this type has."""
        assert self.settings, "the oracle finds no layer with full attention and positions"
        inv_freq = self.settings[0].inv_freq.numpy()
        layers, pairs = 1 + max(setting.layer for setting in self.settings), len(inv_freq)
        parameters, tables = copy.deepcopy(case.parameters), dict(case.tables)
        for each in tiny.sets(parameters):
            if groups := each.get("dimension_groups"):
                each["dimension_groups"] = [group * pairs // groups[-1] for group in groups]
            if factors := each.get("factors"):
                each["factors"] = [factors[pair % len(factors)] for pair in range(pairs)]
        if tables:
            heads = stock.decoder_of(self.base).config.num_attention_heads
            chosen = np.random.default_rng(0).random((layers, heads, pairs)) < 0.6
            tables["selected_pairs"] = tiny.packed(chosen)
        factors = np.interp(np.linspace(0, 7, pairs), range(8), np.divide(case.inv_freq, tiny.INV_FREQ))
        return replace(case, parameters=parameters, tables=tables, inv_freq=(factors * inv_freq).tolist())


REFUSALS = (RopextError, ValueError, NotImplementedError, RuntimeError)
"""What code that cannot serve a model raises on purpose; all else is a failure."""
specimen = lru_cache(maxsize=2)(Specimen)


ON_AXES = ("bands", "dpe", "rerope", "self_extend", "string")
"""Methods that go by distances alone, so by those on each axis; others may refuse images that have axes."""


@dataclass(frozen=True)
class Subject:
    """A model in use.

    Attributes:
        specimen: its type.
        case: the method on it, fitted; None for the stock model by its own attention.
        model: the model itself.
    """

    specimen: Specimen
    case: tiny.Case | None
    model: Any

    @property
    def base(self) -> Any:
        return self.specimen.base

    @property
    def feeding(self) -> bool:
        """Whether the logits do not depend on how the input is cut into forwards."""
        return self.case is None or self.case.feeding

    def truth(self, inputs: dict[str, Tensor], ends: list[int] | None = None) -> Tensor:
        """Logits [T, vocabulary] of one row alone: the oracle's, or the stock model's eager one's, without a cache."""
        forget(self.specimen.wide)
        if self.case is None:
            return self.specimen.wide(**inputs, use_cache=False).logits[0].double()
        shared = self.chooses_frequencies and not self.specimen.has_window_tables
        return stock.logits(self.specimen.wide, self.regions, ends, local_layers=shared, **inputs)

    @property
    def may_refuse(self) -> bool:
        """Whether the method need not read what the model reads."""
        return self.case is not None and self.specimen.has_axes and self.case.method not in ON_AXES

    @property
    def chooses_frequencies(self) -> bool:
        """Whether the method changes the rotary module: then for all layers that share its frequencies."""
        return self.case is not None and self.case.method in FREQUENCY_METHODS

    def regions(self, setting: Setting) -> list[Region]:
        """Those of the case; plain RoPE in layers with frequencies of their own."""
        assert self.case is not None
        own = self.chooses_frequencies and not torch.equal(setting.inv_freq, self.specimen.settings[0].inv_freq)
        return regions(tiny.CASES["original"] if own else self.case, setting)

    def window(self) -> int:
        """The most tokens at which nothing moves, up to 128."""
        if self.case is None:
            return LENGTH
        setting = self.specimen.settings[0]
        for length in range(1, 130):
            p = torch.arange(length, dtype=torch.float64)
            found = self.regions(replace(setting, p=p, ends=[length] * length))
            if any(moves(region, p) for region in found):
                return length - 1
        return 128


def moves(region: Region, p: Tensor) -> bool:
    """Whether a region in which some query sees a key takes tokens elsewhere than `p`, or scales logits."""
    seen = (p[:, None] >= p) & (region.mask if region.mask.dim() == 2 else region.mask.any(0))
    elsewhere = any(bool((x.reshape(len(p), -1) != p[:, None]).any()) for x in (region.a, region.b))
    scaled = torch.as_tensor(region.weight).expand_as(p[:, None] - p) != 1.0
    return bool(seen.any()) and (elsewhere or region.amplitude != 1.0 or bool((seen & scaled).any()))


def block(case: tiny.Case, model: Any) -> dict[str, Any]:
    """The `rope_ext` block, as a conversion of the model would have it."""
    base = describe(plain(model.config.to_dict()))
    if base.window:
        raise ValueError("all of its layers slide; only a conversion turns that off")
    inv_freq = list(base.inv_freq)
    made = tiny.block(case)
    made |= {"pairs": base.pairs() | {"inv_freq": inv_freq}, "base": {"rope_theta": base.rope.theta}}
    return made if case.method in FREQUENCY_METHODS else made | {"inv_freq": inv_freq}


def forget(model: Any) -> None:
    """Drop what Qwen's image-text models remember of the input before."""
    inner = getattr(model, "model", None)
    if hasattr(inner, "rope_deltas"):
        inner.rope_deltas = None
