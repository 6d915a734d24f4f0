"""The files of a folder that loading would use, by their names.

`test_loaded_files.py` holds them to those that transformers opens, and to all names that it looks for.
"""

from __future__ import annotations

from ropext.converter.checkpoint.read import INDEX
from ropext.converter.checkpoint.roles import role_of
from ropext.converter.files.contents import matches
from ropext.converter.names import CARD, CONFIG

__all__ = ["is_carried", "is_loaded"]

_LOADED = (
    *("*.py", "*.py[cdo]", "*.pyz", "*.so", "*.so.*", "*.dll", "*.pyd", "*.dylib"),
    *("*.safetensors", "*.index.json", "*.bin", "*.pt", "*.pth", "*.ckpt*", "*.h5", "*.msgpack", "*.pkl", "*.pickle"),
    *("adapter_*", "*config*.json", "modules.json", "params.json", "tekken.json"),
    *("*tokenizer*", "added_tokens*", "special_tokens*", "vocab*", "merges*", "*.model", "*.tiktoken", "*.spm"),
    *("*.jinja", "chat_template*", "*processor*.json", "feature_extractor*", "custom_generate", "requirements.txt"),
)
"""Names, wherever in the folder. A weight's name in an index or a configuration may be any; those are refused there."""

_ROLES = ("config", "tokenizer", "generation", "quantization")


def is_loaded(path: str) -> bool:
    """Whether transformers, or what it calls, would read a file of that name."""
    parts = path.split("/")
    return role_of(path) in _ROLES or any(matches(part, _LOADED) for part in parts)


def is_carried(path: str) -> bool:
    """Whether a conversion can have put a file of that name there."""
    if path in (CONFIG, CARD, INDEX) or path.endswith((".safetensors", ".py")):
        return True
    return role_of(path) != "other"
