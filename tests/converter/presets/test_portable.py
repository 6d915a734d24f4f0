"""A preset for publishing names the base's folder by its name, and is otherwise as it was."""

import json

import pytest

from ropext.converter.presets.load import load_preset, make_preset
from ropext.converter.presets.portable import portable

KEYS = {"name": "tiny", "description": "Tiny.", "initial_window": 64, "target_window": 256, "method": "linear"}


def example(directory, base, **keys):
    return make_preset({**KEYS, "base_model": base, "parameters": {"scaling_factor": 4}, **keys}, directory)


@pytest.mark.parametrize("base", ["org/tiny", "tiny"])
def test_a_name_stays(base, tmp_path):
    preset = example(tmp_path, base)
    assert portable(preset) == preset


@pytest.mark.parametrize("base", ["{}/models/tiny", "models/tiny", "./models/tiny", "{}/models/tiny/", "{}/gone/tiny"])
def test_a_folder_is_named_by_its_last_part(base, tmp_path):
    (tmp_path / "models" / "tiny").mkdir(parents=True)
    found = portable(example(tmp_path, base.format(tmp_path)))
    assert found.base_model == "./tiny"
    assert found.text == example(tmp_path, "./tiny").text


def test_also_where_it_is_named_beside(tmp_path):
    (tmp_path / "tiny").mkdir()
    said = [f"measured on {tmp_path}/tiny", "arXiv 2504.18857"]
    found = portable(example(tmp_path, f"{tmp_path}/tiny", references=said, calibration={"on": [f"{tmp_path}/tiny"]}))
    assert found.references == ("measured on ./tiny", "arXiv 2504.18857")
    assert str(tmp_path) not in found.text


def test_json_and_overrides(tmp_path):
    file = tmp_path / "tiny.json"
    keys = {**KEYS, "base_model": f"{tmp_path}/one", "parameters": {"scaling_factor": 4}}
    file.write_text(json.dumps(keys, indent="\t"))
    preset = load_preset(file, [f"base_model={tmp_path}/two", "scaling_factor=8"])
    found = portable(preset)
    assert found.overrides == ('base_model="./two"', "scaling_factor=8")
    assert found.base_model == "./two"
    assert str(tmp_path) not in found.text
    (tmp_path / "again.yaml").write_text(found.text)
    assert load_preset(tmp_path / "again.yaml", found.overrides).parameters == preset.parameters


def test_text_of_a_user_stays_to_the_letter(tmp_path):
    file = tmp_path / "tiny.yaml"
    file.write_text(example(tmp_path, "org/tiny").text + "# a note\n")
    assert portable(load_preset(file)).text == file.read_text()
