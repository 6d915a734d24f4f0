"""Bodies of a Hub's answers, given up where they do not end: too many bytes, or hardly any for too long."""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import cache
from importlib import import_module
from typing import Any

__all__ = ["EndlessBody", "bound"]

MOST_OF_AN_ANSWER = 64 << 20
"""Bytes of what the Hub says: the longest list of a repository's files takes a few million."""

MOST_WITHOUT_A_LENGTH = 1 << 30
"""Bytes of a file whose length is not said beforehand; where it is, the client holds the body to it."""

SLOWEST, PATIENCE = 100, 60
"""Bytes for each second, and for how many seconds fewer are put up with."""


class EndlessBody(ValueError):
    """A body that is given up."""


def bound() -> None:
    """Let the client that this thread reads the Hub with give up what does not end."""
    from huggingface_hub import get_session

    session: Any = get_session()
    hooks = getattr(session, "event_hooks", None)
    if isinstance(hooks, dict) and _watch not in hooks.get("response", ()):
        session.event_hooks = {**hooks, "response": [*hooks.get("response", ()), _watch]}
    older = getattr(session, "hooks", None)  # of requests, on which clients before 1.0 stand
    if isinstance(older, dict) and _watch_older not in older.get("response", ()):
        older["response"] = [*older.get("response", ()), _watch_older]


def _watch(response: Any) -> None:
    most = _most(response.request.url.path, response.headers)
    response.stream = _watched(type(response).__module__.partition(".")[0])(response.stream, most)


def _watch_older(response: Any, **given: Any) -> None:
    most, chunks = _most(response.request.path_url, response.headers), response.iter_content

    def bounded(*args: Any, **kwargs: Any) -> Iterator[bytes]:
        try:
            yield from _bounded(chunks(*args, **kwargs), most)
        except EndlessBody:
            response.close()
            raise

    response.iter_content = bounded


def _most(path: str, headers: Any) -> int:
    """Return how many bytes of a body are read at most."""
    if path.startswith("/api/"):
        return MOST_OF_AN_ANSWER
    return 1 << 62 if "content-length" in headers else MOST_WITHOUT_A_LENGTH


def _bounded(chunks: Any, most: int) -> Iterator[bytes]:
    begin, received = time.monotonic(), 0
    for chunk in chunks:
        received += len(chunk)
        waited = time.monotonic() - begin
        if received > most:
            raise EndlessBody(f"its body does not end after {most >> 20} MiB")
        if waited > PATIENCE and received < SLOWEST * waited:
            raise EndlessBody(f"its body does not end after {waited:.0f} seconds")
        yield chunk


@cache
def _watched(library: str) -> Any:
    """Make the class of such bodies, which the library beneath the client takes for one of its own."""
    stream: Any = import_module(library).SyncByteStream

    def make(self: Any, body: Any, most: int) -> None:
        self.body, self.most = body, most

    members = {
        "__init__": make,
        "__iter__": lambda self: _bounded(self.body, self.most),
        "close": lambda self: self.body.close(),
    }
    return type("Watched", (stream,), members)
