"""The classes that a conversion ships, made in memory; imports torch and transformers."""

from __future__ import annotations

import atexit
import shutil
import sys
import tempfile
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

from . import model_code

__all__ = ["configuration_class", "decoded", "model_class", "parts_of"]

_PACKAGE = "ropext.modeling"


def configuration_class(family: str) -> Any:
    """Return the shipped configuration class of a family.

    Args:
        family: a `model_type`.
    """
    name = model_code.auto_map(family)["AutoConfig"].rpartition(".")[2]
    return getattr(_made(family, "original", model_code.configuration(family)), name)


def decoded(value: Any) -> Any:
    """Return a value of a `config.json` with the numbers that JSON does not have and transformers 5 writes otherwise.

    Args:
        value: of a key, or the whole.
    """
    if isinstance(value, dict):
        if list(value) == ["__float__"]:
            return float(value["__float__"])
        return {key: decoded(entry) for key, entry in value.items()}
    return [decoded(entry) for entry in value] if isinstance(value, list) else value


def model_class(family: str, method: str, auto: str = "AutoModelForCausalLM") -> Any:
    """Return a shipped model class with a method.

    Args:
        family: a `model_type`.
        method: a method's name.
        auto: the Auto class that would load it.
    """
    name = model_code.auto_map(family)[auto].rpartition(".")[2]
    return getattr(_made(family, method, model_code.entry(family)), name)


def parts_of(method: str) -> tuple[Any, Any]:
    """Return the class of a method, and that of its attachment to a decoder."""
    frequencies = import_module(f"{_PACKAGE}.rope_ext_frequencies")
    kind = getattr(import_module(f"{_PACKAGE}.rope_ext_{method}"), model_code.method_class(method))
    if issubclass(kind, frequencies.FrequencyMethod):
        return kind, frequencies.Attachment
    return kind, import_module(f"{_PACKAGE}.rope_ext_contacts").Attachment


@lru_cache(maxsize=512)
def _made(family: str, method: str, file: str) -> ModuleType:
    """Run a generated file as a module beside those of `modeling/`."""
    if file == model_code.configuration(family):
        name = f"{_PACKAGE}.{file.removesuffix('.py')}"
    else:
        _made(family, "original", model_code.configuration(family))
        name = f"{_PACKAGE}.{method}_{file.removesuffix('.py')}"
    module = ModuleType(name)
    module.__package__ = _PACKAGE
    # Some versions of transformers read the file of a model's class.
    module.__file__ = str(_folder() / f"{name.rpartition('.')[2]}.py")
    text = model_code.code(family, method)[file]
    Path(module.__file__).write_bytes(text)
    sys.modules[name] = module
    exec(compile(text, module.__file__, "exec"), vars(module))
    return module


@lru_cache(maxsize=1)
def _folder() -> Path:
    """Return a folder that lasts as long as the process."""
    folder = Path(tempfile.mkdtemp(prefix="ropext-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder
