"""DPE: scales of groups of pairs, and the pairs that scores select."""

import base64
import json

import numpy as np
import pytest
from safetensors.numpy import save_file

from ropext.converter.errors import InvalidPreset
from ropext.converter.methods.base import Wish
from ropext.converter.methods.dpe import METHOD
from ropext.converter.methods.registry import bake
from ropext.converter.presets.fit import check_fit
from ropext.converter.presets.load import load_preset
from tests.helpers.presets import TINY, example, frequencies


def test_dpe_is_passed_through():
    baked = bake(example("dpe"), TINY, frequencies(TINY))
    assert baked.inv_freq == frequencies(TINY)
    assert baked.tables == {}
    assert baked.parameters == {
        "local_window": 16,
        "scale_factors": [2, 8, 4, 16],
        "dimension_groups": [0, 2, 4, 6, 8],
    }


def test_selection_is_packed_as_the_contract_says(tmp_path):
    scores = np.zeros((3, 4, 8), np.float32)
    scores[0, 0] = [0, 5, 5, 5, 1, 9, 0, 0]  # 9 first, then the earlier of the equal ones
    save_file({"scores": scores}, tmp_path / "scores.safetensors")
    preset = example("dpe", "top_k=3", f"dimension_scores={tmp_path}/scores.safetensors")
    baked = bake(preset, TINY, frequencies(TINY))
    table = baked.tables["selected_pairs"]
    packed = base64.b64decode(table["bits"])
    assert table["shape"] == [3, 4, 8]
    assert packed == bytes([0b00100110] + [0b00000111] * 11)
    assert "dimension_scores" not in baked.parameters
    assert baked.parameters["top_k"] == 3
    json.dumps([baked.parameters, baked.inv_freq, baked.tables])


def scores_file(path, kind):
    if kind == "garbage":
        path.write_bytes(b"no safetensors at all")
    elif kind == "another name":
        save_file({"norms": np.ones((3, 4, 8), np.float32)}, path)
    elif kind == "integers":
        save_file({"scores": np.ones((3, 4, 8), np.int32)}, path)
    elif kind == "nan":
        save_file({"scores": np.full((3, 4, 8), np.nan, np.float32)}, path)
    elif kind == "bfloat16":
        torch = pytest.importorskip("torch")
        from safetensors.torch import save_file as save

        save({"scores": torch.ones(3, 4, 8, dtype=torch.bfloat16)}, path)


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("garbage", "cannot be read"),
        ("another name", "has no tensor 'scores', only ['norms']"),
        ("integers", "scores is of type int32; write it as float32"),
        ("nan", "scores holds NaN or infinity"),
        ("bfloat16", "write"),
    ],
)
def test_scores_that_cannot_be_used(tmp_path, kind, message):
    file = tmp_path / "scores.safetensors"
    scores_file(file, kind)
    preset = example("dpe", "top_k=3", f"dimension_scores={file}")
    with pytest.raises(InvalidPreset) as caught:
        bake(preset, TINY, frequencies(TINY))
    assert message in str(caught.value)
    assert str(caught.value).startswith("--set dimension_scores: parameters.dimension_scores: ")
    assert [str(problem) for problem in check_fit(preset, TINY)] == [str(caught.value)]


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("llama3-8b-dpe", "the factors of the preset llama3-8b-dpe, published for up to 131072 tokens"),
        ("smollm2-135m-dpe", "calibrated on HuggingFaceTB/SmolLM2-135M-Instruct for up to 16384 tokens"),
    ],
)
def test_factors_are_suggested_from_a_preset_that_fits(name, found):
    preset = load_preset(name)
    suggested = METHOD.suggest(Wish(TINY, frequencies(TINY), 8192, 16384, (preset,)))
    assert suggested.parameters == preset.parameters
    assert found in suggested.why


def test_without_a_preset_calibration_is_advised():
    suggested = METHOD.suggest(Wish(TINY, frequencies(TINY), 64, 256, (load_preset("smollm2-135m-yarn"),)))
    assert suggested.parameters is None
    assert "`ropext calibrate dpe`" in suggested.why
