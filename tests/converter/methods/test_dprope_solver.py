"""The solver against the authors' numbers, the paper's and a counting loop."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ropext.converter.methods import dprope_solver as dprope
from tests.reference import dprope as reference

GOLDEN = json.loads((Path(__file__).parents[2] / "data" / "dprope.json").read_text())


def frequencies(theta, head_dim):
    return theta ** -(np.arange(0, head_dim, 2) / head_dim)


LLAMA2 = frequencies(10000, 128)


@pytest.mark.parametrize("case", GOLDEN, ids=lambda case: str(case["config"]["rope_theta"]))
def test_equals_the_authors_program(case):
    config = case["config"]
    initial, factor = config["origin_max_position"], config["scaling_factor"]
    solution = dprope.solve(frequencies(config["rope_theta"], config["head_dim"]), initial, initial * factor)
    assert solution.factors.tolist() == case["factors"]
    np.testing.assert_allclose(solution.inv_freq, case["inv_freq"], rtol=3e-7)


# The paper prints 25.55 for YaRN to 8k; its ramp's rounding is not given, and ours comes to 25.63.
@pytest.mark.parametrize(
    ("target", "candidates", "printed", "off"),
    [
        (8192, ["interpolation"], 24.08, 0.02),
        (8192, ["yarn"], 25.55, 0.1),
        (8192, ["extrapolation", "interpolation"], 6.71, 0.02),
        (16384, ["interpolation"], 33.67, 0.02),
        (16384, ["yarn"], 35.44, 0.02),
        (16384, ["extrapolation", "interpolation"], 22.92, 0.02),
    ],
)
def test_disturbance_is_the_papers(target, candidates, printed, off):
    solution = dprope.solve(LLAMA2, 4096, target, candidates=candidates)
    disturbance = dprope.disturbance(LLAMA2, solution.inv_freq, 4096, target)
    assert 1000 * disturbance == pytest.approx(printed, abs=off)


def test_yarn_and_ntk_are_those_of_transformers():
    transformers = pytest.importorskip("transformers")
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    scaling = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 4096}
    config = transformers.LlamaConfig(
        hidden_size=128,
        num_attention_heads=1,
        rope_theta=10000.0,
        max_position_embeddings=16384,
        rope_scaling=scaling,
    )
    context = dprope.Context(4096, 16384, 4.0)
    expected, _ = ROPE_INIT_FUNCTIONS["yarn"](config, "cpu")
    np.testing.assert_allclose(dprope.yarn(LLAMA2, context), expected.numpy(), rtol=1e-5)
    np.testing.assert_allclose(dprope.ntk(LLAMA2, context), frequencies(10000 * 4 ** (128 / 126), 128))


@settings(max_examples=60, deadline=None)
@given(
    theta=st.floats(100, 1e6),
    head_dim=st.sampled_from([4, 8, 16]),
    initial=st.integers(2, 80),
    scale=st.integers(2, 6),
    intervals=st.integers(2, 400),
    threshold=st.sampled_from([0.0, 1e-4, 1e-2]),
)
def test_equals_a_counting_loop(theta, head_dim, initial, scale, intervals, threshold):
    inv_freq = frequencies(theta, head_dim)
    target = initial * scale
    solution = dprope.solve(inv_freq, initial, target, intervals=intervals, threshold=threshold)
    kept, divided = solution.divergences
    looped = reference.factors(
        inv_freq.tolist(), initial, target, intervals=intervals, scale=scale, threshold=threshold
    )
    # Summed in another order, what is equal to the last bits may fall either way.
    clear = np.abs(kept - divided - threshold) > 1e-12
    assert solution.factors[clear].tolist() == np.array(looped)[clear].tolist()


@pytest.mark.parametrize("length", [1, 1000, dprope._BLOCK, dprope._BLOCK + 17])
def test_counts_in_blocks(length):
    counts = dprope.count_angles(np.array([1.0, 0.01]), length, 360)
    assert counts.sum(axis=1).tolist() == [length, length]
    shares = reference.distribution(0.01, length, 360)
    np.testing.assert_allclose(counts[1] / length, shares, atol=1e-3 / length)


def test_ties_go_to_the_earlier_candidate():
    twins = ["interpolation", lambda inv_freq, context: inv_freq / context.scaling_factor]
    assert dprope.solve(LLAMA2, 256, 512, candidates=twins).choice.max() == 0


def test_threshold_keeps_the_first_candidate():
    chosen = [dprope.solve(LLAMA2, 4096, 8192, threshold=each).choice.sum() for each in (0.0, 1.5e-6, 1.0)]
    assert chosen == [47, 40, 0]  # the paper tuned its threshold to 40 of the 64 pairs


def test_a_candidate_of_ones_own():
    def halfway(inv_freq, context):
        """Between extrapolation and interpolation."""
        return inv_freq / context.scaling_factor**0.5

    usual = dprope.solve(LLAMA2, 1024, 4096)
    solution = dprope.solve(LLAMA2, 1024, 4096, candidates=["extrapolation", "interpolation", halfway])
    assert solution.candidates == ("extrapolation", "interpolation", "halfway")
    assert set(solution.factors) == {1.0, 2.0, 4.0}
    before, after = (dprope.disturbance(LLAMA2, each.inv_freq, 1024, 4096) for each in (usual, solution))
    assert after < before


def test_factors_are_free_of_rounding_noise():
    assert set(dprope.solve(LLAMA2, 1000, 3000).factors) == {1.0, 3.0}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"inv_freq": [1.0, float("nan")]}, "finite positive"),
        ({"inv_freq": [1.0]}, "two or more"),
        ({"target_window": 10}, "1 <= initial <= target"),
        ({"target_window": 2**25}, "16777216"),
        ({"candidates": ["interpolate"]}, "did you mean 'interpolation'"),
        ({"candidates": []}, "needs a candidate"),
        ({"intervals": 1}, "intervals >= 2"),
        ({"threshold": float("nan")}, "threshold >= 0"),
        ({"scaling_factor": 0.5}, "scaling_factor >= 1"),
        ({"candidates": [lambda inv_freq, context: inv_freq[:3]]}, "3 of 64 frequencies"),
        ({"candidates": [lambda inv_freq, context: -inv_freq]}, "finite positive"),
    ],
)
def test_refuses_what_makes_no_sense(change, message):
    usual = {"inv_freq": LLAMA2, "initial_window": 256, "target_window": 512}
    with pytest.raises(ValueError, match=message):
        dprope.solve(**(usual | change))


def test_a_candidate_cannot_spoil_the_base():
    def careless(inv_freq, context):
        inv_freq /= 2
        return inv_freq

    solution = dprope.solve(LLAMA2, 256, 512, candidates=[careless, "extrapolation"])
    assert set(solution.factors) <= {1.0, 2.0}
