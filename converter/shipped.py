"""The model code that ropext copies into a checkpoint, read as text and never imported."""

from __future__ import annotations

import ast
import hashlib
from importlib import resources
from threading import Lock
from typing import Any

from .errors import RopextError

__all__ = ["auto_map", "code", "digest", "entry", "extended_class", "families", "sha256"]

_PACKAGE = "ropext.modeling"
_PREFIX, _SUFFIX = "modeling_", "_ext.py"
_MARK = "RopeExt"
_PARSING = Lock()
"""Of two threads that parse at the same time, one may get a SystemError (seen with Python 3.11)."""

# The end of a class's name says under which Auto class transformers finds it; longer endings first.
_AUTO_CLASSES = {
    "ForSequenceClassification": "AutoModelForSequenceClassification",
    "ForTokenClassification": "AutoModelForTokenClassification",
    "ForQuestionAnswering": "AutoModelForQuestionAnswering",
    "ForCausalLM": "AutoModelForCausalLM",
    "Config": "AutoConfig",
    "Model": "AutoModel",
}


def families() -> list[str]:
    """List the `model_type`s that can be converted: those with a `modeling_<model_type>_ext.py`."""
    names = (file.name for file in resources.files(_PACKAGE).iterdir())
    return sorted(
        name[len(_PREFIX) : -len(_SUFFIX)] for name in names if name.startswith(_PREFIX) and name.endswith(_SUFFIX)
    )


def entry(family: str) -> str:
    """Return the name of the file that a family's `auto_map` points into."""
    return f"{_PREFIX}{family}{_SUFFIX}"


def code(family: str) -> dict[str, bytes]:
    """Read a family's entry file and every sibling that it imports, directly or through another.

    Args:
        family: a `model_type`.

    Returns:
        File contents by name, the entry file first.

    Raises:
        RopextError: a file imports a sibling that is not shipped.
    """
    found: dict[str, bytes] = {}
    waiting = [entry(family)]
    while waiting:
        name = waiting.pop(0)
        if name not in found:
            found[name] = _read(name)
            waiting += _siblings(found[name])
    return found


def auto_map(family: str) -> dict[str, str]:
    """Return the `auto_map` of a family: the public classes of its entry file, by their names' endings.

    Args:
        family: a `model_type`.
    """
    name = entry(family)
    classes = [node.name for node in _tree(_read(name)).body if isinstance(node, ast.ClassDef)]
    public = [each for each in classes if _MARK in each and not each.startswith("_")]
    found = {_auto_class(each): f"{name.removesuffix('.py')}.{each}" for each in public}
    return {auto: found[auto] for auto in sorted(filter(None, found))}


def extended_class(family: str, architecture: str) -> str:
    """Return the shipped class that takes the place of a stock one.

    Args:
        family: a `model_type`.
        architecture: the stock class, such as `LlamaForCausalLM`.

    Raises:
        RopextError: none does; it names the stock classes that can be replaced.
    """
    shipped = {reference.rpartition(".")[2] for reference in auto_map(family).values()}
    stock = {name.replace(_MARK, ""): name for name in shipped if not name.endswith("Config")}
    if architecture not in stock:
        raise RopextError(
            f"config.json: architectures: {architecture!r} cannot be extended; "
            f"of {family} there are {', '.join(sorted(stock))}."
        )
    return stock[architecture]


def digest(name: str) -> str | None:
    """Return the SHA-256 of a shipped file, or None if this ropext ships none of that name."""
    file = resources.files(_PACKAGE).joinpath(name)
    return sha256(file.read_bytes()) if file.is_file() else None


def sha256(data: bytes) -> str:
    """Return the SHA-256 digest in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def _auto_class(name: str) -> str | None:
    return next((auto for ending, auto in _AUTO_CLASSES.items() if name.endswith(ending)), None)


def _read(name: str) -> bytes:
    try:
        return resources.files(_PACKAGE).joinpath(name).read_bytes()
    except FileNotFoundError:
        raise RopextError(f"ropext is not installed whole: {name} is missing; install it again.") from None


def _tree(source: bytes) -> ast.Module:
    with _PARSING:
        return ast.parse(source)


def _siblings(source: bytes) -> list[str]:
    tree: Any = ast.walk(_tree(source))
    return [f"{node.module}.py" for node in tree if isinstance(node, ast.ImportFrom) and node.level == 1]
