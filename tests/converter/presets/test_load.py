"""Presets: the shipped ones, and finding one."""

from dataclasses import replace
from pathlib import Path

import pytest

from ropext.converter.errors import UsageError
from ropext.converter.methods.registry import bake
from ropext.converter.methods.schemas import METHODS, preset_schema
from ropext.converter.presets.fit import check_fit
from ropext.converter.presets.load import LONGEST_NAME, list_presets, load_preset
from tests.helpers.presets import EXAMPLES, TINY, example, frequencies

SHIPPED = list_presets()
OLMO3_YARN = {"rope_type": "yarn", "factor": 8.0, "original_max_position_embeddings": 8192}
GPT_OSS_YARN = {"rope_type": "yarn", "factor": 32.0, "original_max_position_embeddings": 4096, "truncate": False}
MODELS = {
    "glm45": replace(TINY, model_type="glm4_moe", head_dim=128, trained_length=131072, rope_theta=1e6),
    "olmo2": replace(TINY, model_type="olmo2", head_dim=128, trained_length=4096, rope_theta=500000.0),
    "phi-4": replace(TINY, model_type="phi3", head_dim=128, trained_length=16384, rope_theta=250000.0),
    "qwen25-1m": replace(TINY, model_type="qwen2", head_dim=128, trained_length=262144, rope_theta=1e7),
    "qwen3-moe": replace(TINY, model_type="qwen3_moe", head_dim=128, trained_length=32768, rope_theta=1e6),
    "qwen3-": replace(TINY, model_type="qwen3", head_dim=128, trained_length=32768, rope_theta=1e6),
    "qwen35-moe": replace(
        TINY, model_type="qwen3_5_moe", head_dim=256, partial_rotary_factor=0.25, trained_length=262144, rope_theta=1e7
    ),
    "qwen35-": replace(
        TINY, model_type="qwen3_5", head_dim=256, partial_rotary_factor=0.25, trained_length=262144, rope_theta=1e7
    ),
    "smollm3": replace(TINY, model_type="smollm3", head_dim=128, trained_length=65536, rope_theta=5e6),
    "mistral-7b-v03": replace(TINY, model_type="mistral", head_dim=128, trained_length=32768, rope_theta=1e6),
    "gemma3-270m": replace(TINY, model_type="gemma3_text", head_dim=256, trained_length=32768, rope_theta=1000000.0),
    "gemma3-self": replace(
        TINY, model_type="gemma3", head_dim=256, trained_length=131072, rope_theta=1e6, rope_type="linear"
    ),
    "gpt-oss": replace(
        TINY,
        model_type="gpt_oss",
        head_dim=64,
        trained_length=131072,
        rope_theta=150000.0,
        rope_type="yarn",
        rope_scaling=GPT_OSS_YARN,
    ),
    "olmo3": replace(
        TINY,
        model_type="olmo3",
        head_dim=128,
        trained_length=65536,
        rope_theta=500000.0,
        rope_type="yarn",
        rope_scaling=OLMO3_YARN,
    ),
    "mistral-small-3": replace(TINY, model_type="mistral3", head_dim=128, trained_length=131072, rope_theta=1e9),
    "llama2": replace(TINY, head_dim=128, trained_length=4096),
    "llama3-": replace(TINY, head_dim=128, trained_length=8192, rope_theta=500000.0),
    "llama31": replace(TINY, head_dim=128, trained_length=131072, rope_theta=500000.0, rope_type="llama3"),
    "mistral-7b-self_extend": replace(TINY, model_type="mistral", head_dim=128, trained_length=32768),
    "mistral-7b-v02": replace(TINY, model_type="mistral", head_dim=128, trained_length=32768, rope_theta=1000000.0),
    "phi-2": replace(TINY, model_type="phi", head_dim=80, partial_rotary_factor=0.4, trained_length=2048),
    "qwen25": replace(TINY, model_type="qwen2", head_dim=128, trained_length=32768, rope_theta=1000000.0),
    "smollm2": replace(TINY, head_dim=64, trained_length=8192, rope_theta=100000.0),
}


@pytest.mark.parametrize("preset", SHIPPED, ids=lambda preset: preset.name)
def test_shipped_preset(preset):
    assert preset.path == f"ropext/presets/{preset.name}.yaml"
    assert preset.text.startswith("# yaml-language-server: $schema=../schemas/preset.schema.json\n")
    assert (preset.directory / "../schemas/preset.schema.json").is_file()
    assert preset.references
    assert preset.requires.keys() >= {"model_type", "head_dim", "rope_theta"}
    model = next(facts for prefix, facts in MODELS.items() if preset.name.startswith(prefix))
    assert check_fit(preset, model) == []
    bake(preset, model, frequencies(model))


def test_shipped_presets_cover_every_method():
    assert {preset.method for preset in SHIPPED} == set(METHODS)
    assert [preset.name for preset in SHIPPED] == sorted(preset.name for preset in SHIPPED)


def test_the_two_published_llama3_settings_differ():
    file, readme = load_preset("llama3-8b-dpe"), load_preset("llama3-8b-dpe-readme")
    assert file.parameters["scale_factors"] == [2, 8, 2, 8, 32, 32, 32, 4]
    assert readme.parameters["scale_factors"] == [4, 4, 2, 16, 32, 32, 16, 128]


# Finding


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("llama3-8b-dep", "did you mean 'llama3-8b-dpe'? `ropext presets list` shows all"),
        ("zzz", "unknown preset 'zzz'. `ropext presets list`"),
        ("", "unknown preset ''"),
        ("nowhere.yaml", "there is no preset file nowhere.yaml"),
        ("no/where", "there is no preset file no/where"),
        (str(EXAMPLES), "is a folder; name the preset file in it"),
    ],
)
def test_not_found(name, message):
    with pytest.raises(UsageError) as caught:
        load_preset(name)
    assert message in str(caught.value)


def test_a_file_without_a_suffix(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("mine").write_text((EXAMPLES / "valid" / "dpe.yaml").read_text())
    assert load_preset("mine").path == "mine"


def test_what_a_preset_knows_of_its_file():
    preset = example("dpe")
    assert preset.path == str(EXAMPLES / "valid" / "dpe.yaml")
    assert preset.directory == EXAMPLES / "valid"
    assert preset.text == (EXAMPLES / "valid" / "dpe.yaml").read_text()


def test_names_are_cut_where_the_schema_has_it():
    assert preset_schema()["properties"]["name"]["maxLength"] == LONGEST_NAME
