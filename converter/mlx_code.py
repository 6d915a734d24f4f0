"""The file by which mlx-lm runs a checkpoint, read as text and never imported.

mlx-lm loads one file, so that of a family and a method is the core of `serving/mlx/` and one of its parts, joined.
"""

from __future__ import annotations

import ast
import re
from functools import lru_cache
from importlib import resources

from .errors import RopextError

__all__ = ["FAMILIES", "GUARD", "NAME", "files", "model_file", "serves"]

NAME = "mlx_rope_ext.py"
"""What `model_file` in `config.json` says."""

GUARD = "ropext: this checkpoint is not for MLX.py"
"""What it says instead where mlx-lm cannot: it fails with this text, as no such file is there.

Some of mlx-lm's classes read none of the other guards, and would run the base. A name without `.py` would be an error
without a text.
"""

FAMILIES = {
    "cohere": "cohere",
    "ernie4_5": "ernie4_5",
    "exaone4": "exaone4",
    "gemma3_text": "gemma3_text",
    "glm4": "glm4",
    "glm4_moe": "glm4_moe",
    "granite": "granite",
    "granitemoe": "granitemoe",
    "helium": "helium",
    "internlm3": "internlm3",
    "laguna": "laguna",
    "lfm2": "lfm2",
    "lfm2_moe": "lfm2_moe",
    "llama": "llama",
    "mellum": "mellum",
    "ministral3": "ministral3",
    "mistral": "llama",
    "mixtral": "mixtral",
    "nemotron": "nemotron",
    "olmo2": "olmo2",
    "olmo3": "olmo3",
    "olmoe": "olmoe",
    "phi3": "phi3",
    "qwen2": "qwen2",
    "qwen2_moe": "qwen2_moe",
    "qwen3": "qwen3",
    "qwen3_moe": "qwen3_moe",
    "seed_oss": "seed_oss",
    "smollm3": "smollm3",
    "solar_open": "solar_open",
}
"""The module of `mlx_lm.models` for each model type, where a method's attention was tried in it."""

_PACKAGE = "ropext.serving.mlx"
_PARTS = ("band", "dca", "gali", "frequencies")


def serves(model_type: str, method: str) -> bool:
    """Say whether mlx-lm can run a converted checkpoint.

    Args:
        model_type: the family's, as `config.json` names it.
        method: the method's name.
    """
    return model_type in FAMILIES and method in _parts()


def model_file(model_type: str, method: str) -> str:
    """Return what `config.json` says under `model_file`.

    Args:
        model_type: the family's, as `config.json` names it.
        method: the method's name.
    """
    return NAME if serves(model_type, method) else GUARD


@lru_cache(maxsize=256)
def files(model_type: str, method: str) -> dict[str, bytes]:
    """Make the file for mlx-lm.

    Args:
        model_type: the family's, as `config.json` names it.
        method: the method's name.

    Returns:
        The file's content by its name; nothing where mlx-lm cannot run the checkpoint.

    Raises:
        RopextError: ropext is not installed whole.
    """
    if not serves(model_type, method):
        return {}
    core = _read("mlx_rope_ext").replace("import llama as family", f"import {FAMILIES[model_type]} as family")
    core = core.replace('= 2, "llama", "dpe"', f'= 2, "{model_type}", "{method}"')
    return {NAME: _joined(core, _read(_parts()[method])).encode()}


def _joined(core: str, part: str) -> str:
    """Return one module of two, the second of which imports names of the first."""
    (core_doc, core_imports, core_code), (part_doc, part_imports, part_code) = _cut(core), _cut(part)
    own = [line for line in part_imports if not line.startswith("from .")]
    imports = sorted({*core_imports, *own}, key=lambda line: ("mlx" in line, line.startswith("from"), line))
    ours = next(index for index, line in enumerate(imports) if "mlx" in line)
    imports.insert(ours, "")
    return f'"""{core_doc}\n\n{part_doc}\n"""\n\n' + "\n".join(imports) + f"\n\n{core_code}\n\n\n{part_code}\n"


def _cut(text: str) -> tuple[str, list[str], str]:
    """Return a module's docstring, its lines of imports, and the rest."""
    found = re.fullmatch(r'"""(.*?)\n?"""\n\n((?:(?:import|from) [^\n]*\n|\n)+)(.*)', text, re.DOTALL)
    assert found is not None
    doc, imports, code = found.groups()
    return doc, [line for line in imports.splitlines() if line], code.strip()


@lru_cache(maxsize=1)
def _parts() -> dict[str, str]:
    """Return the name of the part that has each method: the keys of its `METHODS.update({...})`."""
    found: dict[object, str] = {}
    for part in _PARTS:
        last = ast.parse(_read(part)).body[-1]
        assert isinstance(last, ast.Expr)
        assert isinstance(last.value, ast.Call)
        (table,) = last.value.args
        assert isinstance(table, ast.Dict)
        found |= {key.value: part for key in table.keys if isinstance(key, ast.Constant)}
    return {str(method): part for method, part in found.items()}


def _read(name: str) -> str:
    try:
        return resources.files(_PACKAGE).joinpath(f"{name}.py").read_text(encoding="utf-8")
    except (FileNotFoundError, ModuleNotFoundError):
        raise RopextError(
            f"ropext is not installed whole: serving/mlx/{name}.py is missing; install it again."
        ) from None
