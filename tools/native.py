"""Native exports of every rotary type, held to the formula: `python -m tools.native`.

Each type's tiny base is exported by each frequency method, unscaled and on top of each scaling that bases come with.
The installed transformers loads the `config.json`, and what its layers do to queries and keys is compared with the
formula: layer by layer, with the factor on attention, and axis by axis where there are several. The exit status is 1
where one differs in silence.

The same files on another version: `--save bases.json` by the newest, `--bases bases.json` by the older one.
`--results FILE` keeps what came out, and `--page docs/native-types.md FILE...` makes the page of several versions.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")

import torch
import transformers

from tests.helpers import native_types

Results = dict[str, dict[str, str]]
"""What came of each case, `scaling, method`, by type."""


def collect(bases: dict[str, dict[str, Any]]) -> Results:
    """Run every case of every type that the installed transformers has."""
    here, found = set(native_types.names()), Results()
    for name, config in bases.items():
        if name not in here:
            found[name] = {}
            print(f"{name:24} absent", flush=True)
            continue
        cases = {f"{on}, {method}": native_types.outcome(config, on, method) for on, method in native_types.CASES}
        found[name] = {case: said for case, said in cases.items() if said}
        for said, count in Counter(found[name].values()).items():
            print(f"{name:24} {count:2} {said[:200]}", flush=True)
    return found


def kind(said: str) -> str:
    """The first words of an outcome."""
    return said.partition(":")[0]


# The page


def page(results: dict[str, Results]) -> str:
    """Markdown with a row for each type, of several versions."""
    versions = sorted(results, key=lambda text: [int(part) for part in text.split(".")], reverse=True)
    lines = [HEAD, f"| type | {' | '.join(versions)} |", "|---" * (len(versions) + 1) + "|"]
    notes: dict[str, int] = {}
    for name in results[versions[0]]:
        cells = [cell(results[version].get(name), notes) for version in versions]
        lines.append(f"| `{name.replace('+', '` with `', 1)}` | {' | '.join(cells)} |")
    lines += ["", "Reasons:", "", *(f"{number}. {reason}" for reason, number in notes.items())]
    return "\n".join(lines) + "\n"


HEAD = """# Native exports, type by type

Made by `python -m tools.native`: a tiny random base of each rotary type, exported by `linear`, `ntk`, `dynamic_ntk`,
`yarn`, `dprope` and `profile`; and by `yarn` and `linear` on top of a base scaled by `yarn`, `llama3` or `linear`.
One `config.json`, the same to the letter, is loaded by the stock classes of each version. What its layers do to queries
and keys is then compared with the formula.

A number says how many of these exports are right. In brackets: how many are not written or not loaded, and the reasons
by their numbers below. `–`: this version does not have the type. None differs in silence, except on 5.0.0: OLMo 3,
whose class has one RoPE for all layers there, `ntk` of Bamba and `dynamic_ntk` of Qwen2.5-VL.
"""


def cell(found: dict[str, str] | None, notes: dict[str, int]) -> str:
    """What came of a type on a version; reasons are numbered."""
    if not found:
        return "–"
    right = sum(said == "ok" for said in found.values())
    others = Counter(shortened(said) for said in found.values() if said != "ok")
    if not others:
        return str(right)
    numbers = sorted({notes.setdefault(reason, len(notes) + 1) for reason in others})
    return f"{right} ({sum(others.values())}: {', '.join(map(str, numbers))})"


def shortened(said: str) -> str:
    """A reason without what is the type's own or the helper's."""
    if kind(said) == "differs":
        return "differs in silence"
    text = said.partition(": ")[2].removeprefix("--native: ")
    for start in ("config.json: ", "tiny:5: ", "tiny:6: "):
        text = text.removeprefix(start)
    text = text.partition("; leave --native out")[0].partition("; dprope, linear")[0]
    return f"{kind(said)}: {text}" if not said.startswith("refused") else text


# The command


def main() -> int:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--types", help="names, separated by commas [default: all]")
    parser.add_argument("--save", type=Path, help="write the bases as the installed transformers saves them")
    parser.add_argument("--bases", type=Path, help="take the bases from such a file")
    parser.add_argument("--results", type=Path, help="write what came out")
    parser.add_argument("--page", nargs="+", type=Path, metavar=("PAGE", "RESULTS"), help="make a page of results")
    asked = parser.parse_args()
    if asked.page:
        target, *files = asked.page
        read = [json.loads(file.read_text()) for file in files]
        target.write_text(page({each["transformers"]: each["results"] for each in read}))
        return 0
    bases = json.loads(asked.bases.read_text()) if asked.bases else made_bases()
    if asked.save:
        asked.save.write_text(json.dumps(bases))
    if asked.types:
        bases = {name: bases[name] for name in asked.types.split(",")}
    found = collect(bases)
    if asked.results:
        asked.results.write_text(json.dumps({"transformers": transformers.__version__, "results": found}, indent=1))
    count = Counter(kind(said) for cases in found.values() for said in cases.values())
    print(f"transformers {transformers.__version__}: {dict(count)}")
    return int(count["differs"] > 0)


def made_bases() -> dict[str, dict[str, Any]]:
    """The bases as the installed transformers saves them."""
    return {name: native_types.base(name) for name in native_types.names()}


if __name__ == "__main__":
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    sys.exit(main())
