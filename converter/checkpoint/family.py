"""What one row of the table of families says; the rows are in `families.py`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass
from typing import Any, Literal, NamedTuple

__all__ = ["Family", "LayerRule", "Layout", "Sizes"]

Layout = Literal["halves", "neighbours"]
"""Which dimensions form a frequency pair, among those that RoPE turns: one of each half, or two next to each other.

It is meant as the attention function receives queries and keys: DeepSeek V3 stores neighbours and hands over halves.
"""

LayerRule = Literal["every", "double", "window", "types", "tail", "alternate", "indices"]
"""How a configuration says which layers have full attention; `layers.py` explains and reads each."""


class Sizes(NamedTuple):
    """What a configuration class takes for keys that a configuration leaves out.

    Attributes:
        hidden_size: width of the hidden states.
        num_hidden_layers: decoder layers.
        num_attention_heads: query heads of a layer.
        num_key_value_heads: key heads of a layer; 0: as many as query heads.
        max_position_embeddings: tokens.
    """

    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    max_position_embeddings: int


@dataclass(frozen=True)
class Family:
    """A model type: its stock classes, how its configuration spells RoPE, and what it means by missing keys.

    Attributes:
        model_type: as `config.json` names it.
        stem: how its stock classes' names begin, such as `Llama` of `LlamaForCausalLM`.
        sizes: defaults of its configuration class; None in rows that need none.
        since: the first transformers, of those that were tried, whose attention of this family can be extended.
        refused: why it cannot be converted; empty where it can be.
        text: the model types that its text model may have, for a model with one inside.
        inside: the model type around it, for a text model that has no language model class of its own.
        module: where its classes are, if not in `models/<model_type>/modeling_<model_type>.py`.
        guard: the key of its activation function, which a stock class looks up when it is built; empty: none does.
        layout: how its pairs lie.
        sign: -1 where pairs turn backwards.
        alias: how the names of its configuration class and of ours begin, where it has a stock class of another family.
        heads: stock heads that transformers 5.24 has: (s)equence and (t)oken classification, (q)uestion answering.
        norms_after: the names of norms with weights between rotation and attention, the query's and the key's.
        head_key: the key of a head's width.
        head_dim: that width by default; None: the hidden size over the heads. Beside `latent`: the class reads this
            key for the width that is turned, so that it has to agree.
        latent: default widths without and with RoPE, for keys that are made from a latent (MLA); RoPE's come last.
        theta_key: the key of RoPE's base outside the dictionaries.
        theta: that base by default; None: it has to be written, as versions of transformers differ.
        partial_keys: the keys of the part of each head that RoPE turns, outside the dictionaries, the first first.
        partial: that part by default; None: whole heads whatever is written.
        rope: the class's default of `rope_parameters` where it is more than a base.
        per_type: whether `rope_parameters` holds a dictionary for each layer type. "legacy": so it does, and before
            `rope_scaling` and `rope_theta` were those of the full layers.
        multi_axis: whether positions have several axes, so that `mrope` is a name for unscaled.
        sections: default numbers of pairs of each of those axes.
        interleaved: whether the axes' pairs take turns.
        layers: how a configuration says which layers have full attention.
        pattern: its default `layer_types`, one letter a layer, repeated (after a bar, where there is one): f(ull),
            s(liding), w (sliding, if there is a window), l(inear), c(onvolution). By `indices`: that of all layers
            without a list, and that of those which a list does not name.
        layers_key: the key that replaces that default: the pattern's length, or the full layers' indices.
        window: its default `sliding_window`.
        window_switch: whether it needs `use_sliding_window` as well.
        window_layers: its default `max_window_layers`.
        nope: the key that says which full layers have no rotary positions. `sliding_window`: all, if it is set.
    """

    model_type: str
    stem: str = ""
    sizes: Sizes | None = None
    _: KW_ONLY
    since: str = "4.55"
    refused: str = ""
    text: tuple[str, ...] = ()
    inside: str = ""
    module: str = ""
    guard: str = "hidden_act"
    layout: Layout = "halves"
    sign: Literal[1, -1] = 1
    alias: str = ""
    heads: str = ""
    norms_after: tuple[str, ...] = ()
    head_key: str = "head_dim"
    head_dim: int | None = None
    latent: tuple[int, int] | None = None
    theta_key: str = "rope_theta"
    theta: float | None = 10_000.0
    partial_keys: tuple[str, ...] = ("partial_rotary_factor",)
    partial: float | None = None
    rope: Mapping[str, Any] | None = None
    per_type: bool | Literal["legacy"] = False
    multi_axis: bool = False
    sections: tuple[int, int, int] | None = None
    interleaved: bool = False
    layers: LayerRule = "every"
    pattern: str = "f"
    layers_key: str = ""
    window: int | None = None
    window_switch: bool = False
    window_layers: int = 28
    nope: str = ""

    @property
    def stock_class(self) -> str:
        """The stock class that a conversion extends."""
        return f"{self.stem}{'ForConditionalGeneration' if self.text else 'ForCausalLM'}"

    @property
    def stock_module(self) -> str:
        """The module of transformers that has it."""
        name = self.model_type.replace("-", "_")
        return f"transformers.models.{self.module or f'{name}.modeling_{name}'}"

    @property
    def own_stem(self) -> str:
        """How the names of our classes begin."""
        return self.alias or self.stem

    def own_class(self, ending: str) -> str:
        """Return the name of one of our classes, such as `LlamaRopeExtForCausalLM`."""
        return f"{self.own_stem}RopeExt{ending}"

    @property
    def own_classes(self) -> dict[str, str]:
        """Our model classes, by the stock classes whose place they take."""
        found = {self.stem + ending: self.own_class(ending) for ending in self.auto_classes.values()}
        return {**found, self.stock_model: self.own_class("Model")}

    @property
    def _is_text_part(self) -> bool:
        """Whether its classes stand beside those of a model around it."""
        return self.model_type.endswith("_text") and not self.stem.endswith("Text")

    @property
    def stock_model(self) -> str:
        """The stock class without a head."""
        return f"{self.stem}{'TextModel' if self._is_text_part else 'Model'}"

    @property
    def stock_config(self) -> str:
        """The stock configuration class."""
        return f"{self.own_stem}{'TextConfig' if self._is_text_part else 'Config'}"

    @property
    def config_module(self) -> str:
        """The module of transformers that has the configuration class."""
        if self.alias:
            return f"transformers.models.{self.model_type}.configuration_{self.model_type}"
        return self.stock_module.replace(".modeling_", ".configuration_")

    @property
    def auto_classes(self) -> dict[str, str]:
        """The Auto classes that load it, with the ends of our classes' names."""
        if self.text:
            autos = "AutoModelForCausalLM AutoModelForImageTextToText AutoModelForMultimodalLM AutoModelForVision2Seq"
            return dict.fromkeys(autos.split(), "ForConditionalGeneration")
        heads = {"s": "SequenceClassification", "t": "TokenClassification", "q": "QuestionAnswering"}
        return {"AutoModelForCausalLM": "ForCausalLM"} | {
            f"AutoModelFor{name}": f"For{name}" for letter, name in heads.items() if letter in self.heads
        }
