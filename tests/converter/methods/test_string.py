"""STRING: inside the trained length, and a third beyond."""

import pytest

from ropext.converter.methods.base import Settings, Wish
from ropext.converter.methods.string import METHOD
from tests.helpers.presets import TINY, frequencies


def test_it_reaches_a_third_further():
    near, far = (METHOD.suggest(Wish(TINY, frequencies(TINY), 64, target)) for target in (66, 1024))
    assert near.parameters == {"shift": 21, "local_window": 16}
    assert near.reach == far.reach == 64 + 21 - 16
    assert far.parameters is None
    assert "and not 1024" in far.why


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"shift": 65, "local_window": 8}, "is 65; it must be at most initial_window (64)"),
        ({"shift": 8, "local_window": 8}, "is 8; it must be under shift (8)"),
    ],
)
def test_windows_lie_within_each_other(parameters, message):
    assert [fault.message for fault in METHOD.faults(Settings(parameters, 64, 64))] == [message]
