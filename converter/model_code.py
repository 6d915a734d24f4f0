"""The model code that ropext writes into a checkpoint, read as text and never imported.

The files of `modeling/` are copied as they are, those that the method needs and no others. The entry file and the
configuration's are Llama's with the names of another family and method.
"""

from __future__ import annotations

import ast
import hashlib
import re
from functools import lru_cache
from importlib import resources
from threading import Lock

from ropext.converter import __version__
from ropext.converter.checkpoint.families import family_of
from ropext.converter.checkpoint.family import Family

from . import mlx_code
from .errors import RopextError
from .names import CODE_LICENSE

__all__ = [
    "auto_map",
    "code",
    "configuration",
    "entry",
    "license_text",
    "method_class",
    "sha256",
    "under_version",
]

_PACKAGE = "ropext.modeling"
_ENTRY, _CONFIGURATION = "modeling_llama_ext.py", "configuration_llama_ext.py"
_HEADER = "# Made by ropext {}, and licensed under the Apache License 2.0.\n"
_PARSING = Lock()
"""Of two threads that parse at the same time, one may get a SystemError (seen with Python 3.11)."""


def entry(family: str) -> str:
    """Return the name of the file that a family's `auto_map` finds its model classes in."""
    return f"modeling_{family}_ext.py"


def configuration(family: str) -> str:
    """Return the name of the file that a family's `auto_map` finds its configuration class in."""
    return f"configuration_{family}_ext.py"


@lru_cache(maxsize=256)
def code(family: str, method: str) -> dict[str, bytes]:
    """Make the files of code of a checkpoint.

    Args:
        family: a `model_type`.
        method: a method's name.

    Returns:
        File contents by name, the entry file first, that of mlx-lm last where it can run the checkpoint.

    Raises:
        RopextError: ropext is not installed whole, or has no such family.
    """
    row = family_of(family)
    configuration_text = _renamed(_read(_CONFIGURATION), row).replace('"dpe"', f'"{method}"')
    siblings = _siblings_of([f"rope_ext_{method}", _attachment(method), "rope_ext_model"])
    named = {name: text.encode() for name, text in siblings.items() if not name.startswith("modeling_")}
    made = {
        entry(family): _entry(row, method, [*siblings]).encode(),
        configuration(family): configuration_text.encode(),
        **named,
        **mlx_code.files(family, method),
    }
    return {name: _HEADER.format(__version__).encode() + text for name, text in made.items()}


def under_version(family: str, method: str, version: str) -> dict[str, bytes]:
    """Return this ropext's code under the header that another version writes above its own.

    Args:
        family: a `model_type`.
        method: a method's name.
        version: of that ropext.
    """
    headers = (_HEADER.format(each).encode() for each in (__version__, version))
    own, other = headers
    return {name: other + data.removeprefix(own) for name, data in code(family, method).items()}


def license_text() -> bytes:
    """Return the terms of the code, as they are shipped beside it."""
    return resources.files(_PACKAGE).joinpath(CODE_LICENSE).read_bytes()


def auto_map(family: str) -> dict[str, str]:
    """Return the `auto_map` of a family: every Auto class that loads its stock checkpoints.

    Args:
        family: a `model_type`.
    """
    row = family_of(family)
    modeling, config = (name.removesuffix(".py") for name in (entry(family), configuration(family)))
    found = {"AutoConfig": f"{config}.{row.own_class('Config')}", "AutoModel": f"{modeling}.{row.own_class('Model')}"}
    for auto, ending in row.auto_classes.items():
        found[auto] = f"{modeling}.{row.own_class(ending)}"
    return dict(sorted(found.items()))


def method_class(method: str) -> str:
    """Return the name of a method's shipped class.

    Args:
        method: its name, such as `self_extend`.
    """
    return "".join(word.capitalize() for word in method.split("_"))


def sha256(data: bytes) -> str:
    """Return the SHA-256 digest in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def _attachment(method: str) -> str:
    """Return the sibling that attaches a method to a decoder: of those that change attention, or frequencies alone."""
    frequencies = "rope_ext_frequencies"
    return frequencies if f"{frequencies}.py" in _siblings_of([f"rope_ext_{method}"]) else "rope_ext_contacts"


def _entry(row: Family, method: str, siblings: list[str]) -> str:
    """Return the entry file of a family and a method."""
    text = _renamed(_read(_ENTRY), row)
    text = text.replace("from .rope_ext_dpe import Dpe", f"from .rope_ext_{method} import {method_class(method)}")
    text = text.replace("= Dpe, Attachment", f"= {method_class(method)}, Attachment")
    if _attachment(method) == "rope_ext_frequencies":
        text = text.replace("rope_ext_contacts import Attachment", "rope_ext_frequencies import Attachment")
    imported = _imported(text)
    others = [name for name in siblings if name.removesuffix(".py") not in imported]
    needed = [line for line in text.splitlines() if line.startswith("from .")]
    # Up to transformers 5.9 the loader copies only what this file imports.
    needed += [f"from .{name.removesuffix('.py')} import {_public(_read(name))}  # noqa: F401" for name in others]
    first, last = (text.index(line) for line in (needed[0], "from .rope_ext_model"))
    end = text.index("\n", last)
    return text[:first] + "\n".join(sorted(needed)) + text[end:]


def _renamed(text: str, row: Family) -> str:
    """Return one of Llama's files with the names of another family."""
    package, module = row.stock_module.removeprefix("transformers.models.").split(".")
    text = text.replace(
        "transformers.models.llama import modeling_llama", f"transformers.models.{package} import {module}"
    )
    text = re.sub(r"\bmodeling_llama\.LlamaModel\b", f"{module}.{row.stock_model}", text)
    text = re.sub(r"\bmodeling_llama\.LlamaForCausalLM\b", f"{module}.{row.stock_class}", text)
    text = re.sub(r"\bmodeling_llama\b", module, text)
    text = text.replace(
        "transformers.models.llama.configuration_llama import LlamaConfig",
        f"{row.config_module} import {row.stock_config}",
    )
    text = re.sub(r"(?<!RopeExt)\bLlamaConfig\b", row.stock_config, text)
    text = text.replace("configuration_llama_ext", f"configuration_{row.model_type}_ext")
    ending = "ForConditionalGeneration" if row.text else "ForCausalLM"
    text = text.replace("LlamaRopeExtForCausalLM", row.own_class(ending))
    return re.sub(r"\bLlama\b", row.own_stem, text.replace("LlamaRopeExt", row.own_class("")))


def _siblings_of(modules: list[str]) -> dict[str, str]:
    """Return modules and every sibling that they import, directly or through another: texts by file name."""
    found: dict[str, str] = {}
    waiting = list(modules)
    while waiting:
        name = f"{waiting.pop(0)}.py"
        if name not in found:
            found[name] = _read(name)
            waiting += _imported(found[name])
    return dict(sorted(found.items()))


@lru_cache(maxsize=64)
def _read(name: str) -> str:
    try:
        return resources.files(_PACKAGE).joinpath(name).read_text(encoding="utf-8")
    except FileNotFoundError:
        raise RopextError(f"ropext is not installed whole: {name} is missing; install it again.") from None


def _tree(source: str) -> ast.Module:
    with _PARSING:
        return ast.parse(source)


@lru_cache(maxsize=256)
def _imported(source: str) -> tuple[str, ...]:
    """Return the siblings that a file imports, all of them at its top."""
    nodes = _tree(source).body
    return tuple(str(node.module) for node in nodes if isinstance(node, ast.ImportFrom) and node.level == 1)


@lru_cache(maxsize=256)
def _public(source: str) -> str:
    """Return the name of a class or function of a module."""
    nodes = _tree(source).body
    names = [node.name for node in nodes if isinstance(node, ast.ClassDef | ast.FunctionDef)]
    return next(name for name in names if not name.startswith("_"))
