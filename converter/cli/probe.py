"""`ropext probe`: whether an installed runtime honours a checkpoint's keys."""

from __future__ import annotations

from collections.abc import Iterator

import click

from ropext.converter.probe.api import EXIT_STATUS, RUNTIMES, Probed, probe

from .options import AS_JSON, epilog
from .output import say, say_json

__all__ = ["probe_command"]


@click.command(
    "probe",
    short_help="Check that an installed runtime honours a checkpoint's keys.",
    epilog=epilog("probe qwen3-4b-yarn", "probe qwen3-4b-yarn --runtime vllm --json", page="docs/runtimes.md"),
)
@click.argument("source", metavar="DIR|REPO")
@click.option(
    "--runtime",
    "-r",
    type=click.Choice(list(RUNTIMES)),
    default="transformers",
    show_default=True,
    help="Installed runtime to ask.",
)
@AS_JSON
def probe_command(source: str, runtime: str, as_json: bool) -> int:
    """Ask the installed runtime whether it honours RoPE's keys of DIR or REPO, and name those that it ignores.

    The runtime's own rotary tables are compared with what each place of config.json means, and each key is changed to
    see whether the tables follow. No model is built and no weights are read. The exit status is 0 if the keys are
    honoured, 1 if some are ignored, and 3 if it could not be told.
    """
    found = probe(source, runtime)
    if as_json:
        say_json(found.to_json())
    else:
        say("\n".join(_shown(found)))
    return EXIT_STATUS[found.verdict]


_SAID = {"honoured": "honours its keys", "ignored": "ignores some of its keys", "untold": "could not be told"}


def _shown(found: Probed) -> Iterator[str]:
    name = f"{found.runtime} {found.version}".rstrip()
    yield f"{found.source}: {name}: {_SAID[found.verdict]}"
    for each in found.ignored:
        yield f"  {each.key} is ignored: {each.why}"
    for layer_type, table in (found.tables or {}).items():
        slowest = min((each for each in table.inv_freq if each), default=0.0)
        about = f"{len(table.inv_freq)} pairs, the slowest {slowest:.4g} radians a token"
        yield f"  {layer_type or 'all layers'}: {about}, attention times {table.attention_factor:.6g}"
    yield from (f"  {note}" for note in found.notes)
