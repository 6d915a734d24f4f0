"""`ropext convert` and `ropext inspect`, and the conversion as a function."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click

from ropext.converter.checkpoint.description import base_inv_freq
from ropext.converter.checkpoint.read import Checkpoint, read_checkpoint, read_remote_checkpoint
from ropext.converter.convert.native import require_native
from ropext.converter.convert.plan import Plan, make_plan
from ropext.converter.convert.write import Progress, Result, write
from ropext.converter.converted.inspect import inspect_source, render
from ropext.converter.errors import InvalidPreset, UsageError
from ropext.converter.files.atomic_folder import check_output
from ropext.converter.files.contents import Reading
from ropext.converter.files.links import LINK_MODES, LinkMode
from ropext.converter.hub import client as hub
from ropext.converter.hub.types import LocalSource
from ropext.converter.methods.baking import bake
from ropext.converter.preset import Preset
from ropext.converter.presets.load import check_fit, load_preset
from ropext.converter.publish.contents import Contents, contents_of, read_folder
from ropext.converter.publish.push import plan_push
from ropext.converter.text import printable
from ropext.converter.text import size_text as _size

from .progress import progress_line as _progress
from .push import publish, push_options, quiet_client

__all__ = ["convert", "convert_checkpoint", "inspect", "plan_conversion"]


def plan_conversion(
    preset: Preset,
    source: str | None = None,
    output: Path | None = None,
    *,
    revision: str | None = None,
    native: bool = False,
    force: bool = False,
) -> Plan:
    """Check everything that a conversion needs, decide what it will write, and write nothing.

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
    check_output(output, None, force=force)
    local = hub.resolve(source or _base_model(preset), revision)
    check_output(output, local.folder, force=force)
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
    """Convert a checkpoint: `plan_conversion`, carried out.

    Args:
        preset: as for `plan_conversion`, like all that is not named here.
        source: the same.
        output: the same.
        revision: the same.
        native: the same.
        force: the same.
        link: how weights get into the output.
        digests: read linked weights for their digests; see `convert.write`.
        progress: told of bytes as they are copied.

    Raises:
        RopextError: as `plan_conversion`, or the disk refuses; nothing is left behind.
    """
    plan = plan_conversion(preset, source, output, revision=revision, native=native, force=force)
    return write(plan, output or Path(preset.name), link=link, force=force, digests=digests, progress=progress)


def _contents(
    preset: Preset, source: str | None, revision: str | None, *, native: bool, reading: Reading | None
) -> Contents:
    """Convert for publishing: nothing is written, and of a Hub repository no weights are downloaded."""
    place = source or _base_model(preset)
    if not hub.is_hub_id(place) or Path(place).expanduser().exists():
        local = hub.resolve(place, revision)
        plan = plan_checkpoint(preset, read_checkpoint(local.folder, place), local, native=native)
        return contents_of(plan, reading=reading)
    checkpoint, local, repository, absent = read_remote_checkpoint(place, revision)
    plan = plan_checkpoint(preset, checkpoint, local, native=native)
    return contents_of(plan, repository, absent, reading)


def _base_model(preset: Preset) -> str:
    """Return where the preset's own base is: a folder named in a preset is found from the preset's place."""
    beside = preset.directory / preset.base_model
    return str(beside) if beside.is_dir() else preset.base_model


@click.command(short_help="Write a checkpoint that reads further.")
@click.argument("source", required=False)
@click.option("--preset", "-p", "preset_name", required=True, metavar="NAME|FILE", help="What to convert with.")
@click.option(
    "--output",
    "-o",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Folder to write [default: ./<preset>].",
)
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Change one key of the preset.")
@click.option("--revision", metavar="REV", help="Branch, tag or commit of a Hub id.")
@click.option("--native", is_flag=True, help="Write stock configuration keys and no code (frequency methods).")
@click.option(
    "--link",
    type=click.Choice(LINK_MODES),
    default="auto",
    show_default=True,
    help="How weights get there; auto: reflink, else hard link from a folder, copy from the Hub cache.",
)
@click.option(
    "--digests/--no-digests",
    default=None,
    help="Read linked weights, so that `ropext verify` knows them again [default: up to 256 MiB].",
)
@click.option("--push", "push_to", metavar="REPO", help="Publish it as this Hub repository; no DIR unless asked for.")
@push_options
@click.option("--dry-run", is_flag=True, help="Say what would be done, and do nothing.")
@click.option("--force", is_flag=True, help="Replace what DIR holds.")
@click.option("--json", "as_json", is_flag=True, help="Report as JSON on stdout.")
@click.option("--quiet", "-q", is_flag=True, help="Report errors only.")
def convert(
    source: str | None,
    preset_name: str,
    output: Path | None,
    overrides: Sequence[str],
    revision: str | None,
    native: bool,
    link: LinkMode,
    digests: bool | None,
    push_to: str | None,
    private: bool | None,
    create_pr: bool,
    message: str | None,
    dry_run: bool,
    force: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Convert SOURCE, a checkpoint folder or a Hub id, into one that reads further.

    SOURCE is by default the preset's own base model. Weights are linked, never changed: DIR holds the
    model's code and the method's numbers beside them, and loads with transformers and
    trust_remote_code=True alone. With --native there is no code: stock classes read the method's numbers.
    Hard-linked weights are SOURCE's own files: replace them, but do not edit them in place. Those of the Hub
    cache are copied where they cannot share blocks, so that no edit of DIR reaches it.

    With --push it goes to the Hub. From a Hub id nothing large is downloaded then, and nothing large is sent:
    the Hub copies the weights itself.
    """
    terminal = quiet_client(quiet=quiet)
    if push_to is None and (private is not None or create_pr or message):
        raise UsageError("--private, --public, --create-pr and --message belong to --push.")
    preset = load_preset(preset_name, overrides)
    if push_to and (output is None or dry_run):
        with _progress(terminal, "reading") as reading:
            contents = _contents(preset, source, revision, native=native, reading=reading)
            pushed = plan_push(contents, push_to, private=private, create_pr=create_pr, message=message)
        publish(pushed, dry_run=dry_run, as_json=as_json, quiet=quiet)
        return
    output = output or Path(preset.name)
    done: Plan | Result
    done = plan = plan_conversion(preset, source, output, revision=revision, native=native, force=force)
    if not dry_run:
        with _progress(terminal) as progress:
            done = write(plan, output, link=link, force=force, digests=digests, progress=progress)
    if "." in output.absolute().name and not native:
        note = f"transformers before 4.54 loads no code from a folder with a dot in its name: {output}"
        click.echo(f"note: {note}", err=True)
    if push_to:
        with _progress(terminal, "reading") as reading:
            contents = read_folder(output, reading)
            pushed = plan_push(contents, push_to, private=private, create_pr=create_pr, message=message)
        publish(pushed, dry_run=False, as_json=as_json, quiet=quiet)
        return
    if as_json:
        click.echo(json.dumps(done.to_json(), indent=2, ensure_ascii=False))
    elif not quiet:
        lines = _summary(done, preset) if isinstance(done, Result) else _planned(done, output)
        click.echo(printable("\n".join(lines)))


@click.command(short_help="Say what a model folder holds.")
@click.argument("source", metavar="DIR")
@click.option("--json", "as_json", is_flag=True, help="Report as JSON.")
def inspect(source: str, as_json: bool) -> None:
    """Describe DIR: a converted checkpoint's method and numbers, or a base and the presets that fit it."""
    report = inspect_source(source)
    click.echo(json.dumps(report, indent=2, ensure_ascii=False) if as_json else render(report))


# Reports


def _planned(plan: Plan, output: Path) -> Iterator[str]:
    yield f"{plan.source} → {output} with {plan.preset} ({plan.method}); nothing is written\n"
    for file in plan.files:
        size = "" if file.size is None else f"{file.size:,}"
        yield f"{file.action:<8} {size:>15}  {file.path:<32} {file.why}"
    link, move = plan.size_of("link"), plan.size_of("copy", "generate")
    yield f"\n{_size(link)} linked, {_size(move)} written\n\nconfig.json"
    for key, before, after in plan.config_changes:
        yield f"  {key}: {_value(before)} → {_value(after)}"
    yield from _notes(plan)


def _summary(result: Result, preset: Preset) -> Iterator[str]:
    plan, ways = result.plan, result.methods
    counts = ", ".join(f"{count} by {method}" for method, count in ways.items() if method != "generate")
    yield f"{result.output}: {plan.method}, {preset.initial_window:,} → {preset.target_window:,} tokens"
    yield f"  {len(result.files)} files: {counts}, {ways.get('generate', 0)} generated"
    yield f"  {_size(result.bytes_linked)} linked, {_size(result.bytes_moved)} written"
    if "hardlink" in ways:
        yield "  Hard links are the source's own files: change neither copy's weights in place."
    cached = {file.path for file in plan.files if file.action == "link" and file.cached}
    if any(file.method == "copy" and file.path in cached for file in result.files):
        yield "  Copied, so that no edit reaches the Hub cache; --link hardlink or symlink shares its files instead."
    yield from _notes(plan)
    path = json.dumps(str(result.output), ensure_ascii=False)
    trust = "" if plan.native else ", trust_remote_code=True"
    yield f"\nLoad it:\n  AutoModelForCausalLM.from_pretrained({path}{trust})"


def _notes(plan: Plan) -> Iterator[str]:
    if plan.notes:
        yield "\nNotes"
    yield from (f"  {note}" for note in plan.notes)


def _value(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 90 else f"{text[:60]} … ({len(text):,} characters)"
