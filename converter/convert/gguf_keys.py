"""What a frequency method is in the metadata of a GGUF file, as llama.cpp reads it.

What is not known to be read rightly is refused: some architectures have layers that slide, whose frequencies llama.cpp
scales as well or does not, and which of the two only its source says.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ropext.converter.checkpoint.facts import ModelFacts
from ropext.converter.checkpoint.rope import MAX_HEAD_DIM, float32, plain_inv_freq, scaled_inv_freq
from ropext.converter.errors import RopextError, UsageError
from ropext.converter.methods.base import Baked
from ropext.converter.methods.ntk import raised_theta
from ropext.converter.methods.registry import bake
from ropext.converter.methods.yarn import usual_attention_factor
from ropext.converter.preset import Preset

__all__ = ["LIBRARY_ERRORS", "TENSOR", "Metadata", "Patch", "facts_of", "patch_of"]

LIBRARY_ERRORS = (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, struct.error)
"""What the package gguf raises over a file that is not as it expects."""

TENSOR = "rope_freqs.weight"
DIVIDED = ("llama", "apertus", "granite")
"""Architectures for which llama.cpp reads that tensor: the first was tried, the others were read in its source."""

_SLIDING = ("gemma3", "gpt-oss")
"""Architectures with layers that slide and that llama.cpp treats as transformers does, by its source.

Of gemma3 those layers keep their frequencies, of gpt-oss all layers have the same.
"""

_UNTRIED = {
    "gemma4": "leaves some pairs unturned, by divisors that no method goes on top of",
    "gemma3n": "has layers of several kinds, which were not tried",
}
_MODEL_TYPES = {
    "deepseek2": "deepseek_v3",
    "gemma3": "gemma3_text",
    "gpt-oss": "gpt_oss",
    "qwen2moe": "qwen2_moe",
    "qwen3moe": "qwen3_moe",
}
"""What presets call an architecture, where it is not the same."""


@dataclass(frozen=True)
class Patch:
    """What is put into a file.

    Attributes:
        keys: of its metadata, with their values: text, whole numbers or real ones.
        divisors: one for each pair, as float32; None where the keys say it all.
    """

    keys: dict[str, str | int | float]
    divisors: list[float] | None = None


class Metadata:
    """The keys of a GGUF file, read with a message for each that is missing or odd."""

    def __init__(self, reader: Any, source: str) -> None:
        """Take a reader of the package gguf, and what to call its file."""
        self._reader, self.source = reader, source
        self.architecture = str(self.value("general.architecture"))

    def has(self, key: str) -> bool:
        """Whether the architecture's key of this name is there."""
        return self._reader.get_field(f"{self.architecture}.{key}") is not None

    def value(self, key: str, default: Any = None) -> Any:
        """Return a value by its whole name."""
        field = self._reader.get_field(key)
        try:
            found = default if field is None else field.contents()
        except LIBRARY_ERRORS as error:
            raise RopextError(f"{self.source}: {key} in its metadata cannot be read: {error}.") from None
        if found is None:
            raise RopextError(f"{self.source}: no {key} in its metadata; ropext needs it.")
        return found

    def own(self, key: str, default: Any = None) -> Any:
        """Return a value of the architecture's."""
        return self.value(f"{self.architecture}.{key}", default)

    def count(self, key: str, default: int | None = None) -> int:
        """Return a positive whole number of the architecture's, the largest where each layer has one."""
        found = self.own(key, default)
        if isinstance(found, list) and found and all(type(each) is int for each in found):
            found = max(found)
        if type(found) is not int or not 0 < found < 2**31:
            raise RopextError(f"{self.source}: {self.architecture}.{key}: {found!r} is not a positive whole number.")
        return found

    def number(self, key: str, default: float | None = None) -> float:
        """Return a positive number of the architecture's."""
        found = self.own(key, default)
        if not isinstance(found, int | float) or isinstance(found, bool) or not 0 < found < 1e30:
            raise RopextError(f"{self.source}: {self.architecture}.{key}: {found!r} is no positive number.")
        return float(found)


# What the file is


def facts_of(metadata: Metadata, divisors: Sequence[float] | None) -> ModelFacts:
    """Return what a preset may ask for.

    Args:
        metadata: the file's.
        divisors: those that it has already, as a base of rope_type llama3 does.

    Raises:
        RopextError: a key is missing or odd, or llama.cpp's reading of the architecture is not known.
    """
    architecture = metadata.architecture
    if architecture in _UNTRIED:
        raise RopextError(f"{metadata.source}: its architecture {architecture} {_UNTRIED[architecture]}.")
    if metadata.has("attention.sliding_window") and architecture not in _SLIDING:
        raise RopextError(
            f"{metadata.source}: its architecture {architecture} has layers that slide, and it is not known whether "
            f"llama.cpp scales those as well; of such architectures ropext takes {', '.join(_SLIDING)}."
        )
    heads = metadata.count("attention.head_count")
    width = metadata.count("attention.key_length", max(1, metadata.count("embedding_length") // heads))
    turned = metadata.count("rope.dimension_count", width)
    theta = metadata.number("rope.freq_base", 10000.0 if architecture == "llama" else None)
    if turned % 2 or turned > MAX_HEAD_DIM:
        raise RopextError(
            f"{metadata.source}: heads of {turned} dimensions are not an even number up to {MAX_HEAD_DIM}."
        )
    if theta <= 1:
        raise RopextError(f"{metadata.source}: {architecture}.rope.freq_base: {theta!r} is no base of frequencies.")
    scaling = _scaling(metadata)
    kind = str(scaling.get("rope_type", "default" if divisors is None else "llama3"))
    by = usual_attention_factor(scaling["factor"]) * metadata.number("rope.scaling.attn_factor", 1.0)
    return ModelFacts(
        source=metadata.source,
        model_type=_MODEL_TYPES.get(architecture, architecture),
        architecture="LlamaForCausalLM" if architecture == "llama" else architecture,
        head_dim=max(width, turned),
        num_hidden_layers=metadata.count("block_count"),
        num_attention_heads=heads,
        num_key_value_heads=metadata.count("attention.head_count_kv", heads),
        rope_theta=theta,
        rope_type=kind,
        trained_length=metadata.count("context_length"),
        rotary_width=turned,
        rope_scaling=scaling,
        attention_factor=by if kind == "yarn" else 1.0,
    )


def _scaling(metadata: Metadata) -> dict[str, Any]:
    """Return the file's scaling by keys, as a `config.json` has it; only a factor of 1 where there is none."""
    kind = metadata.own("rope.scaling.type", "linear")  # as llama.cpp takes a factor without it
    if metadata.has("rope.scaling.factor"):
        factor = metadata.number("rope.scaling.factor")
    else:
        factor = metadata.number("rope.scale_linear", 1.0)
    if kind == "none" or (kind == "linear" and factor == 1):
        return {"factor": 1.0}
    if kind not in ("linear", "yarn"):
        raise RopextError(f"{metadata.source}: is scaled by {kind}, which has frequencies for short and long prompts.")
    if kind == "linear":
        return {"rope_type": "linear", "factor": factor}
    original = metadata.count("rope.scaling.original_context_length", metadata.count("context_length"))
    betas = {key: metadata.number(f"rope.scaling.yarn_{key}", usual) for key, usual in _BETAS.items()}
    return {"rope_type": "yarn", "factor": factor, "original_max_position_embeddings": original, **betas}


_BETAS = {"beta_fast": 32.0, "beta_slow": 1.0}


# What is put in


def patch_of(metadata: Metadata, facts: ModelFacts, preset: Preset, before: Sequence[float]) -> Patch:
    """Say a method in the keys or divisors of a file.

    Args:
        metadata: the file's.
        facts: of the file.
        preset: one that fits it.
        before: the divisors that it has, all 1 where it has none [pairs].

    Raises:
        UsageError: llama.cpp has no way to say it.
    """
    plain = plain_inv_freq(facts.rope_theta, facts.rotary_dim)
    known = {"linear", "yarn"} & {facts.rope_type}
    base = scaled_inv_freq(facts.rope_theta, facts.rotary_dim, facts.rope_scaling) if known else plain
    baked = bake(preset, facts, [float32(w / divisor) for w, divisor in zip(base, before, strict=True)])
    keys: dict[str, str | int | float] = {"context_length": max(facts.trained_length, preset.target_window)}
    attention = float(baked.parameters.get("attention_factor", 1.0))
    divided = metadata.architecture in DIVIDED and not known and attention == 1
    if divided:
        divisors = [float32(w / new) for w, new in zip(plain, baked.inv_freq, strict=True)]
        return Patch(_named(metadata, keys), divisors)
    return Patch(_named(metadata, keys | _keys(metadata, facts, preset, baked)))


def _named(metadata: Metadata, keys: dict[str, str | int | float]) -> dict[str, str | int | float]:
    return {f"{metadata.architecture}.{key}": value for key, value in keys.items()}


def _keys(metadata: Metadata, facts: ModelFacts, preset: Preset, baked: Baked) -> dict[str, str | int | float]:
    """Return the architecture's keys that say a method, without the architecture."""
    factor = float(baked.parameters.get("scaling_factor", 1.0))
    if preset.method == "linear" and facts.rope_type in ("default", "linear", "llama3"):
        return {"rope.scaling.type": "linear", "rope.scaling.factor": facts.rope_scaling["factor"] * factor}
    if preset.method == "ntk" and facts.rope_type == "default":
        return {"rope.freq_base": raised_theta(facts.rope_theta, factor, facts.rotary_dim)}
    if preset.method == "yarn" and facts.rope_type in ("default", "yarn"):
        return _yarn(metadata, facts, preset, baked)
    on = "" if facts.rope_type == "default" else f" on top of rope_type {facts.rope_type}"
    if metadata.architecture in DIVIDED and facts.rope_type in ("default", "llama3"):
        raise UsageError(
            f"{preset.name}: divisors cannot scale attention by {baked.parameters['attention_factor']:g}; "
            "add --set attention_factor=1."
        )
    raise UsageError(
        f"{preset.name}: {preset.method}{on} needs divisors, which llama.cpp does not read for {metadata.architecture} "
        f"with these keys; it reads them for {', '.join(DIVIDED)}, and takes yarn, linear and ntk for others."
    )


def _yarn(metadata: Metadata, facts: ModelFacts, preset: Preset, baked: Baked) -> dict[str, str | int | float]:
    own = {key: facts.rope_scaling.get(key, usual) for key, usual in _BETAS.items()}
    odd = [key for key, value in own.items() if baked.parameters[key] != value]
    odd += [] if baked.parameters["truncate"] else ["truncate"]
    if odd:
        raise UsageError(f"{preset.name}: {odd[0]}: versions of llama.cpp go by their own value; leave it out.")
    original = int(facts.rope_scaling.get("original_max_position_embeddings", preset.initial_window))
    factor = float(baked.parameters["scaling_factor"]) * preset.initial_window / original
    usual = usual_attention_factor(factor)
    wanted = facts.attention_factor * float(baked.parameters["attention_factor"])
    keys: dict[str, str | int | float] = {
        "rope.scaling.type": "yarn",
        "rope.scaling.factor": factor,
        "rope.scaling.original_context_length": original,
    }
    if math.isclose(wanted, usual, rel_tol=1e-6):
        return keys
    if metadata.architecture == "gemma3" or metadata.has("rope.scaling.yarn_log_multiplier"):
        raise UsageError(
            f"{preset.name}: attention_factor: llama.cpp would scale layers of {metadata.architecture} by it that are "
            "not to be scaled; leave it out."
        )
    return keys | {"rope.scaling.attn_factor": wanted / usual}
