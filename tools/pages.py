"""Build the site from pages that also read well in the repository: a hook of MkDocs (`mkdocs build --strict`).

README, CONTRIBUTING, SECURITY and CHANGELOG lie at the root of the repository; the site has them as pages. Pictures of
benchmarks are copied. A link to a file that the site does not have becomes its text.
"""

from __future__ import annotations

import re
from pathlib import Path
from posixpath import normpath, relpath
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parent.parent
PAGES = {
    "README.md": "docs/index.md",
    "CONTRIBUTING.md": "docs/contributing.md",
    "SECURITY.md": "docs/security.md",
    "CHANGELOG.md": "docs/changelog.md",
}
"""Files of the repository, and where the site has them; paths are those in the repository."""

LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^)\s#]+)(#[^)\s]*)?\)")


def on_files(files: Files, config: Any) -> Files:
    """Add the pages and pictures that lie outside `docs/`."""
    for source, place in PAGES.items():
        add(files, config, place, (ROOT / source).read_text(encoding="utf-8"))
    for picture in sorted((ROOT / "benchmarks" / "results").glob("*.svg")):
        add(files, config, f"docs/benchmarks/results/{picture.name}", picture.read_bytes())
    return files


def add(files: Files, config: Any, place: str, content: str | bytes) -> None:
    """Add a file to the site."""
    files.append(File.generated(config, place.removeprefix("docs/"), content=content))


def on_page_markdown(markdown: str, *, page: Any, config: Any, files: Files) -> str:
    """Make the links of a page those of the site."""
    place = f"docs/{page.file.src_uri}"
    source = next((name for name, at in PAGES.items() if at == place), place)
    known = {f"docs/{file.src_uri}" for file in files}
    return LINK.sub(lambda match: link(match, source, place, known), markdown)


def link(match: re.Match[str], source: str, place: str, known: set[str]) -> str:
    """Return one link as the site writes it, or its text alone if the site lacks the file."""
    mark, text, target, anchor = match.groups(default="")
    if re.match(r"[a-z]+:", target):
        return match[0]
    wanted = normpath(f"{Path(source).parent.as_posix()}/{target}")
    wanted = PAGES.get(wanted, wanted if wanted.startswith("docs/") else f"docs/{wanted}")
    if wanted not in known:
        return text
    return f"{mark}[{text}]({relpath(wanted, Path(place).parent.as_posix())}{anchor})"
