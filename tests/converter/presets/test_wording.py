"""Example presets: valid ones load, invalid ones say what they must."""

from pathlib import Path

import pytest

from ropext.converter.errors import InvalidPreset
from ropext.converter.methods.schemas import METHODS
from ropext.converter.presets.load import load_preset

ROOT = Path(__file__).parents[3]
VALID = sorted(path for path in (ROOT / "tests/examples/valid").iterdir() if path.suffix in (".yaml", ".json"))
INVALID = sorted((ROOT / "tests/examples/invalid").glob("*.yaml"))


def name(path):
    return path.name


@pytest.mark.parametrize("path", VALID, ids=name)
def test_valid_example(path):
    load_preset(str(path))


@pytest.mark.parametrize("path", INVALID, ids=name)
def test_invalid_example(path, monkeypatch):
    monkeypatch.chdir(ROOT)
    mark = "# expect: "
    expected = [line.removeprefix(mark) for line in path.read_text().splitlines() if line.startswith(mark)]
    with pytest.raises(InvalidPreset) as caught:
        load_preset(str(path.relative_to(ROOT)))
    message = str(caught.value)
    assert [each for each in expected if each not in message] == [], message
    assert len(caught.value.problems) == len(expected), message


def test_a_misspelt_method_is_told_all_of_them(tmp_path):
    preset = tmp_path / "preset.yaml"
    preset.write_text((ROOT / "tests/examples/valid/dpe.yaml").read_text().replace("method: dpe", "method: dppe"))
    with pytest.raises(InvalidPreset) as caught:
        load_preset(str(preset))
    (problem,) = caught.value.problems
    assert f"one of: {', '.join(METHODS)}; did you mean 'dpe'?" in problem.message
