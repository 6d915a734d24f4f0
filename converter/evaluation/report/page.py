"""A report as one HTML page that needs nothing else: tables, and pictures as SVG within."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from .drawing import Picture, inline_svg
from .results import Experiment, Origin
from .tables import HOW_TO_READ, Table, settings_line, tables, title

__all__ = ["as_html"]

_STYLE = """
:root { color-scheme: light; }
body { margin: 0 auto; max-width: 60rem; padding: 1rem; color: #1a1a1a; background: #fff;
  font: 1rem/1.5 system-ui, sans-serif; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.3rem; margin-top: 2.5rem; border-top: 1px solid #ccc; padding-top: 1rem; }
h1, h2 { line-height: 1.25; overflow-wrap: anywhere; }
h3 { font-size: 1rem; }
.wide { overflow-x: auto; margin: 1rem 0; } .wide:focus { outline: 2px solid #0072B2; }
table { border-collapse: collapse; font-size: .875rem; font-variant-numeric: tabular-nums; }
caption { text-align: left; font-weight: 600; padding: .25rem 0; }
caption span { position: sticky; left: 0; display: inline-block; max-width: calc(100vw - 2rem); }
thead th, .range { white-space: nowrap; }
th, td { padding: .25rem .75rem; text-align: right; border-bottom: 1px solid #ddd; vertical-align: top; }
th:first-child { text-align: left; padding-left: 0; white-space: nowrap; } thead th { border-bottom: 2px solid #444; }
figure { margin: 1rem 0; } figure svg { display: block; width: 100%; min-width: 34rem; height: auto; }
figcaption { font-size: .875rem; color: #444; }
pre { white-space: pre-wrap; overflow-wrap: anywhere; background: #f4f4f4; padding: .75rem; font-size: .8125rem; }
.small { font-size: .875rem; color: #444; overflow-wrap: anywhere; }
@media (max-width: 40rem) { th:first-child { white-space: normal; overflow-wrap: anywhere; min-width: 6rem; } }
@media print { .wide { overflow: visible; } section { break-inside: avoid-page; } }
"""


def as_html(experiments: Sequence[Experiment], pictures: Sequence[tuple[Experiment, Picture]]) -> str:
    """Lay out a report.

    Args:
        experiments: in the order in which they are shown.
        pictures: each beside the experiment that it belongs to.

    Raises:
        RopextError: matplotlib is not installed.
    """
    names = {id(experiment): f"s{number}" for number, experiment in enumerate(experiments, start=1)}
    links = "".join(
        f'<li><a href="#{names[id(experiment)]}">{escape(title(experiment))}</a></li>\n' for experiment in experiments
    )
    sections = "\n".join(
        _section(names[id(experiment)], experiment, [picture for whose, picture in pictures if whose is experiment])
        for experiment in experiments
    )
    heading = f"Results of {', '.join(dict.fromkeys(experiment.source for experiment in experiments))}"
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(heading)}</title>
<style>{_STYLE}</style>
</head>
<body>
<main>
<h1>{escape(heading)}</h1>
<nav aria-label="Contents">
<ul>
{links}</ul>
</nav>
<p class="small">{escape(HOW_TO_READ)}</p>
{sections}
</main>
</body>
</html>
"""


def _section(name: str, experiment: Experiment, pictures: Sequence[Picture]) -> str:
    parts = [f'<section aria-labelledby="{name}">', f'<h2 id="{name}">{escape(title(experiment))}</h2>']
    if experiment.settings:
        parts.append(f'<p class="small">{escape(settings_line(experiment))}.</p>')
    parts += [_table(table) for table in tables(experiment)]
    parts += [_figure(f"{name}-p{number}", picture) for number, picture in enumerate(pictures, start=1)]
    parts += [f"<p>{escape(note)}</p>" for note in experiment.notes]
    parts += ["<h3>How it was made</h3>", *(_origin(origin) for origin in experiment.origins), "</section>"]
    return "\n".join(parts)


def _table(table: Table) -> str:
    head = "".join(f'<th scope="col">{escape(cell)}</th>' for cell in table.header)
    rows = "\n".join(
        f'<tr><th scope="row">{escape(first)}</th>{"".join(map(_cell, rest))}</tr>' for first, *rest in table.rows
    )
    return f"""<div class="wide" tabindex="0" role="region" aria-label="{escape(table.caption)}">
<table>
<caption><span>{escape(table.caption)}</span></caption>
<thead><tr>{head}</tr></thead>
<tbody>
{rows}
</tbody>
</table>
</div>"""


def _cell(text: str) -> str:
    value, bracket, interval = escape(text).partition(" (")
    return f'<td>{value} <span class="range">({interval}</span></td>' if bracket else f"<td>{value}</td>"


def _figure(name: str, picture: Picture) -> str:
    svg = inline_svg(picture, name).replace("<svg ", f'<svg role="img" aria-labelledby="{name}-title {name}-desc" ', 1)
    head, _, body = svg.partition(">")
    labels = (
        f'<title id="{name}-title">{escape(picture.title)}</title><desc id="{name}-desc">{escape(picture.alt)}</desc>'
    )
    return f"""<figure>
<div class="wide" tabindex="0" role="region" aria-label="{escape(picture.title)}">
{head}>{labels}{body}</div>
<figcaption>{escape(picture.title)}</figcaption>
</figure>"""


def _origin(origin: Origin) -> str:
    about = "; ".join(filter(None, (origin.versions, origin.machine)))
    command = origin.command or "(the command was not written down)"
    return f"<pre><code>{escape(command)}</code></pre>" + (f'<p class="small">{escape(about)}</p>' if about else "")
