"""Jet-Long: the base up to a window; beyond, groups that grow with the length (arXiv 2607.07740)."""

from __future__ import annotations

from collections.abc import Iterator

from ropext.converter.errors import Fault

from .base import Grid, Method, Settings, Suggestion, Wish, nesting_faults


def _faults(settings: Settings) -> Iterator[Fault]:
    return nesting_faults(settings, "window")


def _suggest(wish: Wish) -> Suggestion:
    window = wish.window(2048)
    outer = wish.trained - window
    return Suggestion(
        "jet_long",
        {"window": outer, "local_window": window},
        None,
        f"the base up to {outer} tokens; beyond, G = ceil(L / {outer}) keeps every distance under M",
        "arXiv 2607.07740; local window as published, where M allows it",
    )


METHOD = Method(
    about=(
        "Up to `window` tokens nothing changes. "
        "Beyond, [Jet-Long](https://arxiv.org/abs/2607.07740) keeps distances within the local window exact, and "
        "lets groups of farther tokens share a position; the groups grow with the length of the text."
    ),
    reason="Short prompts are the base's own, and farther ones keep exact distances in the local window.",
    measured=-3.39,
    suggest=_suggest,
    faults=_faults,
    grid=Grid({"window": (1, 2 / 3, 0.5), "local_window": (1, 0.5)}),
)
