"""The schemas themselves, and example presets: valid ones load, invalid ones say what they must."""

import json
from pathlib import Path

import pytest
from jsonschema import Draft7Validator

from ropext.converter.errors import InvalidPreset
from ropext.converter.methods.schemas import METHODS, fill_defaults, preset_schema, schema_for
from ropext.converter.presets.load import load_preset

ROOT = Path(__file__).parents[3]
SCHEMAS = sorted((ROOT / "schemas").glob("*.json"))
VALID = sorted(path for path in (ROOT / "tests/examples/valid").iterdir() if path.suffix in (".yaml", ".json"))
INVALID = sorted((ROOT / "tests/examples/invalid").glob("*.yaml"))


def name(path):
    return path.name


def objects(schema):
    """Every object of a schema that has properties."""
    if isinstance(schema, dict):
        if "properties" in schema and "title" in schema:
            yield schema
        for value in schema.values():
            yield from objects(value)
    elif isinstance(schema, list):
        for value in schema:
            yield from objects(value)


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


@pytest.mark.parametrize("path", SCHEMAS, ids=name)
def test_schema_is_draft_07_and_serves_editors(path):
    schema = json.loads(path.read_text())
    Draft7Validator.check_schema(schema)
    assert schema["$schema"] == "http://json-schema.org/draft-07/schema#"
    for each in objects(schema):
        assert each["additionalProperties"] is False
        for key, described in each["properties"].items():
            assert {"title", "description"} <= described.keys(), key


@pytest.mark.parametrize("path", SCHEMAS, ids=name)
def test_schema_branches_by_method_alone(path):
    # Branches of any other kind cannot say which of them the user meant.
    assert not {'"oneOf"', '"anyOf"', '"not"'} & set(path.read_text().split())
    assert not any(word in path.read_text() for word in ('"oneOf":', '"anyOf":'))


def test_a_preset_schema_alone_knows_no_method():
    schema = json.loads((ROOT / "schemas/preset.schema.json").read_text())
    assert "enum" not in schema["properties"]["method"]
    assert "allOf" not in schema


def test_joined_schema_knows_every_method_and_stands_alone():
    schema = preset_schema()
    Draft7Validator.check_schema(schema)
    assert list(METHODS) == [path.name.split(".")[0].removeprefix("method_") for path in SCHEMAS[:-1]]
    assert schema["properties"]["method"]["enum"] == list(METHODS)
    assert [branch["if"]["properties"]["method"]["const"] for branch in schema["allOf"]] == list(METHODS)
    references = [branch["then"]["properties"]["parameters"]["$ref"] for branch in schema["allOf"]]
    assert references == [f"#/definitions/method_{method}" for method in METHODS]
    assert set(schema["definitions"]) == {f"method_{method}" for method in METHODS}
    assert schema["definitions"]["method_dpe"]["required"] == schema_for("dpe")["required"]


def test_a_misspelt_method_is_told_all_of_them(tmp_path):
    preset = tmp_path / "preset.yaml"
    preset.write_text((ROOT / "tests/examples/valid/dpe.yaml").read_text().replace("method: dpe", "method: dppe"))
    with pytest.raises(InvalidPreset) as caught:
        load_preset(str(preset))
    (problem,) = caught.value.problems
    assert f"one of: {', '.join(METHODS)}; did you mean 'dpe'?" in problem.message


@pytest.mark.parametrize("method", METHODS)
def test_defaults_are_valid(method):
    schema = schema_for(method)
    for key, each in schema["properties"].items():
        if "default" in each:
            Draft7Validator(each).validate(fill_defaults(each, each["default"]))
        else:
            assert key in schema.get("required", ()) or "default" not in each


def test_an_unknown_method_has_no_schema():
    with pytest.raises(KeyError):
        schema_for("dpee")
    with pytest.raises(KeyError):
        schema_for("../preset")


def test_defaults_are_filled_in_all_the_way_down():
    filled = fill_defaults(schema_for("gali"), {"chunk_size": 8, "local_window": 2, "noise": {"std": 0.5}})
    assert filled == {
        "chunk_size": 8,
        "chunk_ends": "input",
        "local_window": 2,
        "logit_interpolation": True,
        "noise": {
            "distribution": "none",
            "std": 0.5,
            "scale_by_distance": True,
            "interpolated_only": True,
            "seed": 0,
        },
    }
