"""Every way to spell RoPE, for every family: what is computed without torch, held to the stock classes.

    python -m tools.spellings
    python -m tools.spellings --load

print what differs and how many agree. A spelling that stock classes load has to come out as they read it, or be
refused; one that they cannot load says nothing. With `--load` each is converted, and both models are loaded and run.
"""

from __future__ import annotations

import argparse
import copy
import json
import sys
import warnings
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import transformers
from packaging.version import Version

from ropext.converter.checkpoint.description import describe
from ropext.converter.checkpoint.families import FAMILIES
from ropext.converter.checkpoint.family import Family
from ropext.converter.errors import RopextError
from tests.helpers import zoo, zoo_composites
from tests.helpers.stock_rope import stock_inv_freq

Json = dict[str, Any]
INSTALLED = Version(transformers.__version__)
THETA = 40_000.0
LOCAL = 1234.0
"""The base of layers with a window, where they have their own."""
ORIGINAL = {"original_max_position_embeddings": 128}
LLAMA3 = {"factor": 4.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, **ORIGINAL}
YARN = {"factor": 4.0, **ORIGINAL}
SCALINGS: dict[str, Json] = {
    "default": {"rope_type": "default"},
    "linear": {"rope_type": "linear", "factor": 4.0},
    "llama3": {"rope_type": "llama3", **LLAMA3},
    "yarn": {"rope_type": "yarn", **YARN},
    "yarn, finer": {"rope_type": "yarn", "beta_fast": 24.0, "beta_slow": 2.0, "truncate": False, **YARN},
    "yarn, mscale": {"rope_type": "yarn", "mscale": 1.0, "mscale_all_dim": 0.8, **YARN},
    "yarn, its length beside": {"rope_type": "yarn", "factor": 4.0},
    "longrope": {"rope_type": "longrope", "factor": 4.0, **ORIGINAL},
    "dynamic": {"rope_type": "dynamic", "factor": 4.0},
}
ROPE_KEYS = ("rope_theta", "rope_scaling", "rope_parameters", "partial_rotary_factor", "rotary_emb_base", "rotary_pct")
AXES = ("mrope_section", "mrope_interleaved")
"""Keys that image-text models have beside every scaling."""
DERIVED = ("layer_rope_theta", "rope_local_base_freq", "original_max_position_embeddings")
TOLERANCE = 2.5e-7


class Case(NamedTuple):
    """A configuration, and whether it is spelled as published ones are."""

    name: str
    config: Json
    plain: bool


class Base(NamedTuple):
    """A configuration without RoPE's keys.

    Attributes:
        name: of its type.
        whole: the configuration.
        text: the part of it that is the text model's.
        axes: what its rotary settings say of axes.
    """

    name: str
    whole: Json
    text: Json
    axes: Json


def bases(types: Collection[str] = ()) -> Iterator[Base]:
    """Yield one of each type that is converted, and variants; or of some types only."""
    for source, names in ((zoo, zoo.ROWS), (zoo_composites, zoo_composites.TEXT)):
        for name in [name for name in names if not types or name in types]:
            family = FAMILIES.get(name.partition("+")[0])
            if family is None or family.refused or not source.available(name) or Version(family.since) > INSTALLED:
                continue
            whole = json.loads(source.config(name).to_json_string())
            text = whole["text_config"] if family.text else whole
            rope = text.get("rope_parameters") or text.get("rope_scaling") or {}
            axes = {key: rope[key] for key in AXES if key in rope}
            for key in (*ROPE_KEYS, *DERIVED):
                text.pop(key, None)
            yield Base(name, whole, text, axes)
            if name == "qwen2_5_vl":  # as it was published
                flat = {**text, **{key: value for key, value in whole.items() if key != "text_config"}}
                yield Base(f"{name}, flat", flat, flat, axes)


def spellings(family: Family, scaling: Json) -> Iterator[tuple[str, Json, bool]]:
    """Yield RoPE's keys in every spelling, and whether each is one that published configurations have."""
    theta, local = {family.theta_key: THETA}, {}
    if family.per_type == "legacy" and family.theta is not None:
        local = {"rope_local_base_freq": LOCAL}
    kind, numbers = scaling["rope_type"], {key: value for key, value in scaling.items() if key != "rope_type"}
    old, new = {"rope_scaling": dict(scaling)}, {"rope_parameters": {**scaling, "rope_theta": THETA}}
    if family.per_type:
        others = {"sliding_attention": {"rope_type": "default", "rope_theta": LOCAL}}
        new = {"rope_parameters": {"full_attention": new["rope_parameters"], **others}}
    if kind == "default" and not numbers:
        old = {}
    if kind == "default" and numbers:
        yield "4, mrope", {**theta, "rope_scaling": {"type": "mrope", **numbers}}, True
    yield "4", {**theta, **old}, True
    yield "5", new, True
    yield "4 and 5", {**theta, **local, **old, **new}, True
    if local:
        yield "4 and 5, a window's theta in 5", {**theta, **old, **new}, False
    if old:
        yield "4, type", {**theta, "rope_scaling": {"type": kind, **numbers}}, True
        yield "4, theta inside", {"rope_scaling": {**scaling, "rope_theta": THETA}}, False
        yield "4, no theta", old, False
        yield "4 and 5, no theta in 4", {**old, **new}, False
        yield "4, default in 5", {**theta, **old, "rope_parameters": {"rope_type": "default"}}, False
        yield "5, default in 4", {**theta, "rope_scaling": {"rope_type": "default"}, **new}, False
        yield "4, its length twice", {**theta, **old, "original_max_position_embeddings": 64}, False
        yield "5, its length twice", {**new, "original_max_position_embeddings": 64}, False
    yield "5, flat or nested the other way", _other_way(new), False
    yield "5, no theta", {"rope_parameters": _without_theta(new["rope_parameters"])}, False
    yield "5, another theta in 4", {"rope_theta": 77_777.0, **new}, False
    yield "5, a part of each head", _with_part(new), False
    yield "4, a part of each head", {**theta, **old, "partial_rotary_factor": 0.5}, False
    yield "4, a part of each head inside", {**theta, "rope_scaling": {**scaling, "partial_rotary_factor": 0.5}}, False


def _other_way(new: Json) -> Json:
    parameters = new["rope_parameters"]
    return {"rope_parameters": parameters.get("full_attention") or {"full_attention": parameters}}


def _without_theta(parameters: Json) -> Json:
    full = parameters.get("full_attention", parameters)
    rest = {key: value for key, value in full.items() if key != "rope_theta"}
    return {**parameters, "full_attention": rest} if "full_attention" in parameters else rest


def _with_part(new: Json) -> Json:
    changed = copy.deepcopy(new)
    parameters = changed["rope_parameters"]
    parameters.get("full_attention", parameters)["partial_rotary_factor"] = 0.5
    return changed


def cases(scalings: Collection[str] = SCALINGS, types: Collection[str] = ()) -> Iterator[Case]:
    """Yield every configuration with some scalings, of all types or some."""
    for name, whole, text, axes in bases(types):
        outer = FAMILIES[whole["model_type"]]
        family = FAMILIES[outer.text[0] if text is whole else text["model_type"]] if outer.text else outer
        for scaling_name in scalings:
            scaling = {**_sized(SCALINGS[scaling_name], family), **axes}
            for spelling, keys, plain in spellings(family, scaling):
                if zoo.V4 and (spelling.startswith("5") or (scaling_name == "default" and family.rope)):
                    continue  # transformers 4 does not read it, or goes by a default that is not none
                text.update(copy.deepcopy(keys))
                plain = plain and scaling_name != "dynamic"
                yield Case(f"{name}: {scaling_name}: {spelling}", copy.deepcopy(whole), plain)
                for key in keys:
                    del text[key]


def _sized(scaling: Json, family: Family) -> Json:
    """A scaling with as many factors as a tiny model of the family has pairs."""
    if scaling["rope_type"] != "longrope":
        return scaling
    pairs = 4 if family.latent else int(8 * (family.partial or 1))
    factors = [1.0 + 0.25 * pair for pair in range(pairs)]
    return {**scaling, "short_factor": factors, "long_factor": factors}


def outcome(case: Case) -> tuple[str, str]:
    """Return how a configuration comes out: equal, refused, differs or stock cannot, and details."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            stock = stock_inv_freq(copy.deepcopy(case.config))
    except Exception as error:  # whatever stock classes die of
        return "stock cannot", f"{type(error).__name__}: {error}"
    try:
        found = list(describe(case.config).inv_freq)
    except RopextError as error:
        return "refused", str(error)
    worst = max((abs(a - b) / b if b else abs(a) for a, b in zip(found, stock, strict=False)), default=1.0)
    if len(found) != len(stock) or worst > TOLERANCE:
        return "differs", f"{found[:4]} and {stock[:4]}"
    return "equal", ""


def _asked() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--load", action="store_true", help="convert and load, instead of only reading config.json")
    parser.add_argument(
        "--scaling", action="append", choices=SCALINGS, help="may be given several times [default: all]"
    )
    parser.add_argument("--types", help="some types, separated by commas [default: all]")
    parser.add_argument("--plain", action="store_true", help="only spellings that published configurations have")
    parser.add_argument("-v", "--verbose", action="store_true", help="print every outcome")
    return parser.parse_args()


def main() -> int:
    """Print what differs, and how many come out which way."""
    asked = _asked()
    types = asked.types.split(",") if asked.types else ()
    counted: Counter[str] = Counter()
    with _way(asked.load) as come_out:
        for case in cases(asked.scaling or SCALINGS, types):
            if asked.plain and not case.plain:
                continue
            result, details = come_out(case)
            counted[result] += 1
            if result == "differs" or (result == "refused" and case.plain) or asked.verbose:
                print(f"{result}: {case.name}: {details}", flush=True)
    print(f"transformers {INSTALLED}: {sum(counted.values())} configurations: {dict(counted)}")
    return int(counted["differs"] > 0)


@contextmanager
def _way(load: bool) -> Iterator[Callable[[Case], tuple[str, str]]]:
    """How outcomes are found: by what is read of `config.json` alone, or by loading."""
    if not load:
        yield outcome
        return
    from tools.spellings_loaded import loading

    with loading() as found:
        yield found.outcome


if __name__ == "__main__":
    sys.exit(main())
