"""NTK-aware scaling, against its oracle."""

import numpy as np
import pytest

from ropext.converter.checkpoint.rope import float32, plain_inv_freq
from ropext.converter.methods.ntk import frequencies, raised_theta
from tests.helpers.scaled_rope import MODELS
from tests.reference import ntk


@pytest.mark.parametrize(("theta", "head_dim", "window"), MODELS)
@pytest.mark.parametrize("factor", [2.0, 3.5, 16.0])
def test_ntk_is_a_larger_theta(theta, head_dim, window, factor):
    raised = plain_inv_freq(raised_theta(theta, factor, head_dim), head_dim)
    np.testing.assert_allclose(raised, ntk.frequencies(theta, head_dim, factor), rtol=1e-6)
    np.testing.assert_allclose(frequencies(plain_inv_freq(theta, head_dim), factor), raised, rtol=1e-6)


def test_what_is_baked_is_exact_in_float32():
    baked = frequencies(plain_inv_freq(10000.0, 128), 3.7)
    assert baked == [float32(frequency) for frequency in baked]
