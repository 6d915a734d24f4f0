"""What an installed mlx-lm does with converted folders of every family: refuses, runs them rightly, or runs the base.

    python tests/peers/mlx_refusals.py [FAMILY,...]
    PYTHONPATH=FOLDER python tests/peers/mlx_refusals.py    # FOLDER: pip install --no-deps --target FOLDER mlx-lm==...

Each tiny folder is loaded as it was written, without its file of code, and without the key that names that file; with
trust, and without it where mlx-lm knows the word. A folder that loads reads a prompt of 92 tokens, and its
log-probabilities are held against those of transformers. The exit status is 1 where others come out.
"""

import inspect
import json
import logging
import shutil
import sys
import tempfile
import warnings
from collections import defaultdict
from pathlib import Path

import mlx.core as mx
import mlx_lm
import torch
import transformers
from mlx_lm.utils import load_model

from ropext.converter import mlx_code
from ropext.converter.checkpoint.families import supported
from tests.helpers import mlx_folder, tiny, zoo

LENGTH = 92
IDS = tiny.tokens(LENGTH)
ASKS = "trust_remote_code" in inspect.signature(load_model).parameters
TRUST = ({}, {"trust_remote_code": True}) if ASKS else ({},)
STATES = ("as written", "without its file", "without model_file")


def changed(folder, state):
    """Take from a folder what a copy may have lost."""
    if state == "without its file":
        (folder / mlx_code.NAME).unlink(missing_ok=True)
    if state == "without model_file":
        config = json.loads((folder / "config.json").read_text())
        config.pop("model_file", None)
        (folder / "config.json").write_text(json.dumps(config))


def outcome(folder, trust, expected):
    """Load a folder and read the prompt."""
    try:
        model = load_model(folder, **trust)[0]
        found = mlx_folder.log_probabilities(model(mx.array(IDS.numpy())))[0]
    except (Exception, SystemExit) as error:  # mlx-lm's OLMo ends the process where a package lacks
        return f"refused: {type(error).__name__}"
    off = float((found - expected).abs().max())
    return "right" if off < 5e-4 else "OTHERWISE"


def outcomes(family, folders):
    """Yield the case, what was done to its folder, how it was loaded, and what came out."""
    for case in ("self_extend", "yarn"):
        written = folders / case
        try:
            config = mlx_folder.write(family, case, written)
            expected = mlx_folder.fed(mlx_folder.reference(family, config), IDS, [LENGTH])
        except Exception as error:
            yield case, "not made", type(error).__name__, ""
            continue
        for state in STATES:
            folder = folders / f"{case}, {state}"
            shutil.copytree(written, folder, symlinks=True)
            changed(folder, state)
            for trust in TRUST:
                how = "trust" if trust else "no trust" if ASKS else "trust is not asked for"
                yield case, state, how, outcome(folder, trust, expected)


@torch.no_grad()
def main():
    told = defaultdict(list)
    for family in filter(zoo.available, sys.argv[1].split(",") if sys.argv[1:] else supported()):
        with tempfile.TemporaryDirectory() as name:
            for case, *key in outcomes(family, Path(name)):
                told[tuple(key)].append(f"{family} {case}")
    print(f"mlx-lm {mlx_lm.__version__}")
    for (state, how, said), cases in told.items():
        print(f"{state}, {how}: {len(cases)} {said}" + (f": {', '.join(cases)}" if said in ("OTHERWISE", "") else ""))
    return int(any(said == "OTHERWISE" for _, _, said in told))


if __name__ == "__main__":
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    transformers.utils.logging.disable_progress_bar()
    sys.exit(main())
