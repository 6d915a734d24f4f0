"""YAML as presets are written in it."""

import pytest

from ropext.converter.errors import InvalidPreset
from ropext.converter.files import yaml_document


def test_yaml_types():
    text = "{a: 1e-5, b: on, c: 012, d: 0o17, e: 2020-01-01, f: ~, g: True, h: 1_000, i: -.5, '<<': 1}"
    assert yaml_document.parse(text, "f").data == {
        "a": 1e-5,
        "b": "on",
        "c": 12,
        "d": 15,
        "e": "2020-01-01",
        "f": None,
        "g": True,
        "h": "1_000",
        "i": -0.5,
        "<<": 1,
    }


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a: \xff", "f:1: is not UTF-8 text"),
        (b"a: 1\nb: \x01", "f:2: holds a character that YAML does not allow (U+0001)"),
        (b"[" * 20000, "f: is nested too deeply"),
        (b"#" * 300_000, "f: is more than 262144 bytes long, too long for a preset"),
    ],
)
def test_yaml_that_cannot_be_read(content, message):
    with pytest.raises(InvalidPreset) as caught:
        yaml_document.load(content, "f")
    assert message in str(caught.value)


def test_yaml_with_a_byte_order_mark():
    assert yaml_document.load(b"\xef\xbb\xbfa: 1", "f").data == {"a": 1}
