"""Native exports of every type, as the rotary classes of vLLM or SGLang read them, against the formula.

    python tests/peers/native_rotary.py vllm
    PYTHONPATH=FOLDER python tests/peers/native_rotary.py sglang

No GPU. Each type's tiny base is exported by each method, unscaled and on top of each scaling that bases come with, as
`python -m tools.native` does. The tables are those of `ropext probe`. `dynamic_ntk` is left out: its tables follow the
length.
SGLang need not be installed whole. FOLDER holds its unpacked wheel, and what its rotary classes import and do not need
is taken for empty. Prints what came of each type that the runtime has, and the reasons; the exit status is 1 where a
table differs.
"""

import argparse
import importlib.abc
import importlib.machinery
import logging
import re
import sys
import types
import warnings
from collections import Counter, defaultdict
from importlib import import_module
from pathlib import Path

import transformers

from ropext.converter.errors import RopextError
from ropext.converter.probe.table import EVERY, Table, Untold
from tests.helpers import native_types

FULL = "full_attention"
EMPTY = ("IPython", "cuda", "flashinfer", "orjson")
"""Packages that SGLang's rotary classes import on their way."""


class Nothing:
    """Takes every call."""

    def __init__(self, *args, **kwargs):
        pass

    def __call__(self, *args, **kwargs):
        return args[0] if args and callable(args[0]) else Nothing()

    def __getattr__(self, name):
        return Nothing()


class Empty(types.ModuleType):
    """A module with any name in it."""

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return Nothing()


class Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds an empty module for each of `EMPTY` that is not installed."""

    def find_spec(self, name, path, target=None):
        if name.partition(".")[0] in EMPTY:
            return importlib.machinery.ModuleSpec(name, self, is_package=True)
        return None

    def create_module(self, spec):
        return Empty(spec.name)

    def exec_module(self, module):
        pass


def architectures(runtime):
    """The names of the models that a runtime has."""
    if runtime == "vllm":
        return set(import_module("vllm").ModelRegistry.get_supported_archs())
    (root,) = import_module("sglang").__path__
    texts = [file.read_text() for file in Path(root).glob("srt/models/*.py")]
    return {name for text in texts for name in re.findall(r"^class (\w+)", text, re.MULTILINE)}


def outcome(config, scaling, method, reader):
    """Say what comes of one case; empty where it is none."""
    given = native_types.scaled(config, scaling)
    if given is None:
        return ""
    try:
        made = native_types.export(given, method)
    except RopextError:
        return "not written"
    try:
        tables = reader(made.config)
    except Untold as error:
        return f"refused: {error}"
    found = tables.get(FULL) or tables.get(EVERY) or next(iter(tables.values()))
    return compared(found, Table(made.inv_freq, made.attention), made)


def compared(found, wanted, made):
    """Say how a table is other than the formula."""
    turned = [w for w in wanted.inv_freq if w]
    if Table(tuple(sorted(map(abs, found.inv_freq)))).equals(Table(tuple(sorted(map(abs, wanted.inv_freq))))):
        if Table((), found.attention_factor).equals(Table((), wanted.attention_factor)):
            return "ok"
        return f"differs: queries and keys times {found.attention_factor:.4f}, not {wanted.attention_factor:.4f}"
    if len(found.inv_freq) != len(wanted.inv_freq) and len(turned) == len(wanted.inv_freq):
        return f"differs: {len(found.inv_freq)} pairs, not {len(wanted.inv_freq)}"
    return "differs: other frequencies"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runtime", choices=("vllm", "sglang"))
    parser.add_argument("--types", help="names, separated by commas [default: all]")
    asked = parser.parse_args()
    if asked.runtime == "sglang":
        sys.meta_path.append(Finder())
    reader = import_module(f"ropext.converter.probe.in_{asked.runtime}").tables
    has, count, told = architectures(asked.runtime), Counter(), defaultdict(list)
    for name in asked.types.split(",") if asked.types else native_types.names():
        config = native_types.base(name)
        if not has & set(config["architectures"]):
            told["the runtime has no such model"].append(name)
            continue
        for scaling, method in native_types.CASES:
            said = outcome(config, scaling, method, reader) if method != "dynamic_ntk" else ""
            count[said.partition(":")[0]] += bool(said)
            if said not in ("", "ok", "not written"):
                told[said].append(f"{name} ({scaling}, {method})")
    for said, cases in told.items():
        print(f"{said}\n    {', '.join(cases)}")
    print(f"{asked.runtime}, transformers {transformers.__version__}: {dict(+count)}")
    return int(count["differs"] > 0)


if __name__ == "__main__":
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    sys.exit(main())
