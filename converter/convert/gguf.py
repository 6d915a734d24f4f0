"""A frequency method inside a GGUF file of the llama architecture: one divisor per pair, `rope_freqs.weight`.

llama.cpp multiplies nothing else: it divides the angle of pair i by entry i of that tensor wherever the file has it.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

from ropext.converter.checkpoint.facts import ModelFacts
from ropext.converter.checkpoint.rope import MAX_HEAD_DIM, float32, plain_inv_freq
from ropext.converter.errors import InvalidPreset, RopextError, UsageError
from ropext.converter.files.gguf_structure import check_structure
from ropext.converter.files.replace import beside
from ropext.converter.methods.registry import FIXED_FREQUENCIES, bake
from ropext.converter.preset import Preset
from ropext.converter.presets.fit import check_fit

__all__ = ["patch_gguf"]

_LIBRARY = (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, struct.error)
"""What the library raises over a file that is not as it expects."""

TENSOR = "rope_freqs.weight"
_ARCHITECTURE = "llama"


def patch_gguf(source: Path, output: Path, preset: Preset, *, force: bool = False) -> list[float]:
    """Copy a GGUF file and put a frequency method's divisors into the copy.

    Args:
        source: a GGUF file of the llama architecture.
        output: the file to write; it appears when it is whole.
        preset: one of a method with fixed frequencies.
        force: replace a file of that name.

    Returns:
        The divisors, one for each pair [head_dim / 2], as float32.

    Raises:
        UsageError: the method has no fixed frequencies, or `output` is there already or is `source`.
        InvalidPreset: the preset does not fit the model.
        RopextError: `gguf` is not installed, or the file is none that this can be done to.
    """
    _check(source, output, preset, force=force)
    reader = _open(source)
    _require_whole(reader, source)
    facts = _facts(reader, str(source))
    problems = check_fit(preset, facts)
    if problems:
        raise InvalidPreset(problems)
    plain = plain_inv_freq(facts.rope_theta, facts.rotary_dim)
    before = _divisors(reader) or [1.0] * len(plain)
    if len(before) != len(plain) or not all(2**-32 < divisor < 2**32 for divisor in before):
        raise RopextError(f"{source}: its {TENSOR} is no list of {len(plain)} divisors.")
    baked = bake(preset, facts, [float32(w / divisor) for w, divisor in zip(plain, before, strict=True)])
    if baked.parameters.get("attention_factor", 1.0) != 1.0:
        raise UsageError(
            f"{preset.name}: divisors cannot scale attention by {baked.parameters['attention_factor']:g}; "
            "add --set attention_factor=1, or leave the file as it is and run llama.cpp with --rope-scaling yarn."
        )
    divisors = [float32(w / new) for w, new in zip(plain, baked.inv_freq, strict=True)]
    length = max(facts.trained_length, preset.target_window)
    try:
        with beside(output) as temporary:
            _write(reader, temporary, divisors, length)
    except _LIBRARY as error:
        raise RopextError(f"{source}: cannot be copied: {error}.") from None
    return divisors


def _check(source: Path, output: Path, preset: Preset, *, force: bool) -> None:
    if preset.method not in FIXED_FREQUENCIES:
        can = ", ".join(FIXED_FREQUENCIES)
        raise UsageError(f"{preset.name}: {preset.method} has no fixed frequencies; a GGUF file takes {can}.")
    if not source.is_file():
        raise UsageError(f"{source}: there is no such file.")
    if output.exists() and (not force or output.samefile(source)):
        raise UsageError(f"{output}: is there already; name another file, or replace it with --force.")


def _open(source: Path) -> Any:
    try:
        from gguf import GGUFReader
    except ImportError:
        raise RopextError("gguf-patch needs the package gguf: pip install 'ropext[gguf]'.") from None
    try:
        check_structure(source)
        return GGUFReader(source)
    except _LIBRARY as error:
        raise RopextError(f"{source}: not a GGUF file that can be read: {error}.") from None


def _require_whole(reader: Any, source: Path) -> None:
    """Refuse what would be copied wrongly: a part of a file, and numbers in an order that the package does not write.

    Raises:
        RopextError: it says what to do first.
    """
    from gguf import GGUFEndian

    parts = reader.get_field("split.count")
    if parts is not None and parts.contents() not in (0, 1):
        raise RopextError(
            f"{source}: is one of {parts.contents()!r} parts, and the first of them counts all tensors; merge them "
            "first: `llama-gguf-split --merge`."
        )
    if reader.endianess != GGUFEndian.LITTLE:
        raise RopextError(f"{source}: is big-endian; turn it round first: `gguf-convert-endian FILE little`.")
    alignment = reader.alignment
    if type(alignment) is bool or alignment < 8 or alignment > 1 << 20 or alignment & (alignment - 1):
        raise RopextError(f"{source}: general.alignment: {alignment!r} is no power of two from 8 on.")


class _Metadata:
    """The keys of a GGUF file, read with a message for each that is missing or odd."""

    def __init__(self, reader: Any, source: str) -> None:
        self._reader, self._source = reader, source

    def value(self, key: str, default: Any = None) -> Any:
        field = self._reader.get_field(key)
        try:
            found = default if field is None else field.contents()
        except _LIBRARY as error:
            raise RopextError(f"{self._source}: {key} in its metadata cannot be read: {error}.") from None
        if found is None:
            raise RopextError(f"{self._source}: no {key} in its metadata; ropext needs it.")
        return found

    def count(self, key: str, default: int | None = None) -> int:
        found = self.value(key, default)
        if type(found) is not int or not 0 < found < 2**31:
            raise RopextError(f"{self._source}: {key}: {found!r} is not a positive whole number.")
        return found


def _facts(reader: Any, source: str) -> ModelFacts:
    """Return what a preset may ask for, from the file's metadata."""
    metadata = _Metadata(reader, source)
    architecture = metadata.value("general.architecture")
    if architecture != _ARCHITECTURE:
        raise RopextError(f"{source}: its architecture is {architecture}; llama.cpp reads divisors for llama.")
    scaling = metadata.value("llama.rope.scaling.type", "none")
    if scaling != "none":
        raise RopextError(f"{source}: is scaled already (llama.rope.scaling.type {scaling}); start from its base.")
    heads = metadata.count("llama.attention.head_count")
    width = metadata.count("llama.rope.dimension_count", max(1, metadata.count("llama.embedding_length") // heads))
    theta = metadata.value("llama.rope.freq_base", 10000.0)
    if width % 2 or width > MAX_HEAD_DIM:
        raise RopextError(f"{source}: heads of {width} dimensions are not an even number up to {MAX_HEAD_DIM}.")
    if not isinstance(theta, int | float) or not 1 < theta < 1e30:
        raise RopextError(f"{source}: llama.rope.freq_base: {theta!r} is no base of frequencies.")
    return ModelFacts(
        source=source,
        model_type="llama",
        architecture="LlamaForCausalLM",
        head_dim=width,
        num_hidden_layers=metadata.count("llama.block_count"),
        num_attention_heads=heads,
        num_key_value_heads=metadata.count("llama.attention.head_count_kv", heads),
        rope_theta=float(theta),
        rope_type="default" if _divisors(reader) is None else "llama3",
        trained_length=metadata.count("llama.context_length"),
    )


def _divisors(reader: Any) -> list[float] | None:
    """Return the divisors that the file has already, as a base of rope_type llama3 does."""
    found = [tensor for tensor in reader.tensors if tensor.name == TENSOR]
    return [float(each) for each in found[0].data.flat] if found else None


def _write(reader: Any, output: Path, divisors: list[float], length: int) -> None:
    """Copy every key and tensor, put the divisors in, and raise the length."""
    import numpy as np
    from gguf import GGUFValueType, GGUFWriter

    writer = GGUFWriter(output, arch=_ARCHITECTURE, endianess=reader.endianess)
    writer.data_alignment = int(reader.alignment)
    for field in reader.fields.values():
        if field.name.startswith(("GGUF.", "split.")) or field.name == "general.architecture":
            continue  # the writer's own
        kind = field.types[0]
        inner = field.types[-1] if kind == GGUFValueType.ARRAY else None
        value = length if field.name == "llama.context_length" else field.contents()
        writer.add_key_value(field.name, value, kind, inner)
    tensors = [tensor for tensor in reader.tensors if tensor.name != TENSOR]
    weight = np.array(divisors, dtype=np.float32)
    writer.add_tensor_info(TENSOR, weight.shape, weight.dtype, weight.nbytes)
    for tensor in tensors:
        data = tensor.data
        writer.add_tensor_info(tensor.name, data.shape, data.dtype, data.nbytes, tensor.tensor_type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    writer.write_tensor_data(weight)
    for tensor in tensors:
        writer.write_tensor_data(tensor.data)
    writer.close()
