"""The frequencies that a stock model would have, of its rotary module alone."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from transformers import CONFIG_MAPPING

from ropext.converter.checkpoint.families import FAMILIES

__all__ = ["stock_inv_freq"]


def stock_inv_freq(config: dict[str, Any]) -> list[float]:
    """Return the frequencies of the full layers, radians per token [pairs].

    Args:
        config: a `config.json`, as transformers would read it from a file.
    """
    read = CONFIG_MAPPING[config["model_type"]].from_dict(dict(config))
    text = read.get_text_config()
    family = FAMILIES[config["model_type"] if text is read else text.model_type]
    module = import_module(family.stock_module if not family.inside else FAMILIES[family.inside].stock_module)
    (made,) = {
        value
        for name, value in vars(module).items()
        if name.endswith("RotaryEmbedding") and not any(other in name for other in ("Vision", "Audio"))
    }
    rotary = made(text)
    for name in ("full_attention_inv_freq", "inv_freq"):
        if hasattr(rotary, name):
            return getattr(rotary, name).tolist()  # type: ignore[no-any-return]
    raise AttributeError(f"{made.__name__} has no frequencies")
