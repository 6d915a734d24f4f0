"""Models that `ropext verify` runs: of this ropext's own classes, cut to a few layers and to 256 tokens.

They are never built of the folder's code. Layers are alike, and what a method changes is inside each; where only some
of them are the method's, enough are kept for two of those to be among them.
"""

from __future__ import annotations

import copy
import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor

from ropext.converter import model_code
from ropext.converter.checkpoint.description import describe
from ropext.converter.checkpoint.families import FAMILIES
from ropext.converter.converted.read import Converted, Rebuilt
from ropext.converter.errors import RopextError
from ropext.converter.model_classes import decoded, model_class
from ropext.converter.text import size_text

from .report import Unchecked

__all__ = [
    "Subject",
    "build",
    "configuration",
    "fitted",
    "kept_layers",
    "layer_of",
    "make_model",
    "quiet",
    "require_text_only",
    "total_layers",
]

VOCABULARY = 256
MOST_BYTES = 8 << 30
"""Of the layers in float32; where two of the method's take more, one has to do, which may take twice as much."""


@dataclass(frozen=True)
class Subject:
    """What is checked.

    Attributes:
        converted: the checkpoint.
        rebuilt: the same, from its preset.
        files: its weights; empty where they are not here, so that weights are made up.
        whole: take the model as it is.
    """

    converted: Converted
    rebuilt: Rebuilt
    files: tuple[Path, ...]
    whole: bool = False

    @property
    def quantized(self) -> bool:
        """Whether the weights are numbers of a quantizer."""
        return bool(self.converted.config.get("quantization_config"))

    @property
    def made_up(self) -> bool:
        """Whether the model is run with other weights than its own."""
        return not self.files or self.quantized


@contextmanager
def quiet() -> Iterator[None]:
    """Keep transformers' own remarks and bars off the terminal."""
    from transformers.utils import logging

    level = logging.get_verbosity()
    shown = logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        with torch.inference_mode(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.set_verbosity(level)
        if shown:
            logging.enable_progress_bar()


def require_text_only(converted: Converted) -> None:
    """Refuse a checkpoint whose model also sees or hears.

    Raises:
        Unchecked: it does.
    """
    family = FAMILIES.get(converted.family)
    if family is not None and family.text:
        raise Unchecked(
            f"no model of type {converted.family!r} is run: only text models are, not those with one inside"
        )


def total_layers(converted: Converted) -> int:
    """Return how many layers the configuration asks for."""
    return describe(converted.base_config).num_layers


def layer_of(name: str) -> int:
    """Return the index of the layer that a tensor belongs to; -1 for none."""
    found = re.search(r"(?:^|\.)(?:layers|h)\.(\d+)\.", name)
    return int(found[1]) if found else -1


# Classes and configurations


def build(converted: Converted, config: Mapping[str, Any]) -> Any:
    """Make the model that loads the checkpoint, with weights as they come."""
    return _class(converted)(configuration(converted, config))


def configuration(converted: Converted, config: Mapping[str, Any]) -> Any:
    """Make the configuration that the class of the checkpoint takes."""
    return _configured(_class(converted), _class(converted).config_class, config)


def _class(converted: Converted) -> Any:
    """The class that loads the checkpoint: this ropext's own, or transformers' where it is native."""
    name = converted.config["architectures"][0]
    if converted.native:
        return getattr(transformers, name)
    autos = {reference.rpartition(".")[2]: auto for auto, reference in model_code.auto_map(converted.family).items()}
    return model_class(converted.family, str(converted.block["method"]), autos[name])


def _configured(kind: Any, config_class: Any, config: Mapping[str, Any]) -> Any:
    """Make a configuration with the backend that its class would take by itself."""
    made = config_class(**_plain(config))
    made._attn_implementation = "sdpa" if kind._supports_sdpa else "eager"
    return made


def _plain(config: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration without what belongs to the files; a copy, since transformers adds to what it is given."""
    return {
        key: decoded(copy.deepcopy(value))
        for key, value in config.items()
        if key not in ("auto_map", "quantization_config", "torch_dtype", "dtype", "transformers_version")
    }


# Fewer layers


_INDICES = ("full_attn_idxs", "attn_layer_indices", "mlp_only_layers")
"""Keys that list layers by their indices."""


def fitted(config: Mapping[str, Any], layers: int) -> dict[str, Any]:
    """Return a configuration of the first layers, whatever lists it has of layers cut as well.

    Args:
        config: a `config.json`, converted or not.
        layers: how many to keep.
    """
    cut = dict(config)
    blocks, total = config.get("num_layers"), config.get("num_hidden_layers")
    if FAMILIES[str(config["model_type"])].layers == "double" and isinstance(blocks, int):
        cut["num_layers"], total = -(-layers // 2), 2 * blocks
    if FAMILIES[str(config["model_type"])].layers != "double" or "num_hidden_layers" in config:
        cut["num_hidden_layers"] = layers
    for key, value in config.items():
        if isinstance(value, list) and len(value) == total and key not in _INDICES:
            cut[key] = value[:layers]
    cut |= {key: [each for each in config[key] if each < layers] for key in _INDICES if config.get(key)}
    if isinstance(config.get("num_kv_shared_layers"), int) and isinstance(total, int):
        cut["num_kv_shared_layers"] = max(0, layers - (total - config["num_kv_shared_layers"]))
    if "pairs" in config.get("rope_ext", {}):
        pairs = config["rope_ext"]["pairs"]
        kept = [layer for layer in pairs["layers"] if layer < layers]
        cut["rope_ext"] = {**config["rope_ext"], "pairs": {**pairs, "layers": kept}}
    return cut


def _cut(config: Mapping[str, Any], layers: int) -> dict[str, Any]:
    """A configuration of fewer layers and tokens."""
    cut = fitted(config, layers)
    if "vocab_size" in config:
        cut["vocab_size"] = min(int(config["vocab_size"]), VOCABULARY)
    return cut | {key: 0 for key in ("pad_token_id", "bos_token_id", "eos_token_id") if config.get(key) is not None}


def kept_layers(subject: Subject) -> int:
    """Return how many layers to take.

    Raises:
        Unchecked: they are too large, or cannot be cut.
    """
    converted = subject.converted
    require_text_only(converted)
    if subject.whole:
        return total_layers(converted)
    if converted.config.get("hidden_size_per_layer_input"):
        raise Unchecked(
            "its embeddings of each layer lie in one table, so that no part of it can be run; see --forward"
        )
    attended: list[int] = converted.block["pairs"]["layers"]
    first, second = (attended * 2)[:2]
    few, more = first + 1, max(first, second) + 1
    if _size(converted, more) <= MOST_BYTES:
        return more
    size = _size(converted, few)
    if size > 2 * MOST_BYTES:
        what = "one layer takes" if few == 1 else f"{few} layers take"
        raise Unchecked(f"{what} {size_text(size)} in float32, and at most {size_text(2 * MOST_BYTES)} are run")
    return few


def _size(converted: Converted, layers: int) -> int:
    with torch.device("meta"):
        model = build(converted, _cut(converted.config, layers))
    return sum(4 * parameter.numel() for parameter in model.parameters())


# Models


def make_model(subject: Subject, config: Mapping[str, Any], layers: int, *, stock: bool = False) -> Any:
    """Make a model in float32, with the checkpoint's weights or made-up ones.

    Args:
        subject: what is checked.
        config: the configuration to build it of.
        layers: how many of its layers.
        stock: of transformers' class of the architecture that the configuration names.

    Raises:
        RopextError: weights are missing or do not fit.
    """
    if not (subject.whole and not subject.made_up):
        config = _cut(config, layers)
    if stock:
        kind: Any = getattr(transformers, config["architectures"][0])
        made = _configured(kind, transformers.CONFIG_MAPPING[config["model_type"]], config)
    else:
        kind, made = _class(subject.converted), configuration(subject.converted, config)
    if subject.made_up:
        model = kind(made).float()
        model.load_state_dict(_made_up_weights(model))
        return model.eval()
    dtype = "torch_dtype" if transformers.__version__.startswith("4.") else "dtype"
    model, found = kind.from_pretrained(
        None,
        config=made,
        state_dict=_weights(subject, layers, int(made.vocab_size)),
        attn_implementation=made._attn_implementation,
        output_loading_info=True,
        **{dtype: torch.float32},
    )
    for key, what in (("missing_keys", "are missing"), ("mismatched_keys", "have another shape")):
        if found[key]:
            names = sorted(str(each) for each in found[key])
            raise RopextError(f"{len(names)} tensors {what}, such as {names[0]}")
    return model.eval()


def _weights(subject: Subject, layers: int, vocabulary: int) -> dict[str, Tensor]:
    """The tensors of the first layers, in float32; of those with a row for each token, the first rows."""
    from safetensors import safe_open

    full = subject.converted.config.get("vocab_size")
    found = {}
    for file in subject.files:
        with safe_open(file, framework="pt") as tensors:
            for name in tensors.keys():  # noqa: SIM118 - it is no mapping
                if layer_of(name) < layers:
                    part = tensors.get_slice(name)
                    by_token = layer_of(name) < 0 and part.get_shape()[:1] == [full]
                    tensor = part[:vocabulary] if by_token else tensors.get_tensor(name)
                    found[name] = tensor.float()
    return found


def _made_up_weights(model: Any) -> dict[str, Tensor]:
    """Seeded, by the names in their order, so that two classes with the same tensors have the same ones."""
    generator = torch.Generator().manual_seed(0)

    def draw(name: str, like: Tensor) -> Tensor:
        if "norm" in name or not like.is_floating_point():
            return like
        drawn = torch.randn(like.shape, generator=generator)
        return drawn * (0.1 if like.dim() < 2 else like.shape[-1] ** -0.5)

    return {name: draw(name, tensor) for name, tensor in sorted(model.state_dict().items())}
