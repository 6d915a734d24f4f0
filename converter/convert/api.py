"""A conversion as a function: what to convert with is chosen, everything is checked and planned, then it is written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ropext.converter.checkpoint.description import base_inv_freq
from ropext.converter.checkpoint.read import Checkpoint, read_checkpoint
from ropext.converter.checkpoint.wanted import want
from ropext.converter.errors import InvalidPreset, UsageError
from ropext.converter.files.links import LinkMode
from ropext.converter.hub import client as hub
from ropext.converter.hub.types import LocalSource
from ropext.converter.methods.registry import bake
from ropext.converter.preset import Preset
from ropext.converter.presets.fit import check_fit
from ropext.converter.presets.load import load_preset, override_texts
from ropext.converter.presets.suggested import preset_for, require_method

from .native import require_native
from .output import require_place
from .plan import Plan, make_plan
from .write import Progress, Result, write

__all__ = [
    "Chosen",
    "Conversion",
    "base_of",
    "choose_preset",
    "convert",
    "convert_checkpoint",
    "plan",
    "plan_checkpoint",
    "plan_conversion",
]


@dataclass(frozen=True)
class Conversion:
    """A finished conversion.

    Attributes:
        output: the folder that was written.
        preset: what it was converted with. The folder's record keeps its `text`, without folders of this machine.
        notes: what the user should know.
        written: file by file, what was written and how.
    """

    output: Path
    preset: Preset
    notes: tuple[str, ...]
    written: Result


@dataclass(frozen=True)
class Chosen:
    """What to convert with.

    Attributes:
        preset: the preset.
        notes: what the user should check.
    """

    preset: Preset
    notes: tuple[str, ...] = ()


def convert(
    source: str | Path | None = None,
    *,
    preset: str | Path | Preset | None = None,
    method: str | None = None,
    target: str | int | None = None,
    initial_window: str | int | None = None,
    overrides: Sequence[str] | Mapping[str, object] = (),
    output: str | Path | None = None,
    revision: str | None = None,
    native: bool = False,
    link: LinkMode = "auto",
    force: bool = False,
    digests: bool | None = None,
    progress: Progress | None = None,
) -> Conversion:
    """Convert a checkpoint into one that reads further, whole or not at all.

    `convert("org/model", method="yarn", target="128k")` takes the parameters that `suggest` gives for this model and
    length; `convert("org/model", preset="llama3-8b-dpe")` takes a preset's.

    Args:
        source: a folder or a Hub id; by default the preset's own base model.
        preset: the name of a shipped preset, the file of one, or a loaded one.
        method: instead, a method, with suggested parameters for `target`.
        target: with `method`, the length to read in the end, such as `"128k"` or 131072.
        initial_window: with `method`, the length to trust; by default the trained length.
        overrides: keys of the preset to change: `{"target_window": "64k"}` or `["target_window=64k"]`.
        output: the folder to write; by default named after the preset, in the current one.
        revision: branch, tag or commit of a Hub id.
        native: write stock configuration keys and no code; for methods that change frequencies alone.
        link: how weights get into the output: `auto`, `reflink`, `hardlink`, `symlink` or `copy`.
        force: replace what the output folder holds.
        digests: read linked weights to record their digests; by default up to 256 MiB.
        progress: called with a file's path, its bytes so far and its size.

    Raises:
        InvalidPreset: the preset is invalid, or does not fit the model.
        UsageError: the arguments make no sense together.
        RopextError: the source, the output or the Hub refuses; nothing is left behind.
    """
    chosen = choose_preset(
        source, preset, method, target, initial_window=initial_window, overrides=overrides, revision=revision
    )
    place = None if source is None else str(source)
    result = convert_checkpoint(
        chosen.preset,
        place,
        None if output is None else Path(output),
        revision=revision,
        native=native,
        link=link,
        force=force,
        digests=digests,
        progress=progress,
    )
    return Conversion(result.output, chosen.preset, (*chosen.notes, *result.plan.notes), result)


def plan(
    source: str | Path | None = None,
    *,
    preset: str | Path | Preset | None = None,
    method: str | None = None,
    target: str | int | None = None,
    initial_window: str | int | None = None,
    overrides: Sequence[str] | Mapping[str, object] = (),
    output: str | Path | None = None,
    revision: str | None = None,
    native: bool = False,
    force: bool = False,
) -> Plan:
    """Check everything that `convert` needs, decide what it will write, and write nothing.

    Takes the arguments of `convert`, and raises what that raises.

    Returns:
        The files, the changes of `config.json`, and notes.
    """
    chosen = choose_preset(
        source, preset, method, target, initial_window=initial_window, overrides=overrides, revision=revision
    )
    place = None if source is None else str(source)
    folder = None if output is None else Path(output)
    planned = plan_conversion(chosen.preset, place, folder, revision=revision, native=native, force=force)
    return replace(planned, notes=(*chosen.notes, *planned.notes))


def choose_preset(
    source: str | Path | None = None,
    preset: str | Path | Preset | None = None,
    method: str | None = None,
    target: str | int | None = None,
    *,
    initial_window: str | int | None = None,
    overrides: Sequence[str] | Mapping[str, object] = (),
    revision: str | None = None,
) -> Chosen:
    """Find what to convert with: a preset, or the suggested parameters of a method; see `convert`.

    Raises:
        InvalidPreset: the preset is invalid.
        UsageError: both or neither are given, or what belongs to the other.
        RopextError: nothing can be suggested for this model and length.
    """
    if preset is not None and method is not None:
        raise UsageError("--preset and --method: give one of them")
    if preset is not None:
        if target is not None or initial_window is not None:
            raise UsageError("--target and --initial-window belong to --method; with a preset: --set target_window=64k")
        return Chosen(_given(preset, overrides))
    if method is None:
        raise UsageError(
            "say what to convert with: --preset NAME|FILE, or --method METHOD --target LENGTH; "
            "`ropext suggest` recommends one"
        )
    if target is None:
        raise UsageError("--method: needs the length to read in the end, such as --target 128k")
    if source is None:
        raise UsageError("--method: name the model to convert, a folder or a Hub id")
    require_method(method)
    wanted = want(source, target, initial_window, revision)
    return Chosen(preset_for(wanted, method, overrides=override_texts(overrides)), wanted.notes)


def plan_conversion(
    preset: Preset,
    source: str | None = None,
    output: Path | None = None,
    *,
    revision: str | None = None,
    native: bool = False,
    force: bool = False,
) -> Plan:
    """Plan a conversion by a preset that is loaded; see `plan`.

    Args:
        preset: what to convert with.
        source: a folder or a Hub id; the preset's `base_model` by default.
        output: the folder to write; by default named after the preset, in the current one.
        revision: branch, tag or commit of a Hub id.
        native: write stock keys that stock classes load, and no code.
        force: replace what the output folder holds.

    Raises:
        InvalidPreset: the preset does not fit the model.
        UsageError: `native`, and the method is more than frequencies.
        RopextError: the source, the output or the Hub refuses.
    """
    if native:
        require_native(preset.method)
    output = output or Path(preset.name)
    require_place(output, None, force=force)
    local = hub.resolve(base_of(preset) if source is None else source, revision)
    require_place(output, local.folder, force=force)
    checkpoint = read_checkpoint(local.folder, source or preset.base_model)
    return plan_checkpoint(preset, checkpoint, local, native=native)


def plan_checkpoint(preset: Preset, checkpoint: Checkpoint, local: LocalSource, *, native: bool = False) -> Plan:
    """Plan the conversion of a checkpoint that has been read; see `plan_conversion`."""
    if native:
        require_native(preset.method)
    problems = check_fit(preset, checkpoint.facts)
    if problems:
        raise InvalidPreset(problems)
    baked = bake(preset, checkpoint.facts, base_inv_freq(checkpoint.config))
    return make_plan(preset, checkpoint, baked, local, native=native)


def convert_checkpoint(
    preset: Preset,
    source: str | None = None,
    output: Path | None = None,
    *,
    revision: str | None = None,
    native: bool = False,
    link: LinkMode = "auto",
    force: bool = False,
    digests: bool | None = None,
    progress: Progress | None = None,
) -> Result:
    """Convert a checkpoint by a preset that is loaded: `plan_conversion`, carried out. See `convert`.

    Raises:
        RopextError: as `plan_conversion`, or the disk refuses; nothing is left behind.
    """
    planned = plan_conversion(preset, source, output, revision=revision, native=native, force=force)
    return write(planned, output or Path(preset.name), link=link, force=force, digests=digests, progress=progress)


def base_of(preset: Preset) -> str:
    """Return where the preset's own base is: a folder named in a preset is found from the preset's place."""
    beside = preset.directory / preset.base_model
    return str(beside) if beside.is_dir() else preset.base_model


def _given(preset: str | Path | Preset, overrides: Sequence[str] | Mapping[str, object]) -> Preset:
    if not isinstance(preset, Preset):
        return load_preset(preset, overrides)
    if overrides:
        raise UsageError("overrides: change a preset while it is loaded, by load_preset(name, overrides)")
    return preset
