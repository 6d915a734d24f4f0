"""`ropext convert`: a checkpoint that reads further."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click

from ropext.converter.convert.api import choose_preset, plan_conversion
from ropext.converter.convert.plan import Plan
from ropext.converter.convert.write import Result, write
from ropext.converter.errors import UsageError
from ropext.converter.files.links import LINK_MODES, LinkMode
from ropext.converter.preset import Preset
from ropext.converter.publish.api import converted_contents
from ropext.converter.publish.contents import read_folder
from ropext.converter.publish.plan import plan_push
from ropext.converter.serve.api import offers
from ropext.converter.text import printable, size_text

from .completion import complete_methods, complete_presets
from .options import AS_JSON, QUIET, SET, Length, epilog
from .output import say, say_json
from .progress import progress_line
from .push import Pushing, publish, push_options, quiet_client, waiting_for_hub

__all__ = ["convert"]


@click.command(
    short_help="Convert a checkpoint into one that reads further.",
    epilog=epilog(
        "convert Qwen/Qwen3-0.6B --method yarn --target 128k --output qwen3-0.6b-128k",
        "convert SmolLM2-135M-Instruct --preset smollm2-135m-rerope --dry-run",
        page="README.md",
    ),
)
@click.argument("source", required=False)
@click.option(
    "--preset",
    "-p",
    "preset_name",
    metavar="NAME|FILE",
    shell_complete=complete_presets,
    help="Convert with this preset.",
)
@click.option(
    "--method",
    metavar="METHOD",
    shell_complete=complete_methods,
    help="Convert with this method and the parameters suggested for it.",
)
@click.option("--target", "-t", type=Length(), help="Longest prompt to read, e.g. 128k. Belongs to --method.")
@click.option(
    "--initial-window",
    type=Length(),
    show_default="the trained length",
    help="Length up to which the model reads well already. Belongs to --method.",
)
@click.option(
    "--output",
    "-o",
    type=click.Path(path_type=Path),
    metavar="DIR",
    show_default="./<preset>",
    help="Folder to write.",
)
@SET
@click.option("--revision", metavar="REV", help="Branch, tag or commit of a Hub repository.")
@click.option("--native", is_flag=True, help="Write stock configuration keys and no code. Frequency methods only.")
@click.option(
    "--link",
    type=click.Choice(LINK_MODES),
    default="auto",
    show_default=True,
    help="Way in which weights get into DIR. auto: reflink, else hard link from a folder, copy from the Hub cache.",
)
@click.option(
    "--digests/--no-digests",
    default=None,
    show_default="up to 256 MiB",
    help="Read linked weights, so that `ropext verify` can check them.",
)
@click.option("--push", "push_to", metavar="REPO", help="Publish it as this Hub repository. DIR is then optional.")
@push_options
@click.option("--dry-run", is_flag=True, help="Show what would be done, and do nothing.")
@click.option("--force", is_flag=True, help="Replace what DIR holds.")
@AS_JSON
@QUIET
def convert(
    source: str | None,
    preset_name: str | None,
    method: str | None,
    target: int | None,
    initial_window: int | None,
    output: Path | None,
    overrides: Sequence[str],
    revision: str | None,
    native: bool,
    link: LinkMode,
    digests: bool | None,
    push_to: str | None,
    dry_run: bool,
    force: bool,
    as_json: bool,
    quiet: bool,
    **pushing: Any,
) -> None:
    """Convert SOURCE, a checkpoint folder or a Hub id, into one that reads further.

    What to convert with is a preset, or a method and a length: `--method yarn --target 128k` takes the parameters
    that `ropext suggest` gives for this model. SOURCE is by default the preset's own base model.

    Weights are linked, never changed. DIR holds the model's code and the method's numbers beside them, and loads with
    transformers and trust_remote_code=True alone. With --native there is no code: stock classes read the numbers.
    Hard-linked weights are SOURCE's own files: replace them, but do not edit them in place. Those of the Hub cache
    are copied where they cannot share blocks, so that no edit of DIR reaches it.

    With --push it goes to the Hub. From a Hub id nothing large is then downloaded or sent: the Hub copies the
    weights itself.
    """
    shown, how = quiet_client(quiet=quiet), Pushing(**pushing)
    if push_to is None and how != Pushing():
        raise UsageError("--private, --public, --create-pr and --message belong to --push.")
    chosen = choose_preset(
        source, preset_name, method, target, initial_window=initial_window, overrides=overrides, revision=revision
    )
    preset, folder = chosen.preset, output or Path(chosen.preset.name)
    if method and not quiet:
        _show_preset(preset, to_stderr=as_json)
    for note in chosen.notes:
        say(f"note: {note}", err=True)
    unwritten = push_to and (output is None or dry_run)
    if not unwritten:
        with waiting_for_hub(f"reading {source or preset.base_model}", quiet=quiet):
            plan = plan_conversion(preset, source, folder, revision=revision, native=native, force=force)
        done: Plan | Result = plan
        if not dry_run:
            with progress_line(shown) as progress:
                done = write(plan, folder, link=link, force=force, digests=digests, progress=progress)
        _warn_of_a_dot(folder, native=native)
    if push_to:
        with progress_line(shown, "reading") as reading:
            if unwritten:
                contents = converted_contents(preset, source, revision, native=native, reading=reading)
            else:
                contents = read_folder(folder, reading)
            pushed = plan_push(contents, push_to, **vars(how))
        publish(pushed, dry_run=dry_run, as_json=as_json, quiet=quiet)
    elif as_json:
        say_json(done.to_json())
    elif not quiet:
        say("\n".join(_summary(done, preset) if isinstance(done, Result) else _planned(done, folder)))


# Reports


def _show_preset(preset: Preset, *, to_stderr: bool) -> None:
    """Print a preset that was made for this conversion, as a file would hold it."""
    click.echo(printable(f"# {preset.name}, kept in ropext.json\n{preset.text}"), err=to_stderr)


def _warn_of_a_dot(folder: Path, *, native: bool) -> None:
    if "." in folder.absolute().name and not native:
        say(f"note: transformers before 4.54 loads no code from a folder with a dot in its name: {folder}", err=True)


def _planned(plan: Plan, output: Path) -> Iterator[str]:
    yield f"{plan.source} → {output} with {plan.preset} ({plan.method}); nothing is written\n"
    for file in plan.files:
        size = "" if file.size is None else f"{file.size:,}"
        yield f"{file.action:<8} {size:>15}  {file.path:<32} {file.why}"
    link, move = plan.size_of("link"), plan.size_of("copy", "generate")
    yield f"\n{size_text(link)} linked, {size_text(move)} written\n\nconfig.json"
    for key, before, after in plan.config_changes:
        yield f"  {key}: {_value(before)} → {_value(after)}"
    yield from _notes(plan)


def _summary(result: Result, preset: Preset) -> Iterator[str]:
    plan, ways = result.plan, result.methods
    counts = ", ".join(f"{count} by {method}" for method, count in ways.items() if method != "generate")
    yield f"{result.output}: {plan.method}, {preset.initial_window:,} → {preset.target_window:,} tokens"
    yield f"  {len(result.files)} files: {counts}, {ways.get('generate', 0)} generated"
    yield f"  {size_text(result.bytes_linked)} linked, {size_text(result.bytes_moved)} written"
    if "hardlink" in ways:
        yield "  Hard links are the source's own files: change neither copy's weights in place."
    cached = {file.path for file in plan.files if file.action == "link" and file.cached}
    if any(file.method == "copy" and file.path in cached for file in result.files):
        yield "  Copied, so that no edit reaches the Hub cache; --link hardlink or symlink shares its files instead."
    yield from _notes(plan)
    path = json.dumps(str(result.output), ensure_ascii=False)
    trust = "" if plan.native else ", trust_remote_code=True"
    yield f"\nLoad it:\n  AutoModelForCausalLM.from_pretrained({path}{trust})"
    yield from _served(result)


def _served(result: Result) -> Iterator[str]:
    """Tell the commands that serve what was written, one for each runtime that can."""
    found = [each for each in offers(str(result.output)) if each.able]
    yield "\nServe it (`ropext serve` tells what each needs):"
    width = max(len(each.runtime) for each in found)
    yield from (f"  {each.runtime:<{width}}  {each.commands[-1]}" for each in found)


def _notes(plan: Plan) -> Iterator[str]:
    if plan.notes:
        yield "\nNotes"
    yield from (f"  {note}" for note in plan.notes)


def _value(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 90 else f"{text[:60]} … ({len(text):,} characters)"
