"""One way to write a number of tokens."""

import pytest

from ropext.converter.errors import UsageError
from ropext.converter.lengths import length_text, tokens


@pytest.mark.parametrize(
    ("written", "count"), [("64k", 65536), ("64K", 65536), (" 64k ", 65536), ("65536", 65536), (65536, 65536), (1, 1)]
)
def test_what_is_a_length(written, count):
    assert tokens(written) == count


@pytest.mark.parametrize(
    "written", ["0", "0k", 0, "-1", -1, "64kb", "64 k", "4.5k", 4.5, "", "k", True, None, "²", "1" * 10]
)
def test_what_is_none(written):
    with pytest.raises(UsageError) as caught:
        tokens(written, "target")
    assert str(caught.value) == f"target: {written!r} is no number of tokens; write it as 65536 or 64k"


@pytest.mark.parametrize("count", [1, 1000, 1024, 11500, 65536, 128000, 131072])
def test_a_text_is_read_back(count):
    assert tokens(length_text(count)) == count
