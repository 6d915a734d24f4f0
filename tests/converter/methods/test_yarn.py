"""YaRN, against transformers and its oracle."""

from dataclasses import replace

import numpy as np
import pytest

from ropext.converter.checkpoint.rope import attention_factor, float32, plain_inv_freq, scaled_inv_freq
from ropext.converter.methods.registry import bake, spell
from ropext.converter.methods.yarn import frequencies, frequencies_on_top, usual_attention_factor
from ropext.converter.presets.fit import check_fit
from ropext.converter.presets.load import load_preset, make_preset
from tests.helpers.presets import TINY
from tests.helpers.scaled_rope import MODELS, inv_freq_of_transformers
from tests.reference import yarn


@pytest.mark.parametrize(("theta", "head_dim", "window"), MODELS)
@pytest.mark.parametrize("factor", [2.0, 3.5, 16.0])
@pytest.mark.parametrize("options", [{}, {"beta_fast": 24.0, "beta_slow": 2.0}, {"truncate": False}], ids=str)
def test_yarn_is_that_of_transformers_and_of_the_oracle(theta, head_dim, window, factor, options):
    baked = frequencies(theta, head_dim, window, factor, **options)
    scaling = {"rope_type": "yarn", "factor": factor, "original_max_position_embeddings": window, **options}
    expected, attention_factor = inv_freq_of_transformers(theta, head_dim, round(window * factor), scaling)
    np.testing.assert_allclose(baked, expected, rtol=4e-7)
    assert usual_attention_factor(factor) == attention_factor
    naive = yarn.frequencies(theta, head_dim, window, scaling_factor=factor, **options)
    np.testing.assert_allclose(baked, naive, rtol=1e-5)


def test_what_is_baked_is_exact_in_float32():
    baked = frequencies(1e4, 128, 4096, 3.7)
    assert baked == [float32(frequency) for frequency in baked]


def test_bakes_a_published_preset():
    facts = replace(TINY, head_dim=128, trained_length=8192, rope_theta=500000.0)
    baked = bake(load_preset("llama3-8b-yarn-8k-32k"), facts, plain_inv_freq(500000.0, 128))
    assert baked.parameters["scaling_factor"] == 4.0
    assert baked.inv_freq[0] == 1.0
    assert baked.inv_freq[-1] == pytest.approx(plain_inv_freq(500000.0, 128)[-1] / 4, rel=1e-6)


@pytest.mark.parametrize(("theta", "head_dim", "window"), MODELS)
@pytest.mark.parametrize("options", [{}, {"beta_fast": 24.0, "beta_slow": 2.0}, {"truncate": False}], ids=str)
def test_on_top_of_no_scaling_it_is_itself(theta, head_dim, window, options):
    on_top = frequencies_on_top(plain_inv_freq(theta, head_dim), window, 4.0, **options)
    np.testing.assert_allclose(on_top, frequencies(theta, head_dim, window, 4.0, **options), rtol=1e-5)


def test_on_top_of_another_scaling_it_goes_by_how_often_pairs_turn():
    base = [1.0, 0.1, 0.01, 0.001, 0.0001]
    on_top = frequencies_on_top(base, 4096, 4.0, truncate=False)
    turns = [4096 * frequency / (2 * np.pi) for frequency in base]
    kept = [min(max(np.log(each) / np.log(32), 0), 1) for each in turns]
    np.testing.assert_allclose(on_top, [w * share + w / 4 * (1 - share) for w, share in zip(base, kept, strict=True)])
    assert frequencies_on_top([*base, 0.0], 4096, 4.0, truncate=False) == [*on_top, 0.0]
    assert frequencies_on_top([1.0], 4096, 4.0) == [1.0]


def raised(**scaling):
    scaling = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 1024, **scaling}
    facts = replace(TINY, trained_length=4096, rope_type="yarn", rope_scaling=scaling, rope_theta=10000.0)
    return replace(facts, attention_factor=attention_factor(scaling)), scaling


def preset_to(target, **parameters):
    return make_preset(
        {
            "name": "tiny",
            "description": "tiny",
            "base_model": "tiny",
            "initial_window": 4096,
            "target_window": target,
            "method": "yarn",
            "parameters": parameters,
        }
    )


@pytest.mark.parametrize(
    "given",
    [{}, {"truncate": False, "beta_fast": 16.0}, {"attention_factor": 1.0}, {"mscale": 1.0, "mscale_all_dim": 0.5}],
)
def test_a_base_scaled_by_yarn_gets_a_larger_factor(given):
    facts, scaling = raised(**given)
    before = scaled_inv_freq(10000.0, facts.rotary_dim, scaling)
    baked = bake(preset_to(16384), facts, before)
    assert baked.inv_freq == scaled_inv_freq(10000.0, facts.rotary_dim, {**scaling, "factor": 16.0})
    assert "raised from factor 4 to 16" in baked.notes[0]
    total = facts.attention_factor * baked.parameters["attention_factor"]
    wanted = 1.0 if given.get("attention_factor") else attention_factor({**scaling, "factor": 16.0})
    assert total == pytest.approx(wanted)
    rope = spell(preset_to(16384), facts, baked)
    assert (rope.scaling["factor"], rope.scaling["original_max_position_embeddings"], rope.length) == (
        16.0,
        1024,
        16384,
    )
    assert attention_factor(rope.scaling) == pytest.approx(wanted)
    assert rope.scaling.get("truncate", True) is given.get("truncate", True)


def test_an_attention_factor_between_none_and_the_usual_one_keeps_its_part():
    facts, _ = raised(attention_factor=1 + 0.05 * np.log(4))
    baked = bake(preset_to(16384), facts, plain_inv_freq(10000.0, facts.rotary_dim))
    assert facts.attention_factor * baked.parameters["attention_factor"] == pytest.approx(1 + 0.05 * np.log(16))


def test_what_contradicts_a_base_scaled_by_yarn_is_refused():
    facts, _ = raised(beta_fast=16.0, factor=8.0)
    (problem,) = check_fit(preset_to(8192), facts)
    assert "the base's own yarn reaches 8192 tokens, 8 times 1024" in problem.message
    (problem,) = check_fit(preset_to(16384, beta_fast=24), facts)
    assert "is 24, but the base is scaled by yarn with 16.0: leave it out" in problem.message
