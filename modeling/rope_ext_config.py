"""The configuration class's part that all families share: the guards, put in and taken out."""

from __future__ import annotations

import copy
from typing import Any

GUARD = "ropext: load this checkpoint with trust_remote_code=True"
"""Stands in `config.json` where a stock class looks something up, so that it fails with this text."""

_RESTORED = ("hidden_act", "partial_rotary_factor", "rope_theta", "rope_scaling")
"""What is read from the block, and not from where a family's class keeps it: transformers 5 writes it elsewhere."""


class RopeExtConfigMixin:
    """A family's configuration with a `rope_ext` block. Goes before the family's class among the bases.

    `config.json` holds guards in `hidden_act` and in the rope type. They are replaced by the values of
    `rope_ext["base"]` before the family's class sees them, and put back whenever the configuration is written.
    """

    def __init_subclass__(cls, **kwargs: Any) -> None:
        # Not only inherited: transformers 5 makes a new one for a configuration class without its own.
        cls.__init__ = RopeExtConfigMixin.__init__  # type: ignore[method-assign]
        super().__init_subclass__(**kwargs)

    def __init__(self, rope_ext: dict[str, Any] | None = None, **kwargs: Any) -> None:
        if rope_ext is not None:
            base = {key: value for key, value in rope_ext["base"].items() if key in _RESTORED and value is not None}
            kwargs = {key: value for key, value in kwargs.items() if key not in (*_RESTORED, "rope_parameters")}
            kwargs |= copy.deepcopy(base)
        super().__init__(**kwargs)
        self.rope_ext = rope_ext

    def to_dict(self) -> dict[str, Any]:
        """As `config.json` holds it, guards included."""
        output: dict[str, Any] = super().to_dict()
        block = getattr(self, "rope_ext", None)
        if block is not None:
            theta = block["base"]["rope_theta"]
            output["hidden_act"] = GUARD
            output["rope_theta"] = theta
            output["rope_scaling"] = {"rope_type": GUARD}
            output["rope_parameters"] = {"rope_type": GUARD, "rope_theta": theta}
        return output
