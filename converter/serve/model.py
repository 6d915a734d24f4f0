"""A model that is to be served, and what a runtime offers for it."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from ropext.converter.methods.registry import FREQUENCY_METHODS

__all__ = ["Model", "Offer", "refusal"]


@dataclass(frozen=True)
class Model:
    """A model that is to be served.

    Attributes:
        source: a folder or a Hub id, as it was named.
        config: its `config.json`.
        method: its method; `original` for a base.
        length: tokens that it is to read; None where that is not known.
        kind: a base, a converted model with code, or a native export.
        others: the runtimes that run its code.
    """

    source: str
    config: Mapping[str, Any]
    method: str
    length: int | None
    kind: Literal["base", "code", "native"]
    others: str = "transformers"

    @property
    def quoted(self) -> str:
        """The source as a word of a command line."""
        return shlex.quote(self.source)

    def option(self, name: str) -> str:
        """Return an option with the length, and a space before it; nothing where the length is not known."""
        return f" {name} {self.length}" if self.length else ""

    @property
    def text(self) -> Mapping[str, Any]:
        """The text model's configuration."""
        inner = self.config.get("text_config")
        return inner if isinstance(inner, Mapping) else self.config

    @property
    def rope(self) -> dict[str, Any]:
        """RoPE's keys, as transformers 5 spells them."""
        found = self.text.get("rope_parameters") or self.text.get("rope_scaling") or {}
        return {"rope_theta": self.text.get("rope_theta"), **found}

    @property
    def rope_type(self) -> str:
        """The kind of its scaling; `default` where there is none, or one for each type of layer."""
        return str(self.rope.get("rope_type", self.rope.get("type", "default")))

    @property
    def read_as_yarn(self) -> bool:
        """Whether its attention is latent and its scaling another than yarn, which vLLM and SGLang take for yarn."""
        return bool(self.text.get("kv_lora_rank")) and self.rope_type not in ("default", "yarn")


@dataclass(frozen=True)
class Offer:
    """How a runtime serves a model, or why it does not.

    Attributes:
        runtime: which.
        commands: to type one after the other; the last one serves. Empty where the runtime cannot.
        files: what has to be written before, by name.
        why: why it cannot.
        instead: what to do then.
        notes: what the user should know.
    """

    runtime: str
    commands: tuple[str, ...] = ()
    files: Mapping[str, str] = field(default_factory=dict)
    why: str = ""
    instead: str = ""
    notes: tuple[str, ...] = ()

    @property
    def able(self) -> bool:
        """Whether the runtime can."""
        return bool(self.commands)

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {"able": self.able, **vars(self), "files": dict(self.files)}


def refusal(runtime: str, model: Model, why: str, instead: str = "") -> Offer:
    """Return an offer that says why there is none, and what to do."""
    if not instead and model.kind == "code" and model.method in FREQUENCY_METHODS:
        instead = "convert with --native, which writes this method in stock keys"
    elif not instead and model.kind == "native":
        instead = "take another frequency method, such as yarn or ntk"
    elif not instead:
        instead = f"serve it with {model.others}, or convert with a frequency method and --native, such as yarn"
    return Offer(runtime, why=why, instead=instead)
