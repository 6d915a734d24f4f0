"""`ropext serve`: the command that serves a model."""

from __future__ import annotations

from collections.abc import Iterator

import click

from ropext.converter.errors import RopextError
from ropext.converter.serve.api import RUNTIMES, offers
from ropext.converter.serve.model import Offer

from .options import AS_JSON, epilog
from .output import say, say_json

__all__ = ["serve_command"]


@click.command(
    "serve",
    short_help="Print the command that serves a model.",
    epilog=epilog("serve qwen3-4b-128k", "serve qwen3-4b-yarn --runtime vllm", page="docs/runtimes.md"),
)
@click.argument("source", metavar="DIR|MODEL")
@click.option("--runtime", "-r", type=click.Choice(list(RUNTIMES)), show_default="all", help="Runtime to serve with.")
@AS_JSON
def serve_command(source: str, runtime: str | None, as_json: bool) -> int:
    """Print the command that serves DIR, a converted folder, or MODEL, a base, on each runtime. Nothing is run.

    The command has the flags that this model and method need there. Where a runtime cannot serve it, the reason and
    what to do instead are printed; with --runtime the exit status is then 1.
    """
    found = offers(source, runtime)
    refused = runtime is not None and not found[0].able
    if as_json:
        say_json([each.to_json() for each in found])
    elif refused:
        raise RopextError(f"{runtime}: {found[0].why}; {found[0].instead}.")
    else:
        say("\n\n".join("\n".join(_shown(each)) for each in found))
    return 1 if refused else 0


def _shown(offer: Offer) -> Iterator[str]:
    if not offer.able:
        yield f"{offer.runtime}: no\n  {offer.why}; {offer.instead}."
        return
    yield offer.runtime
    for name, text in offer.files.items():
        yield f"  {name}:"
        yield from (f"    {line}".rstrip() for line in text.splitlines())
    yield from (f"  $ {command}" for command in offer.commands)
    yield from (f"  ({note})" for note in offer.notes)
