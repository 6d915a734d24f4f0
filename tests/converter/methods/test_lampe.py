"""LaMPE: its formulas, and what is baked and refused."""

from dataclasses import replace
from itertools import pairwise
from math import floor

import pytest

from ropext.converter.methods.base import Wish
from ropext.converter.methods.registry import bake, suggest
from ropext.converter.presets.fit import preset_faults
from tests.helpers.presets import TINY, example, frequencies
from tests.reference import lampe

SAID = {
    "name": "p",
    "description": "p",
    "base_model": "p",
    "initial_window": 64,
    "target_window": 256,
    "method": "lampe",
}


def faults(folder, **parameters):
    found = preset_faults({**SAID, "parameters": parameters}, folder)
    return [(each.path[1], each.message) for each in found]


def test_the_paper_s_form_is_continuous_and_ends_at_m():
    length, s1, s2, m = 256, 12, 10, 40
    distances = [lampe.paper(i, 0, length, s1, s2, m) for i in range(length + 1)]
    assert distances[: s1 + 1] == list(range(s1 + 1))
    assert distances[length - s2 :] == list(range(m - s2, m + 1))
    assert max(b - a for a, b in pairwise(distances)) == 1
    printed = [floor((m - s1 - s2) / (length - s1 - s2) * (each - s1) + s1) for each in range(s1, length - s2)]
    assert [floor(each) for each in distances[s1 : length - s2]] == printed


@pytest.mark.parametrize(
    ("given", "baked"),
    [
        ({"form": "paper", "tail": 8}, {"tail": 8, "attention_factor": 1.0, "full_length": 256}),
        ({"form": "program"}, {"tail": 0, "attention_factor": 1.069, "full_length": 256}),
        ({"form": "program", "attention_factor": 1}, {"tail": 0, "attention_factor": 1, "full_length": 256}),
    ],
)
def test_what_is_baked(given, baked):
    parameters = {"mapping_length": 40, "local_window": 12, **given}
    windows = {"initial_window": 64, "target_window": 256}
    preset = replace(example("original"), method="lampe", parameters=parameters, **windows)
    assert bake(preset, TINY, frequencies(TINY)).parameters == parameters | baked


@pytest.mark.parametrize(
    ("parameters", "place", "message"),
    [
        (
            {"mapping_length": 40, "local_window": 12, "form": "program", "tail": 8},
            "tail",
            "no meaning for form program",
        ),
        ({"mapping_length": 40, "local_window": 32, "tail": 8}, "mapping_length", "over local_window and tail"),
        ({"mapping_length": 65, "local_window": 12}, "mapping_length", "at most initial_window"),
    ],
)
def test_what_is_refused(tmp_path, parameters, place, message):
    ((where, said),) = faults(tmp_path, **parameters)
    assert where == place
    assert message in said


@pytest.mark.parametrize(("trained", "mapped"), [(8192, 3072), (4096, 1536), (64, 24)])
def test_the_published_share_of_the_trained_length_is_suggested(trained, mapped, tmp_path):
    facts = replace(TINY, trained_length=trained)
    found = suggest("lampe", Wish(facts, frequencies(facts), trained, 4 * trained)).parameters
    assert found["mapping_length"] == mapped
    windows = {"initial_window": trained, "target_window": 4 * trained}
    assert not preset_faults({**SAID, **windows, "parameters": dict(found)}, tmp_path)
