"""`ropext families`: which model types can be converted, what of each is changed, and why the others cannot be."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import click

from ropext.converter.checkpoint.families import FAMILIES
from ropext.converter.checkpoint.family import Family

__all__ = ["families", "markdown"]


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--markdown", "as_markdown", is_flag=True, help="Print the tables of docs/families.md.")
def families(as_json: bool, as_markdown: bool) -> None:
    """List the model types that can be converted, and those that cannot, with the reason."""
    if as_json:
        click.echo(json.dumps([record(FAMILIES[name]) for name in sorted(FAMILIES)], indent=2))
    elif as_markdown:
        click.echo(markdown(), nl=False)
    else:
        click.echo(_plain())


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


def _supported() -> list[Family]:
    return [FAMILIES[name] for name in sorted(FAMILIES) if not FAMILIES[name].refused and not FAMILIES[name].inside]


def _refused() -> dict[str, list[str]]:
    """Return the model types that cannot be converted, by the reason."""
    found: dict[str, list[str]] = defaultdict(list)
    for name in sorted(FAMILIES):
        if FAMILIES[name].refused:
            found[FAMILIES[name].refused].append(name)
    return dict(sorted(found.items(), key=lambda each: (-len(each[1]), each[0])))


def _row(family: Family) -> tuple[str, ...]:
    layers = f"of its text model: {', '.join(family.text)}" if family.text else layers_text(family)
    return family.model_type, family.stock_class, family.since, layers, "" if family.text else pairs_text(family)


_HEADINGS = ("model type", "stock class", "transformers", "layers", "pairs")


def _plain() -> str:
    rows = [tuple(heading.upper() for heading in _HEADINGS), *map(_row, _supported())]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    refused = [f"{', '.join(names)}\n    {why}" for why, names in _refused().items()]
    return "\n".join([*lines, "", "CANNOT BE CONVERTED", *refused])


def markdown() -> str:
    """Return both tables as docs/families.md has them."""
    rows = [(f"`{name}`", f"`{made}`", *rest) for name, made, *rest in map(_row, _supported())]
    refused = [(", ".join(f"`{name}`" for name in names), why) for why, names in _refused().items()]
    return "\n".join(
        [*_grid(_HEADINGS, rows), "", *_grid(("model types", "why they cannot be converted"), refused), ""]
    )


def _grid(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [_line(headings), "|" + "---|" * len(headings), *map(_line, rows)]


def _line(cells: Sequence[str]) -> str:
    return "".join(f"| {cell} " if cell else "| " for cell in cells) + "|"
