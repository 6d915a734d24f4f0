"""ReRoPE: no distance is longer than a window (J. Su, 2023)."""

from __future__ import annotations

from .base import Grid, Method, Suggestion, Wish


def _suggest(wish: Wish) -> Suggestion:
    window = wish.window(1024)
    why = f"no distance is over {window}"
    return Suggestion("rerope", {"local_window": window}, None, why, "J. Su, 2023: w 512 or 1024")


METHOD = Method(
    about=(
        "[ReRoPE](https://kexue.fm/archives/9708) keeps distances within the local window exact. "
        "Farther tokens all stand at the window's distance, or with `leak` at distances that grow more slowly."
    ),
    reason="Distances in the local window are exact and none is longer, so that one number serves every length.",
    measured=-2.6,
    suggest=_suggest,
    grid=Grid({"local_window": (1, 0.5, 2, 4)}),
)
