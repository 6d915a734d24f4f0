"""YaRN, against transformers and its oracle."""

from dataclasses import replace

import numpy as np
import pytest

from ropext.converter.checkpoint.rope import float32, plain_inv_freq
from ropext.converter.methods.registry import bake
from ropext.converter.methods.yarn import frequencies, usual_attention_factor
from ropext.converter.presets.load import load_preset
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
