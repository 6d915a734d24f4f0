"""What is computed of RoPE without torch, held to the stock classes for every spelling of every family."""

from collections import Counter

import pytest

from tools.spellings import SCALINGS, cases, outcome
from tools.spellings_loaded import loading


@pytest.mark.parametrize("scaling", ["default", "linear", "yarn", "longrope"])
def test_spellings_that_stock_classes_load_agree_or_are_refused(scaling):
    found = [(case, *outcome(case)) for case in cases([scaling])]
    assert [(case.name, details) for case, result, details in found if result == "differs"] == []
    counted = Counter(result for _, result, _ in found)
    assert counted["equal"] > 100, counted


def test_published_spellings_are_not_refused():
    """One dictionary and a base, or the class's own: only what says nothing of the family is refused."""
    for case in cases(["linear"]):
        result, details = outcome(case)
        if case.plain and result == "refused":
            assert any(why in details for why in EXPECTED), (case.name, details)


EXPECTED = (
    "have no rotary positions",  # the zoo has configurations of such, on purpose
    "rope_scaling.rope_type: is missing",  # layers of two kinds: transformers 5 does not read `type`
    "has to be written, 0.334 by mimo_v2_flash's default",
)


def test_conversions_load_with_the_frequencies_of_the_stock_classes():
    """A few seconds of `python -m tools.spellings --load`."""
    with loading() as found:
        outcomes = [
            (case.name, *found.outcome(case)) for case in cases(["yarn"], ["llama", "gemma3_text", "qwen2_5_vl"])
        ]
    assert [each for each in outcomes if each[1] == "differs"] == []
    counted = Counter(result for _, result, _ in outcomes)
    assert counted["equal"] > 9, counted
    assert counted["refused"] > 9, counted


def test_scalings_are_all_that_are_known():
    from ropext.converter.checkpoint.rope import SCHEMES

    assert {each["rope_type"] for each in SCALINGS.values()} == {*SCHEMES, "dynamic"} - {"proportional"}
