"""The schemas themselves."""

import json
from pathlib import Path

import pytest
from jsonschema import Draft7Validator

from ropext.converter.methods.schemas import METHODS, fill_defaults, preset_schema, schema_for

ROOT = Path(__file__).parents[3]
SCHEMAS = sorted((ROOT / "schemas").glob("*.json"))


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


def keys(value):
    """Every key of a JSON value, at any depth."""
    if isinstance(value, dict):
        yield from value
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from keys(inner)


@pytest.mark.parametrize("path", SCHEMAS, ids=name)
def test_schema_is_draft_07_and_serves_editors(path):
    schema = json.loads(path.read_text())
    Draft7Validator.check_schema(schema)
    assert schema["$schema"] == "http://json-schema.org/draft-07/schema#"
    for each in objects(schema):
        assert each["additionalProperties"] is False
        for key, described in each["properties"].items():
            if "$ref" in described:
                described = json.loads((path.parent / described["$ref"]).read_text())
            assert {"title", "description"} <= described.keys(), key


@pytest.mark.parametrize("path", SCHEMAS, ids=name)
def test_schema_branches_by_method_alone(path):
    # Branches of any other kind cannot say which of them the user meant.
    assert not {"oneOf", "anyOf", "not"} & set(keys(json.loads(path.read_text())))


def test_a_preset_schema_alone_knows_no_method():
    schema = json.loads((ROOT / "schemas/preset.schema.json").read_text())
    assert "enum" not in schema["properties"]["method"]
    assert "allOf" not in schema


def test_joined_schema_knows_every_method_and_stands_alone():
    schema = preset_schema()
    Draft7Validator.check_schema(schema)
    assert list(METHODS) == [
        path.name.split(".")[0].removeprefix("method_") for path in SCHEMAS if path.name.startswith("method_")
    ]
    assert schema["properties"]["method"]["enum"] == list(METHODS)
    assert [branch["if"]["properties"]["method"]["const"] for branch in schema["allOf"]] == list(METHODS)
    references = [branch["then"]["properties"]["parameters"]["$ref"] for branch in schema["allOf"]]
    assert references == [f"#/definitions/method_{method}" for method in METHODS]
    assert set(schema["definitions"]) == {f"method_{method}" for method in METHODS}
    assert schema["definitions"]["method_dpe"]["required"] == schema_for("dpe")["required"]


@pytest.mark.parametrize("method", METHODS)
def test_defaults_are_valid(method):
    schema = schema_for(method)
    for each in schema["properties"].values():
        if "default" in each:
            Draft7Validator(each).validate(fill_defaults(each, each["default"]))


@pytest.mark.parametrize("method", METHODS)
def test_what_is_required_has_no_default(method):
    schema = schema_for(method)
    assert not [key for key in schema.get("required", ()) if "default" in schema["properties"][key]]


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
