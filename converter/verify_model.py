"""Checks of a converted checkpoint that take a model: names and shapes, loading, a reference, the base.

The model is built of this ropext's own classes and never of the folder's code. It is cut to two layers and, of the
vocabulary, 256 tokens, unless the whole one is asked for: layers are alike, and what a method changes is inside each.
With the demonstration, the calibration and the evaluation it is one of the parts that import torch and transformers,
and is itself imported only when it runs.
"""

from __future__ import annotations

import copy
import math
import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor
from transformers import DynamicCache

from ropext.modeling.rope_ext_positions import NOTES, Notes

from . import shipped
from .config import extended_config
from .converted import Converted, Rebuilt
from .errors import RopextError
from .frequencies import FREQUENCY_METHODS
from .model_cache import cache_in, cache_name
from .model_classes import model_class, parts_of
from .native import UnsupportedSpelling, native_config
from .progress import size_text
from .verify_places import Shapes
from .verify_report import Unchecked

__all__ = ["Subject", "check_base", "check_reference", "shape_faults"]

LAYERS = 2
VOCABULARY = 256
MOST_BYTES = 8 << 30
"""Of two layers in float32; where they take more, one has to do, which may take twice as much."""

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


# Names and shapes


def shape_faults(converted: Converted, held: Shapes) -> Iterator[str]:
    """Name the tensors that the configuration asks for and the weights do not have, or have otherwise.

    Of quantized matrices, whose tensors a quantizer names, there has to be something; experts, which transformers
    stores one by one or joined, are counted.

    Args:
        converted: the checkpoint.
        held: the shapes that its files of weights name.
    """
    config = dict(converted.config)
    with _quiet(), torch.device("meta"):
        model = _class(converted)(_configuration(converted, config))
    start = f"{model.base_model_prefix}."  # which transformers adds or takes away where a head is or is not there
    wanted = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    found = {name.removeprefix(start): tuple(shape) for name, shape in held.items()}
    modules = {name[: dot.start()] for name in found for dot in re.finditer(r"\.", name)}
    quantized, mixture = bool(config.get("quantization_config")), any(key in config for key in _COUNTS_OF_EXPERTS)
    tied = {"lm_head.weight"} if config.get("tie_word_embeddings", model.config.tie_word_embeddings) else set()
    for name, shape in wanted.items():
        stored = name.removeprefix(start)
        if mixture and _EXPERTS.search(name):
            continue
        if quantized and not re.search("norm|embed_tokens", name):
            missing = stored.rpartition(".")[0] not in modules
        else:
            missing = stored not in found
            if not missing and found[stored] != shape:
                yield f"{name} is {list(found[stored])}, and the configuration asks for {list(shape)}"
        if missing and name not in tied:
            yield f"{name} is missing"
    layers = int(config["num_hidden_layers"])
    if mixture and not quantized:
        yield from _expert_faults(wanted, found, layers)
    known = [re.compile(each) for each in getattr(model, "_keys_to_ignore_on_load_unexpected", None) or ()]
    for name in held:
        if _layer(name) >= layers and not any(pattern.search(name) for pattern in known):
            yield f"{name} belongs to a layer beyond the {layers} of the configuration"


_COUNTS_OF_EXPERTS = ("num_experts", "num_local_experts", "n_routed_experts")
_EXPERTS = re.compile(r"layers\.\d+\.(mlp|block_sparse_moe)\.")
"""What is called otherwise in a file than in a mixture's model."""


def _expert_faults(wanted: Shapes, found: Shapes, layers: int) -> Iterator[str]:
    """Compare how many numbers the experts of each layer have, with what is beside them."""
    asked, there = ([0] * layers for _ in range(2))
    for shapes, numbers in ((wanted, asked), (found, there)):
        for name, shape in shapes.items():
            if _EXPERTS.search(name) and _layer(name) < layers:
                numbers[_layer(name)] += math.prod(shape)
    for layer in range(layers):
        if asked[layer] != there[layer]:
            yield (
                f"the experts of layer {layer} have {there[layer]:,} numbers, and the configuration asks for "
                f"{asked[layer]:,}"
            )


def _layer(name: str) -> int:
    found = re.search(r"(?:^|\.)layers\.(\d+)\.", name)
    return int(found[1]) if found else -1


# Models


def _class(converted: Converted) -> Any:
    """The class that loads the checkpoint: this ropext's own, or transformers' where it is native."""
    name = converted.config["architectures"][0]
    if converted.native:
        return getattr(transformers, name)
    autos = {reference.rpartition(".")[2]: auto for auto, reference in shipped.auto_map(converted.family).items()}
    return model_class(converted.family, str(converted.block["method"]), autos[name])


def _configuration(converted: Converted, config: Mapping[str, Any], backend: str = "sdpa") -> Any:
    made = _class(converted).config_class(**_plain(config))
    made._attn_implementation = backend
    return made


def _plain(config: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration without what belongs to the files; a copy, since transformers adds to what it is given."""
    return {
        key: copy.deepcopy(value)
        for key, value in config.items()
        if key not in ("auto_map", "quantization_config", "torch_dtype", "dtype", "transformers_version")
    }


def _cut(config: Mapping[str, Any], layers: int) -> dict[str, Any]:
    """A configuration of fewer layers and tokens."""
    cut = {**config, "num_hidden_layers": layers, "vocab_size": min(int(config["vocab_size"]), VOCABULARY)}
    if "rope_ext" in cut:
        pairs = cut["rope_ext"]["pairs"]
        kept = [layer for layer in pairs["layers"] if layer < layers]
        cut["rope_ext"] = {**cut["rope_ext"], "pairs": {**pairs, "layers": kept}}
    cut |= {key: None for key in ("pad_token_id", "bos_token_id", "eos_token_id") if key in config}
    if isinstance(config.get("layer_types"), list):
        cut["layer_types"] = config["layer_types"][:layers]
    return cut


def _weights(subject: Subject, layers: int, vocabulary: int) -> dict[str, Tensor]:
    """The tensors of the first layers, in float32; of those with a row for each token, the first rows."""
    from safetensors import safe_open

    full = int(subject.converted.config["vocab_size"])
    found = {}
    for file in subject.files:
        with safe_open(file, framework="pt") as tensors:
            for name in tensors.keys():  # noqa: SIM118 - it is no mapping
                if _layer(name) < layers:
                    part = tensors.get_slice(name)
                    by_token = re.search("embed|lm_head", name) and part.get_shape()[0] == full
                    tensor = part[:vocabulary] if by_token else tensors.get_tensor(name)
                    found[name] = tensor.float()
    return found


def _layers(subject: Subject) -> int:
    """How many layers to take."""
    count = int(subject.converted.config["num_hidden_layers"])
    if subject.whole:
        return count
    with torch.device("meta"):
        model = _class(subject.converted)(_configuration(subject.converted, _cut(subject.converted.config, 1)))
    size = sum(4 * parameter.numel() for parameter in model.parameters())
    if size > 2 * MOST_BYTES:
        raise Unchecked(
            f"one layer takes {size_text(size)} in float32, and at most {size_text(2 * MOST_BYTES)} are run"
        )
    attended = subject.converted.block["pairs"]["layers"]  # some of them have to be there
    wanted: int = attended[min(LAYERS, len(attended)) - 1] + 1 if LAYERS * size <= MOST_BYTES else attended[0] + 1
    return min(count, wanted)


def _model(subject: Subject, config: Mapping[str, Any], layers: int, *, stock: bool = False) -> Any:
    """A model in float32, with the checkpoint's weights or made-up ones.

    Args:
        subject: what is checked.
        config: the configuration to build it of.
        layers: how many of its layers.
        stock: of transformers' class of the architecture that the configuration names.

    Raises:
        RopextError: weights are missing or do not fit.
    """
    converted = subject.converted
    if not (subject.whole and not subject.made_up):
        config = _cut(config, layers)
    kind: Any = getattr(transformers, config["architectures"][0]) if stock else _class(converted)
    made = kind.config_class(**_plain(config))
    made._attn_implementation = "sdpa"
    if subject.made_up:
        model = kind(made).float()
        model.load_state_dict(_made_up_weights(model))
        return model.eval()
    dtype = "torch_dtype" if transformers.__version__.startswith("4.") else "dtype"
    model, found = kind.from_pretrained(
        None,
        config=made,
        state_dict=_weights(subject, layers, int(made.vocab_size)),
        attn_implementation="sdpa",
        output_loading_info=True,
        **{dtype: torch.float32},
    )
    for key, what in (("missing_keys", "are missing"), ("mismatched_keys", "have another shape")):
        if found[key]:
            names = sorted(str(each) for each in found[key])
            raise RopextError(f"{len(names)} tensors {what}, such as {names[0]}")
    return model.eval()


def _made_up_weights(model: Any) -> dict[str, Tensor]:
    """Seeded, by the names in their order, so that two classes with the same tensors have the same ones."""
    generator = torch.Generator().manual_seed(0)

    def draw(name: str, like: Tensor) -> Tensor:
        if "norm" in name or not like.is_floating_point():
            return like
        drawn = torch.randn(like.shape, generator=generator)
        return drawn * (0.1 if like.dim() < 2 else like.shape[-1] ** -0.5)

    return {name: draw(name, tensor) for name, tensor in sorted(model.state_dict().items())}


@contextmanager
def _quiet() -> Iterator[None]:
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
    with _quiet():
        layers = _layers(subject)
        if subject.rebuilt.preset.method in FREQUENCY_METHODS:
            return _check_frequencies(subject, layers)
        config = subject.converted.config
        model = _model(subject, config, layers)
        first = _first_moved(_configuration(subject.converted, config))
        length = min(first + BEYOND, LONGEST) if first else 2 * BEYOND
        heads = int(config["num_attention_heads"])
        if heads * length**2 <= MOST_LOGITS:
            outputs = [_read(model, _ids(length, model), backend) for backend in ("sdpa", "eager")]
            read = f"{length} tokens"
        else:
            cache, ids = _made_up_cache(model, length - BEYOND), _ids(BEYOND, model)
            outputs = [_read(model, ids, backend, **{cache_name(model): cache()}) for backend in ("sdpa", "eager")]
            read = f"{BEYOND} tokens after a made-up cache of {length - BEYOND}"
        _require_close(outputs, TOLERANCE)
        stepped = _require_steps(model, _steps_length(model, first, length))
    return f"{_about(subject, layers)}: {read} as by dense attention; {stepped}"


def _steps_length(model: Any, first: int, length: int) -> int:
    """How many tokens to read in steps; where what a token sees depends on the pieces, as many as are the base's."""
    method = _method(model.config.rope_ext)
    return min(first - 1 if method.by_pieces else length, MOST_STEPPED)


def _method(block: Mapping[str, Any]) -> Any:
    return parts_of(str(block["method"]))[0](dict(block))


def _require_steps(model: Any, length: int) -> str:
    """Compare the last tokens of a prompt, read one at a time after a cache, with themselves read at once."""
    ids = _ids(length, model)
    first = max(length - STEPS, 1)
    model.config._attn_implementation = "sdpa"
    decoder = getattr(model, model.base_model_prefix, model)
    whole = decoder(input_ids=ids, use_cache=False).last_hidden_state[0, first:]
    output, rows = decoder(input_ids=ids[:, :first], use_cache=True), []
    for column in range(first, length):
        given = {cache_name(decoder): cache_in(output)}
        output = decoder(input_ids=ids[:, column : column + 1], use_cache=True, **given)
        rows.append(output.last_hidden_state[0, -1])
    try:
        _require_close([torch.stack(rows), whole], TOLERANCE)
    except RopextError as error:
        raise RopextError(f"tokens after a cache: {error}; transformers {transformers.__version__}") from None
    return f"{len(rows)} of {length} tokens one at a time after a cache"


def _about(subject: Subject, layers: int) -> str:
    count = int(subject.converted.config["num_hidden_layers"])
    made_up = ", made-up weights" if subject.made_up else ""
    made_up += " in the place of quantized ones" if subject.quantized else ""
    return f"{layers} of {count} layers{made_up}, float32"


def _check_frequencies(subject: Subject, layers: int) -> str:
    converted, rebuilt = subject.converted, subject.rebuilt
    of_preset = (converted.base_config, rebuilt.facts, rebuilt.preset, rebuilt.baked)
    ours = extended_config(*of_preset) if converted.native else converted.config
    own = replace(subject, converted=replace(converted, config=ours, record={**converted.record, "native": False}))
    model = _model(own, ours, layers)
    position = rebuilt.preset.initial_window
    ids, positions = _ids(2 * BEYOND, model), torch.cat((torch.arange(BEYOND), position + torch.arange(BEYOND)))[None]
    output, what = _read(model, ids, position_ids=positions), "transformers' own class"
    try:
        stock = _model(subject, converted.config if converted.native else native_config(*of_preset), layers, stock=True)
    except UnsupportedSpelling:
        stock, what = model, "dense attention"
    _require_close([output, _read(stock, ids, "eager", position_ids=positions)], _TURNING_TOLERANCE)
    stepped = _require_steps(model, min(2 * BEYOND, position))
    return f"{_about(subject, layers)}: {2 * BEYOND} tokens around position {position} as by {what}; {stepped}"


def _first_moved(config: Any) -> int:
    """The first length at which the method is more than the base; 0 where it never is."""
    is_base: Callable[[int], bool] = _method(config.rope_ext).is_base
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


def _read(model: Any, ids: Tensor, backend: str = "sdpa", **how: Any) -> Tensor:
    """[tokens, hidden]: what the decoder makes of a prompt, by a backend of attention."""
    decoder = getattr(model, model.base_model_prefix, model)
    decoder.config._attn_implementation = backend
    hidden: Tensor = decoder(input_ids=ids, **how).last_hidden_state[0]
    return hidden


def _made_up_cache(model: Any, length: int) -> Callable[[], Any]:
    """What makes caches of that many tokens: random keys and values, of the widths that the model keeps."""
    kept: list[tuple[Tensor, Tensor]] = []

    class Watching(DynamicCache):  # type: ignore[misc]
        def update(self, key: Tensor, value: Tensor, *args: Any, **kwargs: Any) -> Any:
            kept.append((key, value))
            return super().update(key, value, *args, **kwargs)

    _read(model, _ids(1, model), **{cache_name(model): Watching()})
    generator = torch.Generator().manual_seed(1)

    def draw(like: Tensor) -> Tensor:
        shape = (*like.shape[:2], length, like.shape[3])
        return torch.randn(shape, generator=generator) * like.float().square().mean().sqrt()

    drawn = [(draw(key), draw(value)) for key, value in kept]

    def cache() -> Any:
        made = DynamicCache()
        setattr(made, NOTES, Notes(origin=torch.zeros(1, 1, dtype=torch.long)))
        for layer, (key, value) in enumerate(drawn):
            made.update(key, value, layer)
        return made

    return cache


def _require_close(outputs: Sequence[Tensor], tolerance: float) -> None:
    """Compare an output with its reference, token by token: the error's size with the reference's."""
    output, reference = outputs
    error = ((output - reference).norm(dim=-1) / reference.norm(dim=-1)).max().item()
    if not error <= tolerance:
        raise RopextError(f"differs from the reference by {error:.2g} of its size, and {tolerance:g} is allowed")


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
    with _quiet():
        layers = _layers(subject)
        base = _model(subject, converted.base_config, layers, stock=True)
        ids = _ids(min(length, 2 * BEYOND), base)
        expected = _read(base, ids)
        del base
        found = _read(_model(subject, converted.config, layers), ids)
    if not torch.equal(found, expected):
        worst = (found - expected).abs().max().item()
        raise RopextError(f"differs from the base within {length} tokens, by up to {worst:.2g}")
    return f"{_about(subject, layers)}: {ids.shape[1]} tokens bit for bit; the method promises {length}"


def _promised(converted: Converted, rebuilt: Rebuilt) -> int:
    """Up to which length the checkpoint is to be the base, in tokens; 0: at none."""
    preset = rebuilt.preset
    if preset.method == "dynamic_ntk":
        return preset.initial_window
    if preset.method in FREQUENCY_METHODS:
        return 0
    first = _first_moved(_configuration(converted, converted.config))
    return first - 1 if first else preset.target_window
