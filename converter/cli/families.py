"""`ropext families`: which model types can be converted, what of each is changed, and why the others cannot be."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

import click

from ropext.converter.checkpoint.families import FAMILIES
from ropext.converter.checkpoint.family import Family
from ropext.converter.errors import UsageError
from ropext.converter.text import did_you_mean

from .completion import complete_families
from .options import AS_JSON, epilog
from .output import say, say_json
from .screen import table

__all__ = ["families", "markdown"]


@click.command(
    short_help="List the model types that can be converted.",
    epilog=epilog("families", "families qwen3 --json", page="docs/families.md"),
)
@click.argument("names", metavar="[MODEL_TYPE]...", nargs=-1, shell_complete=complete_families)
@AS_JSON
@click.option("--markdown", "as_markdown", is_flag=True, help="Print the tables of docs/families.md.")
def families(names: tuple[str, ...], as_json: bool, as_markdown: bool) -> None:
    """List the model types that can be converted, and those that cannot, with the reason.

    With MODEL_TYPE, the `model_type` of a config.json, list these alone.
    """
    for name in names:
        if name not in FAMILIES:
            near = did_you_mean(name, FAMILIES) or "; `ropext families` lists all of them"
            raise UsageError(f"unknown model type {name!r}{near}")
    if as_json:
        say_json([record(FAMILIES[name]) for name in names or sorted(FAMILIES)])
    elif as_markdown:
        say(markdown(), end="")
    else:
        click.echo(_listed([FAMILIES[name] for name in names or sorted(FAMILIES)]))


def record(family: Family) -> dict[str, Any]:
    """Return a family as JSON values."""
    common = {"model_type": family.model_type, "supported": not family.refused}
    if family.refused:
        return {**common, "why": family.refused}
    return {
        **common,
        "class": family.stock_class if not family.inside else None,
        "inside": family.inside or None,
        "text_models": list(family.text),
        "transformers": family.since,
        "layers": layers_text(family),
        "pairs": pairs_text(family),
    }


def layers_text(family: Family) -> str:
    """Say which layers of a family a method acts on."""
    if family.text:
        return "as its text model"
    everywhere = family.layers in ("every", "double") or (family.layers == "window" and family.pattern == "f")
    which = "all" if everywhere else "full attention"
    which += " with rotary positions" if family.nope else ""
    return f"{which}; a window is turned off" if family.layers == "window" else which


def pairs_text(family: Family) -> str:
    """Say which dimensions of a head form pairs."""
    if family.text:
        return "as its text model"
    how = family.layout + (", turned backwards" if family.sign < 0 else "")
    if family.latent:
        plain, turned = family.latent
        return f"{how} of the last {turned} of {plain + turned} dimensions"
    if family.partial not in (None, 1.0):
        return f"{how} of {family.partial:g} of a head"
    return how


def _supported(found: Iterable[Family]) -> list[Family]:
    return [family for family in found if not family.refused and not family.inside]


def _refused(found: Iterable[Family]) -> dict[str, list[str]]:
    """Return the model types that cannot be converted, by the reason."""
    reasons: dict[str, list[str]] = defaultdict(list)
    for family in found:
        if family.refused:
            reasons[family.refused].append(family.model_type)
    return dict(sorted(reasons.items(), key=lambda each: (-len(each[1]), each[0])))


def _row(family: Family) -> tuple[str, ...]:
    layers = f"of its text model: {', '.join(family.text)}" if family.text else layers_text(family)
    return family.model_type, family.stock_class, family.since, layers, "" if family.text else pairs_text(family)


_HEADINGS = ("model type", "stock class", "transformers", "layers", "pairs")


def _listed(found: Sequence[Family]) -> str:
    """Return both tables for people."""
    parts = []
    if supported := [*_supported(found), *(each for each in found if each.inside and len(found) < len(FAMILIES))]:
        parts.append(table(_HEADINGS, list(map(_row, supported))))
    if refused := _refused(found):
        lines = [f"{', '.join(names)}\n    {why}" for why, names in refused.items()]
        parts.append("\n".join(["CANNOT BE CONVERTED", *lines]))
    return "\n\n".join(parts)


def markdown() -> str:
    """Return both tables as docs/families.md has them."""
    everything = [FAMILIES[name] for name in sorted(FAMILIES)]
    rows = [(f"`{name}`", f"`{made}`", *rest) for name, made, *rest in map(_row, _supported(everything))]
    refused = [(", ".join(f"`{name}`" for name in names), why) for why, names in _refused(everything).items()]
    return "\n".join(
        [*_grid(_HEADINGS, rows), "", *_grid(("model types", "why they cannot be converted"), refused), ""]
    )


def _grid(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [_line(headings), "|" + "---|" * len(headings), *map(_line, rows)]


def _line(cells: Sequence[str]) -> str:
    return "".join(f"| {cell} " if cell else "| " for cell in cells) + "|"
