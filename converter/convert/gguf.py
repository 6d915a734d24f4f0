"""A frequency method inside a GGUF file: by the keys of RoPE, or by one divisor per pair, `rope_freqs.weight`.

llama.cpp reads the keys for every architecture. It divides the angle of pair i by entry i of that tensor, for the
architectures that read it, and multiplies nothing by it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ropext.converter.errors import InvalidPreset, RopextError, UsageError
from ropext.converter.files.gguf_structure import check_structure
from ropext.converter.files.replace import beside
from ropext.converter.methods.registry import FIXED_FREQUENCIES
from ropext.converter.preset import Preset
from ropext.converter.presets.fit import check_fit

from .gguf_keys import LIBRARY_ERRORS as _LIBRARY
from .gguf_keys import TENSOR, Metadata, Patch, facts_of, patch_of

__all__ = ["patch_gguf"]


def patch_gguf(source: Path, output: Path, preset: Preset, *, force: bool = False) -> Patch:
    """Copy a GGUF file and put a frequency method into the copy.

    Args:
        source: a GGUF file.
        output: the file to write; it appears when it is whole.
        preset: one of a method with fixed frequencies.
        force: replace a file of that name.

    Returns:
        What was put in.

    Raises:
        UsageError: the method has no fixed frequencies, or `output` is there already or is `source`.
        InvalidPreset: the preset does not fit the model.
        RopextError: `gguf` is not installed, or the file is none that this can be done to.
    """
    _check(source, output, preset, force=force)
    reader = _open(source)
    _require_whole(reader, source)
    metadata = Metadata(reader, str(source))
    facts, divisors = facts_of(metadata, _divisors(reader)), _divisors(reader)
    problems = check_fit(preset, facts)
    if problems:
        raise InvalidPreset(problems)
    before = divisors or [1.0] * (facts.rotary_dim // 2)
    if len(before) != facts.rotary_dim // 2 or not all(2**-32 < divisor < 2**32 for divisor in before):
        raise RopextError(f"{source}: its {TENSOR} is no list of {facts.rotary_dim // 2} divisors.")
    patch = patch_of(metadata, facts, preset, before)
    try:
        with beside(output) as temporary:
            _write(reader, temporary, metadata.architecture, patch)
    except _LIBRARY as error:
        raise RopextError(f"{source}: cannot be copied: {error}.") from None
    return patch


def _check(source: Path, output: Path, preset: Preset, *, force: bool) -> None:
    if preset.method not in FIXED_FREQUENCIES:
        can = ", ".join(FIXED_FREQUENCIES)
        raise UsageError(f"{preset.name}: {preset.method} has no fixed frequencies; a GGUF file takes {can}.")
    if not source.is_file():
        raise UsageError(f"{source}: there is no such file.")
    if output.exists() and (not force or output.samefile(source)):
        raise UsageError(f"{output}: is there already; name another file, or replace it with --force.")
    if not output.parent.is_dir():
        raise UsageError(f"{output}: there is no folder {output.parent}; make it first.")


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


def _divisors(reader: Any) -> list[float] | None:
    """Return the divisors that the file has already, as a base of rope_type llama3 does."""
    found = [tensor for tensor in reader.tensors if tensor.name == TENSOR]
    return [float(each) for each in found[0].data.flat] if found else None


def _write(reader: Any, output: Path, architecture: str, patch: Patch) -> None:
    """Copy every key and tensor, and put the patch in."""
    import numpy as np
    from gguf import GGUFValueType, GGUFWriter

    writer = GGUFWriter(output, arch=architecture, endianess=reader.endianess)
    writer.data_alignment = int(reader.alignment)
    for field in reader.fields.values():
        if (
            field.name.startswith(("GGUF.", "split."))
            or field.name == "general.architecture"
            or field.name in patch.keys
        ):
            continue  # the writer's own, or the patch's
        kind = field.types[0]
        inner = field.types[-1] if kind == GGUFValueType.ARRAY else None
        writer.add_key_value(field.name, field.contents(), kind, inner)
    kinds = {str: GGUFValueType.STRING, int: GGUFValueType.UINT32, float: GGUFValueType.FLOAT32}
    for key, value in patch.keys.items():
        writer.add_key_value(key, value, kinds[type(value)])
    replaced = [] if patch.divisors is None else [np.array(patch.divisors, dtype=np.float32)]
    for weight in replaced:
        writer.add_tensor_info(TENSOR, weight.shape, weight.dtype, weight.nbytes)
    tensors = [tensor for tensor in reader.tensors if tensor.name != TENSOR or not replaced]
    for tensor in tensors:
        data = tensor.data
        writer.add_tensor_info(tensor.name, data.shape, data.dtype, data.nbytes, tensor.tensor_type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for data in [*replaced, *(tensor.data for tensor in tensors)]:
        writer.write_tensor_data(data)
    writer.close()
