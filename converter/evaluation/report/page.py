"""A report as one HTML page that needs nothing else: tables, and pictures as SVG within. Its layout is a template."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import resources
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from .drawing import Picture, inline_svg
from .lines import Origin
from .ranking import headline, left_out
from .results import Experiment
from .tables import HOW_TO_READ, Table, notes, settings_line, shortened, tables, title

__all__ = ["as_html"]

_TEMPLATE = "page.html.jinja"


def as_html(experiments: Sequence[Experiment], pictures: Sequence[tuple[Experiment, Picture]]) -> str:
    """Lay out a report.

    Args:
        experiments: in the order in which they are shown.
        pictures: each beside the experiment that it belongs to.

    Raises:
        RopextError: matplotlib is not installed.
    """
    sections = [
        _section(f"s{number}", experiment, [picture for whose, picture in pictures if whose is experiment])
        for number, experiment in enumerate(experiments, start=1)
    ]
    environment = Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True, undefined=StrictUndefined
    )
    template = environment.from_string(resources.files(__package__).joinpath(_TEMPLATE).read_text(encoding="utf-8"))
    return template.render(
        heading=f"Results of {', '.join(dict.fromkeys(experiment.source for experiment in experiments))}",
        how_to_read=HOW_TO_READ,
        sections=sections,
    )


def _section(name: str, experiment: Experiment, pictures: Sequence[Picture]) -> dict[str, Any]:
    return {
        "name": name,
        "title": title(experiment),
        "settings": settings_line(experiment) if experiment.settings else "",
        "headline": headline(experiment, short=True),
        "tables": [_table(table, experiment) for table in tables(experiment)],
        "figures": [
            {"title": picture.title, "caption": picture.caption, "svg": _svg(f"{name}-p{number}", picture)}
            for number, picture in enumerate(pictures, start=1)
        ],
        "notes": notes(experiment),
        "origins": [_origin(origin) for origin in experiment.origins],
    }


def _table(table: Table, experiment: Experiment) -> dict[str, Any]:
    """A table whose rows have the short names of their models, and whose cells know whether they are the best."""
    short, start = shortened(table, experiment), left_out(experiment)
    rows = [
        {"name": name, "cells": [(cell, (at, place) in table.best) for place, cell in enumerate(cells, start=1)]}
        for at, (name, *cells) in enumerate(short.rows)
    ]
    said = f" (names without “{start}”)" if short.rows != table.rows else ""
    return {"caption": f"{table.caption}{said}", "header": table.header, "rows": rows}


def _svg(name: str, picture: Picture) -> Markup:
    """Draw a picture, with a title and a description for who does not see it."""
    svg = inline_svg(picture, name).replace("<svg ", f'<svg role="img" aria-labelledby="{name}-title {name}-desc" ', 1)
    head, _, body = svg.partition(">")
    labels = Markup('<title id="{0}-title">{1}</title><desc id="{0}-desc">{2}</desc>').format(
        name, picture.title, picture.alt
    )
    return Markup(f"{head}>{labels}{body}")  # matplotlib's own


def _origin(origin: Origin) -> dict[str, str]:
    return {
        "command": origin.command or "(the command was not written down)",
        "about": "; ".join(filter(None, (origin.versions, origin.machine))),
    }
