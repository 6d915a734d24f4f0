"""A part of what `python -m tools.zoo` runs: some types of each kind; `--whole` runs every method on every type."""

import inspect
from itertools import cycle, product
from pathlib import Path

import pytest
import transformers
from packaging.version import Version
from transformers import CONFIG_MAPPING, MODEL_FOR_CAUSAL_LM_MAPPING
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from tests.helpers import tiny, zoo
from tests.helpers.zoo_subject import ON_AXES, kind, specimen
from tests.helpers.zoo_uses import CASES, USES, difference
from tests.reference import stock
from tests.reference.regions import regions
from tools import zoo as command

KINDS = [
    "llama",  # pairs of halves
    "phi",  # a part of each head turns
    "glm4",  # pairs of neighbours
    "nanochat",  # the other direction
    "deepseek_v3",  # latent keys
    "gemma2",  # softcap
    "gemma3_text",  # frequencies by kind of layer
    "gemma4_text+shared",  # layers without keys of their own
    "gpt_oss",  # sinks
    "smollm3",  # layers without positions
    "qwen3_5_text",  # linear attention
    "hunyuan_v1_dense",  # a norm after the rotation
    "gemma3",  # an image sees itself
    "mistral3",  # an image in a plain row
    "qwen3_vl",  # three positions a token
]
pytestmark = pytest.mark.usefixtures("no_grad")


NOTHING_TO_EXTEND = [
    "afmoe",
    "beam",
    "cohere2",
    "cohere2_moe",
    "exaone4+hybrid",
    "exaone_moe",
    "flint",
    "jamba",
    "kolibri1",
    "lara_mini",
    "llama4_text",
    "minimax+sliding",
    "recurrent_gemma",
]
"""Layers with full attention have no positions, or there are none."""
ATTENTION_OF_THEIR_OWN = ["codegen", "falcon", "gpt_neox_japanese", "gptj"]
MORE_THAN_A_MASK = ["axk2", "deepseek_v32", "doge", "glm_moe_dsa", "hy_v4", "minimax_m3_vl_text"]
"""Keys chosen for each query, or a mask of each head's own."""
OTHERWISE = ["dbrx", "dory", "hrm_text", "modernbert-decoder", "zamba2", "zaya"]
"""Layers that run repeatedly or share their weights, or a configuration of another form."""
REFUSED = NOTHING_TO_EXTEND + ATTENTION_OF_THEIR_OWN + MORE_THAN_A_MASK + OTHERWISE
NOT_BUILT = {
    "blt": "bytes in patches: four models in one",
    "deepseek_v4": "every layer compresses its keys",
    "dots3_note": "around dots3_note_text",
    "dots3_note_text": "its layers slide or choose keys",
    "emu3": "the tokenizer of images takes minutes to build",
    "gemma3n": "around gemma3n_text",
    "gemma4_unified": "around gemma4_unified_text",
    "inkling2_text": "no rotary positions",
    "llama4": "around llama4_text",
    "mllama": "an image-text model whose text attends to images in layers of their own",
    "moshi": "speech",
    "nemotron_h": "no rotary positions",
    "phi4_multimodal": "870 million parameters whatever the configuration",
    "qwen4_exp": "around qwen4_exp_text",
    "qwen4_exp_text": "its layers are linear or choose keys",
    "roformer": "an encoder",
}
"""Types whose file speaks of rotary positions, without a row, and why."""


ROWS = Version("5.24")
"""The version whose types all have a row."""


def cells(names, whole):
    """Type, method and use: all; or each use once for each of some types, methods by turns, and a prefill of all."""
    turns = cycle(command.FEW)
    for name in names:
        axes = specimen(name).has_axes
        cases = [case for case in CASES if not axes or tiny.CASES[case].method in ON_AXES]
        uses = [use for use in USES if USES[use].composites or kind(name) is zoo]
        if whole:
            yield from product([name], cases, uses)
        else:
            yield from ((name, next(case for case in turns if case in cases), use) for use in uses)
    if not whole and Version(transformers.__version__) >= ROWS:
        others = [name for name in command.TYPES if name not in (*names, *REFUSED) and kind(name).available(name)]
        yield from product(others, ["self_extend"], ["prefill"])


def pytest_generate_tests(metafunc):
    whole = metafunc.config.getoption("--whole")
    names = [name for name in (command.TYPES if whole else KINDS) if kind(name).available(name)]
    if "use" in metafunc.fixturenames:
        metafunc.parametrize(("name", "case", "use"), list(cells([n for n in names if n not in REFUSED], whole)))


def test_cell(name, case, use):
    made = command.line(name, case, [use])
    assert not made.refused
    assert not made.failures
    if made.cells[use].startswith("stock:"):
        pytest.skip(f"a defect of the stock model: {made.cells[use]}")


@pytest.mark.filterwarnings("ignore::FutureWarning")  # of a stock configuration class of 4.55
@pytest.mark.parametrize("name", [name for name in REFUSED if kind(name).available(name)])
def test_refused(name):
    if name == "zamba2" and Version(transformers.__version__) < Version("5.1"):
        pytest.skip("its configuration class takes other keys here")
    assert command.line(name, "self_extend", []).refused


@pytest.mark.parametrize("name", [name for name in KINDS if kind(name).available(name)])
def test_the_oracle_with_exact_distances_is_the_stock_model(name):
    of = specimen(name)
    inputs = of.inputs()
    actual = stock.logits(of.wide, lambda setting: regions(tiny.CASES["original"], setting), **inputs)
    # By a forward without a cache, as the oracle's: transformers 5.0 answers otherwise with one (Qwen3-VL).
    assert difference(actual, of.wide(**inputs, use_cache=False).logits[0]) < 2e-4


@pytest.mark.skipif(Version(transformers.__version__) < ROWS, reason="the rows are those of 5.24")
def test_every_rotary_type_has_a_row():
    rotary = {name for name in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES if name not in NOT_BUILT and is_rotary(name)}
    assert rotary <= {name.partition("+")[0] for name in command.TYPES}


def is_rotary(model_type):
    """Whether the file of a type's model speaks of rotary positions."""
    made = MODEL_FOR_CAUSAL_LM_MAPPING[CONFIG_MAPPING[model_type]]
    return "rotary" in Path(inspect.getfile(made)).read_text().lower()
