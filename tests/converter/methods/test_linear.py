"""Position interpolation, against transformers."""

import numpy as np
import pytest

from ropext.converter.checkpoint.rope import float32, plain_inv_freq
from ropext.converter.methods.linear import frequencies
from tests.helpers.scaled_rope import MODELS, inv_freq_of_transformers


@pytest.mark.parametrize(("theta", "head_dim", "window"), MODELS)
@pytest.mark.parametrize("factor", [2.0, 3.7, 16.0])
def test_linear_is_that_of_transformers(theta, head_dim, window, factor):
    expected, _ = inv_freq_of_transformers(theta, head_dim, window, {"rope_type": "linear", "factor": factor})
    np.testing.assert_allclose(frequencies(plain_inv_freq(theta, head_dim), factor), expected, rtol=2e-7)


def test_what_is_baked_is_exact_in_float32():
    baked = frequencies(plain_inv_freq(10000.0, 128), 3.7)
    assert baked == [float32(frequency) for frequency in baked]
