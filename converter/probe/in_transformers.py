"""The rotary tables of transformers: those of the stock class of a model, made from its configuration alone."""

from __future__ import annotations

import contextlib
import copy
import inspect
import logging
import warnings
from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import Any

import torch
import transformers

from ropext.converter.checkpoint.description import TextModel, text_model
from ropext.converter.errors import RopextError

from .claims import Claim, claims_of
from .table import EVERY, Table, Tables, Untold, of_long_prompts

__all__ = ["tables"]


def tables(config: Mapping[str, Any]) -> Tables:
    """Read the tables of the installed transformers.

    Raises:
        Untold: it does not know the model, or refuses the configuration.
    """
    try:
        text = text_model(config)
    except RopextError:
        text = _outside_ropext(config)
    kind = config.get("model_type")
    if kind not in transformers.CONFIG_MAPPING:
        raise Untold(f"transformers {transformers.__version__} has no model type {kind!r}")
    with _quiet():
        try:
            made = transformers.CONFIG_MAPPING[str(kind)].from_dict(copy.deepcopy(dict(config)))
            rotary = _rotary_class(text)(config=made.get_text_config(decoder=True))
        except Untold:
            raise
        except Exception as error:
            raise Untold(
                f"transformers {transformers.__version__} refuses it: {type(error).__name__}: {error}"
            ) from None
        found = dict(_tables(rotary)) | dict(_of_long_prompts(config, rotary))
    if not found:
        raise Untold(f"transformers {transformers.__version__} keeps no frequencies in {type(rotary).__name__}")
    return found


def _outside_ropext(config: Mapping[str, Any]) -> TextModel:
    """Return the text model of a configuration whose RoPE keys contradict each other, which is what is to be found."""
    plain = {key: value for key, value in config.items() if not key.startswith("rope_")}
    try:
        return text_model(plain)
    except RopextError as error:
        raise Untold(str(error).removesuffix(".")) from None


def _rotary_class(text: TextModel) -> Any:
    """Find the class of the rotary tables beside the model's."""
    for name in dict.fromkeys((text.family.stock_module, text.outer.stock_module)):
        try:
            module = import_module(name)
        except ImportError:
            continue
        found = [
            each
            for each in vars(module).values()
            if inspect.isclass(each) and each.__module__ == name and _is_rotary(each.__name__)
        ]
        if len(found) == 1:
            return found[0]
    raise Untold(f"the rotary class of {text.family.model_type} was not found in transformers")


def _is_rotary(name: str) -> bool:
    return name.endswith("RotaryEmbedding") and "Vision" not in name and "Audio" not in name


def _tables(rotary: Any) -> Iterator[tuple[str, Table]]:
    for name, buffer in rotary.named_buffers():
        if not name.endswith("inv_freq") or name.endswith("original_inv_freq"):
            continue
        prefix = name.removesuffix("inv_freq")
        scale = getattr(rotary, f"{prefix}attention_scaling", 1.0)
        yield prefix.removesuffix("_") or EVERY, Table(tuple(buffer.to(torch.float64).tolist()), float(scale))


@torch.no_grad()
def _of_long_prompts(config: Mapping[str, Any], rotary: Any) -> Iterator[tuple[str, Table]]:
    """Run a longrope's class at the first position of a long prompt, as the configuration draws the line."""
    kinds = getattr(rotary, "rope_type", "")
    for layer_type in kinds if isinstance(kinds, dict) else (EVERY,):
        kind = kinds[layer_type] if isinstance(kinds, dict) else kinds
        last = next((each for each in map(_last_short, claims_of(config)) if each), None)
        if kind != "longrope" or last is None:
            continue
        given = {"layer_type": layer_type} if layer_type else {}
        for position, name in ((last, of_long_prompts(layer_type)), (last - 1, layer_type)):
            rotary(torch.zeros(1), torch.tensor([[position]]), **given)
            yield name, dict(_tables(rotary))[layer_type]


def _last_short(claim: Claim) -> int:
    """The length of the longest prompt that a longrope turns by its short factors; 0 where it does not say."""
    length = claim.scaling.get("original_max_position_embeddings") if claim.switches else None
    return length if isinstance(length, int) else 0


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Let transformers say nothing of configurations that are tried on purpose."""
    logger = logging.getLogger("transformers")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
