"""Profiles, against their oracle, what is said of them elsewhere, and transformers."""

from dataclasses import replace
from math import log, pi

import numpy as np
import pytest

from ropext.converter.checkpoint.rope import float32, plain_inv_freq
from ropext.converter.errors import RopextError
from ropext.converter.methods.registry import bake, spell
from ropext.converter.presets.bound import rope_bound
from ropext.converter.presets.fit import preset_faults
from tests.helpers.presets import TINY, example
from tests.helpers.scaled_rope import inv_freq_of_transformers
from tests.reference import profile

LLAMA2 = replace(TINY, head_dim=128, trained_length=4096, rope_theta=10000.0)
LLAMA3 = replace(TINY, head_dim=128, trained_length=8192, rope_theta=500000.0)
SHAPES = ["uniform", "progressive", "tail", "clip"]


def preset(facts, factor, method="profile", **parameters):
    window = facts.trained_length
    windows = {"initial_window": window, "target_window": int(window * factor)}
    return replace(example("original"), method=method, parameters=parameters, **windows)


def baked(facts, factor, **parameters):
    return bake(preset(facts, factor, **parameters), facts, plain_inv_freq(facts.rope_theta, facts.rotary_dim))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("factor", [2.0, 16.0])
@pytest.mark.parametrize("facts", [LLAMA2, LLAMA3], ids=["llama2", "llama3"])
def test_each_shape_is_a_literal_reading_of_its_formula(facts, factor, shape):
    plain = np.array(plain_inv_freq(facts.rope_theta, 128))
    given = {} if shape == "clip" else {"scaling_factor": factor}
    expected = plain * profile.factors(plain, facts.trained_length, shape, **given)
    found = baked(facts, factor, shape=shape).inv_freq
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-15)
    assert found == [float32(each) for each in found]


@pytest.mark.parametrize(
    ("facts", "factor", "shape", "expected"),
    [
        (LLAMA2, 32, "progressive", 27_436),
        (LLAMA2, 32, "yarn", 25_500),
        (LLAMA3, 16, "yarn", 199_000),
        (LLAMA3, 16, "progressive", 200_000),
        (LLAMA3, 16, "uniform", 223_000),
        (LLAMA3, 16, "tail", 151_000),
    ],
)
def test_the_bounds_are_those_known(facts, factor, shape, expected):
    found = rope_bound(baked(facts, factor, shape=shape).inv_freq, 1_000_000)
    assert found == expected if expected == 27_436 else found == pytest.approx(expected, abs=500)


def test_the_bound_of_the_base_is_the_one_known():
    assert rope_bound(plain_inv_freq(10000.0, 128), 10_000) == 1_707
    assert rope_bound(plain_inv_freq(10000.0, 128), 1_707) is None


def test_yarn_by_either_name_is_one_thing():
    by_shape = baked(LLAMA3, 4.0, shape="yarn")
    of_method = preset(LLAMA3, 4.0, method="yarn", beta_fast=32, beta_slow=1, truncate=True)
    expected = bake(of_method, LLAMA3, plain_inv_freq(500000.0, 128))
    assert by_shape.inv_freq == expected.inv_freq
    assert by_shape.parameters["attention_factor"] == expected.parameters["attention_factor"]
    assert spell(preset(LLAMA3, 4.0, shape="yarn"), LLAMA3, by_shape) == spell(of_method, LLAMA3, expected)


def test_yarn_does_not_go_on_top_of_a_scaled_base():
    scaled = replace(LLAMA3, rope_type="llama3")
    with pytest.raises(RopextError, match="shape yarn does not go on top of rope_type llama3"):
        bake(preset(scaled, 4.0, shape="yarn"), scaled, plain_inv_freq(500000.0, 128))
    bake(preset(scaled, 4.0, shape="tail"), scaled, plain_inv_freq(500000.0, 128))


def test_a_list_is_taken_as_it_is():
    divisors = [1 + pair / 10 for pair in range(64)]
    found = baked(LLAMA2, 4.0, shape="list", divisors=divisors)
    plain = plain_inv_freq(10000.0, 128)
    np.testing.assert_allclose(found.inv_freq, np.array(plain) / divisors, rtol=1e-6)
    assert found.parameters == {"shape": "list", "attention_factor": 1.0}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("attention_factor", [None, 1.0, 1.3])
def test_stock_keys_say_the_same_also_to_a_runtime_that_derives_the_attention_factor(shape, attention_factor):
    given = {} if attention_factor is None else {"attention_factor": attention_factor}
    found = baked(LLAMA3, 16.0, shape=shape, **given)
    rope = spell(preset(LLAMA3, 16.0, shape=shape, **given), LLAMA3, found)
    stock, factor = inv_freq_of_transformers(rope.theta, 128, rope.length, rope.scaling)
    np.testing.assert_allclose(stock, found.inv_freq, rtol=4e-7, atol=1e-16)
    assert factor == found.parameters["attention_factor"]
    original = rope.scaling["original_max_position_embeddings"]
    derived = (1 + log(rope.length / original) / log(original)) ** 0.5
    assert derived == pytest.approx(factor, abs=1e-4)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"shape": "list"}, "divisors|shape"),
        ({"shape": "tail", "divisors": [1.0]}, "divisors"),
        ({"shape": "clip", "scaling_factor": 2.0}, "no meaning for shape clip"),
        ({"shape": "tail", "beta_fast": 1, "beta_slow": 2}, "more than beta_slow"),
        ({"shape": "round"}, "round"),
    ],
)
def test_parameters_that_make_no_sense_are_refused(parameters, message, tmp_path):
    said = {"name": "p", "description": "p", "base_model": "p", "initial_window": 64, "target_window": 128}
    found = preset_faults({**said, "method": "profile", "parameters": parameters}, tmp_path)
    assert found
    assert any(part in str(found) for part in message.split("|"))


def test_turns_are_counted_in_the_initial_window():
    plain = plain_inv_freq(10000.0, 128)
    found = baked(LLAMA2, 4.0, shape="uniform").inv_freq
    for pair, frequency in enumerate(plain):
        turns = 4096 * frequency / (2 * pi)
        assert (found[pair] == frequency) == (turns > 32)
        if turns < 1:
            assert found[pair] == pytest.approx(frequency / 4, rel=1e-6)
