"""GALI: its parameters as they are, and a smaller initial window worth trying."""

from ropext.converter.calibration.grids import settings
from ropext.converter.methods.registry import bake
from tests.helpers.presets import TINY, example, frequencies


def test_gali_is_passed_through():
    preset = example("gali")
    baked = bake(preset, TINY, frequencies(TINY))
    assert baked.parameters == preset.parameters
    assert baked.inv_freq == frequencies(TINY)


def test_a_note_says_how_many_tokens_share_a_position():
    assert bake(example("gali"), TINY, frequencies(TINY)).notes == (
        "256 tokens fit 64 positions, at most 5 tokens to a position",
    )


def test_half_of_the_trained_length_is_tried_too():
    windows = [each["initial_window"] for each in settings("gali", TINY, frequencies(TINY), 64, 256)]
    assert set(windows) == {64, 32}
    assert windows == sorted(windows, reverse=True)
