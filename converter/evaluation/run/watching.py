"""Watching a model's attention: what each layer is given, by the model's own method or by plain RoPE."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from ropext.converter.checkpoint.description import base_inv_freq, describe
from ropext.converter.errors import RopextError, UsageError
from ropext.modeling.rope_ext_contacts import Attachment
from ropext.modeling.rope_ext_method import Method, Tokens
from ropext.modeling.rope_ext_model import decoder_of
from ropext.modeling.rope_ext_original import Original

__all__ = ["See", "watching"]

See = Callable[[Method, Tokens], None]
"""Called with the method that a layer attends by, and what it is given."""


@contextmanager
def watching(model: Any, config: Mapping[str, Any], see: See) -> Iterator[frozenset[int]]:
    """Show what each layer's attention is given, in all forwards until this ends.

    A base and a method that changes frequencies alone attend as stock models do: to queries and keys as they were
    rotated. `original` is put on these for as long.

    Args:
        model: a language model, alone or with a method.
        config: its `config.json`.
        see: is shown each layer of each forward.

    Yields:
        The indices of the layers that are shown: those that methods act on.

    Raises:
        UsageError: the model is none that ropext can convert.
    """
    decoder = decoder_of(model)
    own = getattr(decoder, "rope_ext_attachment", None)
    attachment = own if isinstance(own, Attachment) else _plain(decoder, config)
    attachment.observer = see
    try:
        yield attachment.layers
    finally:
        attachment.observer = None
        if attachment is not own:
            attachment.detach()


def _plain(decoder: Any, config: Mapping[str, Any]) -> Attachment:
    """Put `original` on a decoder whose attention is stock."""
    block = config.get("rope_ext") or _block(config)
    return Attachment(decoder, Original({**block, "parameters": {}}), block["pairs"]["layers"])


def _block(config: Mapping[str, Any]) -> dict[str, Any]:
    try:
        found = describe(config)
    except RopextError as error:
        raise UsageError(f"only models that ropext can convert are watched: {error}") from None
    if found.window:
        raise UsageError(f"all layers of the model see {found.window} tokens only: there is nothing far to watch")
    return {"initial_window": 1, "inv_freq": base_inv_freq(config), "pairs": found.pairs()}
