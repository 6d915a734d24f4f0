"""The part of an extended model that all families share: a mixin for a family's own classes.

`XRopeExtForCausalLM(RopeExtMixin, XForCausalLM)` is the stock class with a method attached to its decoder; no forward
is overridden and none is copied.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from os import getenv
from typing import Any, NoReturn

import torch
import transformers
from torch import Tensor
from transformers import AutoModel, Cache

FORMAT = 2
"""Of the `rope_ext` block that this code reads."""

TESTED = ("4.55.4", "5.24.0")
"""The oldest and the newest transformers on which this code was tested."""

OTHER_VERSION = (
    f"transformers {transformers.__version__} runs this model in a way that its code does not know. Install one from "
    f"{TESTED[0]} to {TESTED[1]}, or let a newer ropext rewrite the code: ropext upgrade FOLDER"
)
"""What to do where transformers is not as it was."""


class RopeExtMixin:
    """A stock class with the method of its configuration. Goes before the stock class among the bases.

    Attributes:
        rope_ext_parts: the class of the method, and that of its attachment to a decoder.
        rope_ext_model_class: the family's model without a head, by which stock heads make theirs.
    """

    rope_ext_parts: tuple[Callable[..., Any], Callable[..., Any]]
    rope_ext_model_class: type | None = None
    # A method is more than one call of an attention function: backends that bring their own cannot run it.
    _supports_attention_backend = False
    _supports_flex_attn = False

    config_class: Any

    def __init__(self, config: Any, *args: Any, **kwargs: Any) -> None:
        block = read_block(config)
        _convert_weights_as_stock(type(self), config.model_type)
        if self.rope_ext_model_class is not None:
            AutoModel.register(self.config_class, self.rope_ext_model_class, exist_ok=True)
        super().__init__(config, *args, **kwargs)
        decoder = decoder_of(self)
        if not hasattr(decoder, "rope_ext_attachment"):  # a head's model has attached its own
            attach(decoder, block, *self.rope_ext_parts)

    @classmethod
    def from_pretrained(cls, *args: Any, **kwargs: Any) -> Any:
        """Load as the stock class does, but refuse a checkpoint that lacks weights.

        Raises:
            RuntimeError: the checkpoint lacks weights of the model.
        """
        wants_info = kwargs.pop("output_loading_info", False)
        model, info = super().from_pretrained(*args, output_loading_info=True, **kwargs)
        missing = sorted(str(name) for name in info["missing_keys"])
        head = "ForCausalLM", "ForConditionalGeneration", "Model"
        if missing and cls.__name__.endswith(head):
            raise RuntimeError(f"ropext: the checkpoint has no {missing[0]}, and {len(missing) - 1} more are missing")
        prepare(decoder_of(model))
        return (model, info) if wants_info else model

    @classmethod
    def is_custom_code(cls) -> bool:
        """Whether weights are other than the stock class's: they are not, and are to be renamed and made as for it."""
        return False

    def generate_batch(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Refuse continuous batching: it reads keys from a cache of its own, which no method here could use."""
        raise NotImplementedError(
            "continuous batching (generate_batch) does not run a checkpoint made by ropext; call generate with a "
            "left-padded batch instead"
        )

    def init_continuous_batching(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Refuse continuous batching, as `generate_batch`."""
        self.generate_batch()


def head_class(name: str, stock: Any, model_class: Any) -> type:
    """Make the class of a stock head with the method of its configuration.

    Args:
        name: such as `LlamaRopeExtForSequenceClassification`.
        stock: transformers' module of the family.
        model_class: the family's model without a head, extended.

    Raises:
        AttributeError: this transformers has no such head.
    """
    stem = next(each.__name__ for each in model_class.__mro__ if each.__module__ == stock.__name__)
    ending = name.partition("RopeExt")[2]
    stem = stem.removesuffix("Model").removesuffix("Text")
    base = getattr(stock, stem + ending, None) if ending.startswith("For") else None
    if base is None:
        raise AttributeError(f"transformers {transformers.__version__} has no stock class for {name}")
    parts = {"config_class": model_class.config_class, "rope_ext_parts": model_class.rope_ext_parts}
    made = type(name, (RopeExtMixin, base), parts | {"rope_ext_model_class": model_class})
    made.__module__ = model_class.__module__
    setattr(sys.modules[made.__module__], name, made)
    return made


def read_block(config: Any) -> dict[str, Any]:
    """Return the `rope_ext` block of a configuration.

    Raises:
        ValueError: there is none, or it is not one for this code.
    """
    block = getattr(config, "rope_ext", None)
    if not isinstance(block, dict):
        raise ValueError("the configuration has no rope_ext block: this is no checkpoint made by ropext")
    if block.get("format") != FORMAT:
        raise ValueError(
            f"the rope_ext block has format {block.get('format')!r} and this code reads {FORMAT}: code and "
            "configuration come from different versions of ropext; use the code that stands beside config.json, in a "
            "fresh process"
        )
    return block


def attach(decoder: Any, block: dict[str, Any], method_class: Any, attachment_class: Any) -> Any:
    """Put a method on a decoder, and mark it to be checked before its first forward.

    Args:
        decoder: a stock model of transformers without its head.
        block: a `rope_ext` block, with `pairs`.
        method_class: of the method.
        attachment_class: of its attachment.

    Raises:
        ValueError: the block is another method's, or names layers that the model has not.
    """
    name = method_class.__module__.rpartition("rope_ext_")[2]
    if block["method"] != name:
        raise ValueError(
            f"config.json asks for the method {block['method']!r} and the code beside it is that of {name!r}: they "
            "come from different checkpoints; two local folders of one name may share their code in one process"
        )
    pairs = block.get("pairs", {})
    # Models are built on the meta device; the tables of a method are real.
    with torch.device("cpu"):
        method = method_class(block)
        others: dict[int, Any] = {}
        for layers, own in blocks_by_layer(block):
            other = method_class(own)
            other.kind = layers[0]
            others |= dict.fromkeys(layers, other)
    attachment = attachment_class(decoder, method, pairs.get("layers"))
    attachment.others = others
    attachment.norms_after = pairs.get("norms_after")
    decoder.rope_ext_attachment = attachment
    decoder.register_forward_pre_hook(_check_first)
    return attachment


def blocks_by_layer(block: dict[str, Any]) -> Iterator[tuple[list[int], dict[str, Any]]]:
    """Layers with parameters of their own, and the `rope_ext` block as it is for them."""
    for change in block["parameters"].get("by_layer", ()):
        yield change["layers"], {**block, "parameters": change["parameters"]}


def detach(decoder: Any) -> None:
    """Take the method off a decoder: the stock model again, bit for bit."""
    decoder.rope_ext_attachment.detach()
    del decoder.rope_ext_attachment


def prepare(decoder: Any) -> None:
    """Check a model that was loaded, once; on a transformers that is not known by running it.

    Raises:
        RuntimeError: the base is not what the configuration says, or this transformers runs it in another way.
    """
    if getattr(decoder, "rope_ext_checked", False):
        return
    decoder.rope_ext_checked = True  # the checks run the model
    try:
        check_frequencies(decoder, decoder.rope_ext_attachment.method.base)
        if any(parameter.is_meta or not parameter.numel() for parameter in decoder.parameters()):
            return  # weights on the disk, or on other processes
        if is_due() or getattr(decoder.config, "quantization_config", None) is None:  # a first forward settles those
            decoder.rope_ext_attachment.check_rotation(decoder)
        if is_due():
            self_test(decoder)
    except Exception:
        decoder.rope_ext_checked = False  # the next forward says so again
        raise


def check_frequencies(decoder: Any, base: Tensor | None) -> None:
    """Check that the model has the inverse frequencies [P] with which it was described.

    Raises:
        RuntimeError: none of its rotary modules has.
    """
    tables = [table for rotary in rotary_modules(decoder) for _, table in inverse_frequencies(rotary)]
    if base is None or any(same_frequencies(table, base) for table in tables):
        return
    raise RuntimeError(
        f"ropext: the base's rotary frequencies are not those in config.json; transformers {transformers.__version__} "
        "reads its rope settings in another way. Use a newer transformers, or convert again"
    )


def same_frequencies(table: Tensor, base: Tensor) -> bool:
    """Whether a table [P] holds the base's inverse frequencies, which 16 bits may have rounded."""
    if table.shape != base.shape or table.is_meta:
        return table.is_meta
    return torch.allclose(table.float().cpu(), base.abs().cpu(), rtol=1e-2, atol=1e-7)


def _check_first(decoder: Any, args: Any) -> None:
    if hasattr(decoder, "rope_ext_attachment") and not torch.compiler.is_compiling():
        prepare(decoder)


def _convert_weights_as_stock(cls: type, model_type: str) -> None:
    """Let transformers 5 rename and join weights of the checkpoint as for its own class of the family.

    Without this it leaves code that is not its own out, and makes the weights anew, with a warning.
    """
    mappings: Any = sys.modules.get("transformers.conversion_mapping")
    if mappings is None:
        return
    stock = next((base.__name__ for base in cls.__mro__ if base.__module__.startswith("transformers.models.")), "")
    for name, ours in ((model_type, model_type), (stock, cls.__name__)):
        mapping = mappings.get_checkpoint_conversion_mapping(name)
        if mapping is not None:
            mappings.register_checkpoint_conversion_mapping(ours, mapping, overwrite=True)


# What is looked up in a model, whatever its family


def decoder_of(model: Any) -> Any:
    """The part of a model that reads text, without its head."""
    decoder = model.get_decoder() if hasattr(model, "get_decoder") else None
    # Some versions answer a question-answering model with itself.
    return getattr(model, model.base_model_prefix, model) if decoder is None or decoder is model else decoder


def attention_modules(decoder: Any) -> list[Any]:
    """The innermost modules that have a layer's index and the configuration, by which they choose how to attend."""
    found = [m for m in decoder.modules() if hasattr(m, "layer_idx") and hasattr(m, "config") and m is not decoder]
    return [m for m in found if not any(other in found for other in m.modules() if other is not m)]


def rotary_modules(decoder: Any) -> list[Any]:
    """The modules that hold inverse frequencies."""
    return [m for m in decoder.modules() if any(True for _ in inverse_frequencies(m))]


def inverse_frequencies(rotary: Any) -> Iterator[tuple[str, Tensor]]:
    """The tables of a module by name, one for each kind of layer that it serves; copies that it keeps are left out."""
    held = {**vars(rotary), **dict(rotary.named_buffers(recurse=False))}
    for name, tensor in held.items():
        if isinstance(tensor, Tensor) and re.fullmatch(r"(?!.*(original|long)_inv_freq)\w*inv_freq", name):
            yield name, tensor


def positions_of(rotary: Any, args: Any, kwargs: Any) -> Tensor:
    """The positions that a rotary module was called with.

    Raises:
        RuntimeError: there are none.
    """
    integers = (x for x in args if isinstance(x, Tensor) and not x.is_floating_point())
    positions = kwargs.get("position_ids", next(integers, None))
    if not isinstance(positions, Tensor) or positions.dim() not in (2, 3):
        raise RuntimeError(f"ropext: {type(rotary).__name__} was called without positions; {OTHER_VERSION}")
    return positions


# The self-test

TOKENS = 7
TOLERANCE = 1e-3
"""The largest difference over the largest number, float32; it is 1e-6 where all is right."""
HALF_TOLERANCE = 0.05
"""The same in 16 bits, where it is up to 0.02."""


def is_due() -> bool:
    """Whether the self-test has to run: on an untested transformers, or if `ROPEXT_SELF_TEST=1` asks for it."""
    oldest, version, newest = map(_numbers, (TESTED[0], sys.modules["transformers"].__version__, TESTED[1]))
    return getenv("ROPEXT_SELF_TEST") == "1" or not oldest <= version <= newest


def _numbers(version: str) -> list[int]:
    """The three numbers of a release, without `rc1` or `.dev0`."""
    return [int(number) for number in re.findall(r"\d+", version)[:3]]


@torch.no_grad()
def self_test(decoder: Any) -> float:
    """Compare the last of 7 tokens after a cache (5 + 1 + 1) with itself without one, the method made small.

    Args:
        decoder: the model without its head.

    Returns:
        The largest difference, over the largest number.

    Raises:
        RuntimeError: they differ, or this transformers returns no cache.
    """
    training = decoder.training
    decoder.eval()
    try:
        with ExitStack() as small:
            for method in decoder.rope_ext_attachment.methods:
                small.enter_context(method.made_small())
            whole = decoder(input_ids=_ids(decoder), use_cache=False)[0][:, -1]
            last = _after_cache(decoder)
    finally:
        decoder.train(training)
    half = whole.dtype in (torch.bfloat16, torch.float16)
    off = float((last.float() - whole.float()).abs().max() / whole.float().abs().max())
    if not off <= (HALF_TOLERANCE if half else TOLERANCE):
        raise RuntimeError(
            f"ropext: a token read after a cache differs from itself without, by {off:.2g}: {OTHER_VERSION}"
        )
    return off


def _ids(decoder: Any) -> Tensor:
    embedding = decoder.get_input_embeddings()
    ids: Tensor = torch.arange(TOKENS, device=embedding.weight.device)[None] * 7 % min(50, embedding.num_embeddings)
    return ids


def _after_cache(decoder: Any) -> Tensor:
    ids = _ids(decoder)
    out = decoder(input_ids=ids[:, : TOKENS - 2], use_cache=True)
    for column in (TOKENS - 2, TOKENS - 1):
        caches = {name: value for name, value in out.items() if isinstance(value, Cache)}
        if len(caches) != 1:
            raise RuntimeError(f"ropext: a forward returned {len(caches)} caches, not 1: {OTHER_VERSION}")
        out = decoder(input_ids=ids[:, column : column + 1], use_cache=True, **caches)
    last: Tensor = out[0][:, -1]
    return last
