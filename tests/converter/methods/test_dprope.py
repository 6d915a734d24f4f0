"""DPRoPE: factors solved at conversion, or given."""

import numpy as np

from ropext.converter.methods.base import Wish
from ropext.converter.methods.dprope import METHOD
from ropext.converter.methods.dprope_solver import solve
from ropext.converter.methods.registry import bake
from tests.helpers.presets import TINY, example, frequencies


def test_dprope_is_solved():
    baked = bake(example("dprope"), TINY, frequencies(TINY))
    solution = solve(frequencies(TINY), 64, 256)
    assert baked.parameters["scaling_factors"] == solution.factors.tolist()
    assert baked.parameters["scaling_factor"] == 4.0
    np.testing.assert_allclose(baked.inv_freq, solution.inv_freq, rtol=1e-11)
    assert baked.notes == ("7 of 8 frequency pairs changed, the largest divided by 4",)


def test_dprope_takes_a_finished_solution():
    baked = bake(example("dprope-solved"), TINY, [1.0] * 8)
    assert baked.parameters["scaling_factors"] == [1, 1, 1, 2.5, 4, 4, 4, 4]
    assert baked.inv_freq == [1, 1, 1, 0.4, 0.25, 0.25, 0.25, 0.25]


def test_a_suggestion_counts_the_pairs_that_are_divided():
    why = METHOD.suggest(Wish(TINY, frequencies(TINY), 64, 256)).why
    assert why.startswith("7 of 8 frequency pairs are divided by 4;")
