"""Bands: which presets are refused, and what is suggested."""

from dataclasses import replace

import pytest

from ropext.converter.methods.bands import farthest
from ropext.converter.methods.base import Wish
from ropext.converter.methods.registry import bake, suggest
from ropext.converter.presets.fit import preset_faults
from tests.helpers.presets import TINY, example, frequencies

SAID = {
    "name": "p",
    "description": "p",
    "base_model": "p",
    "initial_window": 64,
    "target_window": 256,
    "method": "bands",
}
TWO = [{"from": 8, "scale_factor": 2}, {"from": 32, "scale_factor": 10}]


def faults(folder, regions, **parameters):
    found = preset_faults({**SAID, "parameters": {"regions": regions, **parameters}}, folder)
    return [(each.path[1], each.message) for each in found]


def test_regions_that_fit(tmp_path):
    assert not faults(tmp_path, TWO)
    assert farthest(TWO, 256) == 8 + 24 / 2 + 224 / 10


@pytest.mark.parametrize(
    ("regions", "more", "place", "message"),
    [
        ([TWO[1], TWO[0]], {}, "regions", "must rise: one from 8 follows one from 32"),
        ([{"from": 64, "scale_factor": 9}], {}, "regions", "begin at 64; it must be under initial_window"),
        ([TWO[0], {"from": 256, "scale_factor": 9}], {}, "regions", "it would never act"),
        ([{"from": 8, "scale_factor": 2}], {}, "regions", "of target_window become 132, over initial_window"),
        ([{"from": 8, "scale_factor": [2, 9]}], {}, "dimension_groups", "give both or neither"),
        (TWO, {"dimension_groups": [0, 8]}, "dimension_groups", "give both or neither"),
        ([{"from": 8, "scale_factor": [2, 9]}], {"dimension_groups": [0, 8]}, "regions", "2 factors for 1 groups"),
        ([{"from": 8, "scale_factor": [2, 9]}], {"dimension_groups": [1, 4, 8]}, "dimension_groups", "start it at 0"),
        ([{"from": 8, "scale_factor": 0.5}], {}, "regions", "0.5"),
    ],
)
def test_what_is_refused(tmp_path, regions, more, place, message):
    where, said = faults(tmp_path, regions, **more)[0]
    assert where == place
    assert message in said


@pytest.mark.parametrize(("trained", "target"), [(64, 256), (64, 65), (4096, 32768), (8192, 131072), (2048, 1 << 20)])
def test_a_suggestion_keeps_the_farthest_token_within_half_of_the_trained_length(trained, target, tmp_path):
    facts = replace(TINY, trained_length=trained)
    found = suggest("bands", Wish(facts, frequencies(facts), trained, target))
    assert farthest(found.parameters["regions"], target) <= trained / 2
    windows = {"initial_window": trained, "target_window": target}
    assert not preset_faults({**SAID, **windows, "parameters": dict(found.parameters)}, tmp_path)


def test_what_is_said_of_the_farthest_token():
    regions = [{"from": 8, "scale_factor": [2, 8]}]
    preset = replace(
        example("original"),
        method="bands",
        parameters={"regions": regions, "dimension_groups": [0, 4, 8], "whole_positions": True},
        initial_window=64,
        target_window=256,
    )
    assert bake(preset, TINY, frequencies(TINY)).notes == (
        "distances are exact up to 8 tokens; one of 256 becomes 39 to 132, by group of pairs",
    )
