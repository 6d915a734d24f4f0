"""The configuration of a Llama with a `rope_ext` block. It imports no torch: tokenizers of other runtimes load it."""

from __future__ import annotations

import copy
from typing import Any

from transformers.models.llama.configuration_llama import LlamaConfig

GUARD = "ropext: load this checkpoint with trust_remote_code=True"
"""Stands in `config.json` where a stock class looks something up, so that it fails with this text."""

_ACTIVATIONS = ("hidden_act", "hidden_activation", "activation_function")
_ROPE = ("rope_parameters", "rope_scaling", "rope_theta")
_OF_THE_RECORD = ("architectures", "max_position_embeddings", "place")
"""Keys of `rope_ext["base"]` that only tell what the base was."""


class RopeExtConfigMixin:
    """A family's configuration with a `rope_ext` block. Goes before the family's class among the bases.

    `config.json` holds guards in the activation and in the rope type; of an image-text model, in those of the part that
    reads text. They are replaced by the values of `rope_ext["base"]` before the family's class sees them, and put back
    whenever the configuration is written.
    """

    def __init_subclass__(cls, **kwargs: Any) -> None:
        # Not only inherited: transformers 5 makes a new one for a configuration class without its own.
        cls.__init__ = RopeExtConfigMixin.__init__  # type: ignore[method-assign]
        super().__init_subclass__(**kwargs)

    def __init__(self, rope_ext: dict[str, Any] | None = None, **kwargs: Any) -> None:
        if rope_ext is not None:
            place = rope_ext["base"].get("place")
            if place is None:
                kwargs = _opened(kwargs, rope_ext["base"])
            elif isinstance(kwargs.get(place), dict):
                kwargs[place] = _opened(kwargs[place], rope_ext["base"])
        super().__init__(**kwargs)
        self.rope_ext = rope_ext

    def to_dict(self) -> dict[str, Any]:
        """The dictionary that `config.json` holds, guards included."""
        output: dict[str, Any] = super().to_dict()
        block = getattr(self, "rope_ext", None)
        if block is not None:
            place = block["base"].get("place")
            _close(output if place is None else output[place], block["base"])
        return output


def _opened(keys: dict[str, Any], base: dict[str, Any]) -> dict[str, Any]:
    """The keys of a configuration with the base's values in place of the guards."""
    values = {key: value for key, value in base.items() if key not in _OF_THE_RECORD}
    rest = {key: value for key, value in keys.items() if key not in values and key not in _ROPE}
    return rest | {key: copy.deepcopy(value) for key, value in values.items() if value is not None}


def _close(keys: dict[str, Any], base: dict[str, Any]) -> None:
    """Put the guards in."""
    for name in _ACTIVATIONS:
        if name in base:
            keys[name] = GUARD
    theta = {"rope_theta": base["rope_theta"]} if base.get("rope_theta") else {}
    guard = {"rope_type": GUARD, **theta}
    kinds = base.get("rope_parameters")
    if kinds is None and "rope_local_base_freq" in base:
        kinds = ("full_attention", "sliding_attention")
    parameters = {kind: dict(guard) for kind in kinds} if kinds else guard
    keys |= theta | {"rope_scaling": {"rope_type": GUARD}, "rope_parameters": parameters}


class LlamaRopeExtConfig(RopeExtConfigMixin, LlamaConfig):
    """Llama's configuration with a `rope_ext` block."""

    # Checkpoints with other methods have other code: in one process, their classes must not be taken for each other.
    rope_ext_method = "dpe"
