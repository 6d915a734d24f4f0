"""Where a conversion may go: a place that is free, or holds nothing but what a conversion wrote."""

from __future__ import annotations

from pathlib import Path

from ropext.converter.errors import RopextError, UsageError
from ropext.converter.files.atomic_folder import check_output
from ropext.converter.files.json_object import read_bounded
from ropext.converter.names import CARD
from ropext.converter.text import printable

from .card import kept_of_card

__all__ = ["require_place"]


def require_place(output: Path, source: Path | None, *, force: bool) -> None:
    """Refuse a place where the output must not go.

    Args:
        output: the folder to make.
        source: the base's folder, if it is known yet.
        force: whether what ropext wrote there may be replaced.

    Raises:
        UsageError: it is no place for it (see `check_output`), or the card there holds results or sections of others.
    """
    check_output(output, source, force=force)
    card = output / CARD
    try:
        text = read_bounded(card, str(card)).decode() if card.is_file() else ""
    except (OSError, UnicodeDecodeError, RopextError):
        raise UsageError(f"{card}: cannot be read; move it elsewhere, and run the command again.") from None
    kept = [printable(section.title)[:60] for section in kept_of_card(text).sections]
    if kept:
        raise UsageError(
            f"{card}: --force would drop the sections {', '.join(map(repr, kept))}. Choose another --output, or move "
            f"the card elsewhere; for the same preset, `ropext upgrade {output}` keeps them."
        )
