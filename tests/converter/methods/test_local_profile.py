"""A profile beyond a local window: what is baked, and which methods it contains."""

from dataclasses import replace

import numpy as np
import pytest

from ropext.converter.checkpoint.rope import plain_inv_freq
from ropext.converter.methods.registry import bake
from ropext.converter.presets.fit import preset_faults
from tests.helpers.presets import TINY, example
from tests.reference import local_profile, rerope

LLAMA3 = replace(TINY, head_dim=128, trained_length=8192, rope_theta=500000.0)
PLAIN = plain_inv_freq(500000.0, 128)


def baked(method, **parameters):
    windows = {"initial_window": 8192, "target_window": 32768}
    return bake(replace(example("original"), method=method, parameters=parameters, **windows), LLAMA3, PLAIN)


@pytest.mark.parametrize("shape", ["uniform", "progressive", "tail", "yarn", "clip"])
def test_the_factors_are_those_of_the_profile(shape):
    found, whole = baked("local_profile", local_window=512, shape=shape), baked("profile", shape=shape)
    assert found.inv_freq == PLAIN
    np.testing.assert_allclose(np.array(PLAIN) * found.parameters["factors"], whole.inv_freq, rtol=1e-6)
    assert found.parameters["attention_factor"] == 1.0


def test_one_factor_for_all_pairs_is_leaky_rerope():
    inv_freq, generator = np.array(plain_inv_freq(10000.0, 16)), np.random.default_rng(0)
    query, key = generator.standard_normal((2, 4, 16))
    options = {"factors": [1 / 3.5] * 8, "joined": True, "attention_factor": 1.0}
    ours = local_profile.pair_logit(inv_freq, initial_window=64, local_window=20, **options)
    leaky = rerope.pair_logit(inv_freq, initial_window=64, local_window=20, leak=3.5)
    for i, j in [(5, 0), (19, 0), (20, 0), (21, 0), (90, 3), (90, 80)]:
        np.testing.assert_allclose(ours(0, query, key, i, j), leaky(0, query, key, i, j), atol=1e-12)


def test_a_window_as_long_as_the_initial_one_is_refused(tmp_path):
    said = {"name": "p", "description": "p", "base_model": "p", "initial_window": 64, "target_window": 128}
    parameters = {"local_window": 64, "shape": "tail"}
    found = preset_faults({**said, "method": "local_profile", "parameters": parameters}, tmp_path)
    assert [each.path for each in found] == [("parameters", "local_window")]
