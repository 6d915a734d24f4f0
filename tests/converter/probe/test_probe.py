"""`ropext probe`: every configuration that silently does nothing is found, and none that works is accused."""

import json
import sys

import pytest
from click.testing import CliRunner

from ropext.converter.cli.app import main
from ropext.converter.probe.api import probe_config
from ropext.converter.probe.claims import claims_of, replaced
from ropext.converter.probe.in_transformers import tables
from ropext.converter.probe.table import Table, Untold
from tests.helpers import zoo
from tests.helpers.checkpoints import edit_config

LLAMA = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 64,
    "num_attention_heads": 2,
    "num_hidden_layers": 2,
    "num_key_value_heads": 2,
    "max_position_embeddings": 4096,
}
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 1024}
LINEAR = {"rope_type": "linear", "factor": 2.0}
LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 1024,
}
LONGROPE = {
    "rope_type": "longrope",
    "short_factor": [2.0] * 16,
    "long_factor": [2.0] * 16,
    "attention_factor": 1.0,
    "original_max_position_embeddings": 4096,
}
TEXT = {
    "hidden_size": 64,
    "num_attention_heads": 2,
    "num_hidden_layers": 2,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "max_position_embeddings": 4096,
}
MROPE = {"rope_theta": 5e6, "mrope_section": [8, 4, 4], "mrope_interleaved": True}
QWEN3_VL = {
    "model_type": "qwen3_vl",
    "architectures": ["Qwen3VLForConditionalGeneration"],
    "text_config": {**TEXT, "model_type": "qwen3_vl_text", "rope_parameters": {"rope_type": "default", **MROPE}},
}
GEMMA = {
    "model_type": "gemma3",
    "architectures": ["Gemma3ForConditionalGeneration"],
    "text_config": {
        **TEXT,
        "num_hidden_layers": 6,
        "model_type": "gemma3_text",
        "rope_theta": 1e6,
        "rope_local_base_freq": 1e4,
        "rope_scaling": LINEAR,
    },
}


def probed(config, **changes):
    return probe_config({**config, **changes}, tables)


def ignored(config, **changes):
    found = probed(config, **changes)
    assert found.verdict == "ignored"
    return {each.key for each in found.ignored}


def text(config, **changes):
    return {**config, "text_config": {**config["text_config"], **changes}}


@pytest.mark.parametrize("scaling", [YARN, LINEAR, LLAMA3, LONGROPE], ids=lambda each: each["rope_type"])
@pytest.mark.parametrize("spelling", ["4", "5", "both"])
def test_what_is_honoured(scaling, spelling):
    if zoo.V4 and spelling == "5":
        pytest.skip("transformers 4 reads rope_scaling")
    old = {"rope_scaling": scaling, "rope_theta": 5e5}
    new = {"rope_parameters": {**scaling, "rope_theta": 5e5}}
    found = probed(LLAMA, **(old if spelling != "5" else {}), **(new if spelling != "4" else {}))
    assert (found.verdict, found.ignored) == ("honoured", ())


def test_an_unscaled_base():
    assert probed(LLAMA, rope_theta=1e6).verdict == "honoured"
    assert probed(LLAMA).verdict == "honoured"


@pytest.mark.skipif(zoo.V4, reason="what transformers 5 makes of it")
@pytest.mark.parametrize(
    ("config", "keys"),
    [
        # A scaling beside the parameters, which it replaces: their base is lost.
        (
            {**LLAMA, "rope_scaling": YARN, "rope_parameters": {"rope_type": "default", "rope_theta": 1e6}},
            {"rope_scaling", "rope_parameters.rope_theta"},
        ),
        # Two scalings.
        (
            {**LLAMA, "rope_scaling": LINEAR, "rope_parameters": {**YARN, "rope_theta": 1e4}},
            {"rope_parameters"},
        ),
        # Misspelt keys.
        ({**LLAMA, "rope_parameters": {**YARN, "rope_theta": 1e4, "beta_fst": 16}}, {"rope_parameters.beta_fst"}),
        (
            {**LLAMA, "rope_parameters": {**YARN, "rope_theta": 1e4, "attention_fator": 1.0}},
            {"rope_parameters.attention_fator"},
        ),
        (
            {**LLAMA, "rope_parameters": {"typ": "yarn", "factor": 4.0, "rope_theta": 1e4}},
            {"rope_parameters.typ", "rope_parameters.factor"},
        ),
        (
            {**LLAMA, "rope_scaling": {"rope_type": "linear", "factor": 2.0, "scale": 4.0}, "rope_theta": 1e4},
            {"rope_scaling.scale"},
        ),
        # At the top of a composite.
        ({**QWEN3_VL, "rope_scaling": LINEAR}, {"rope_scaling"}),
        ({**QWEN3_VL, "rope_parameters": LINEAR}, {"rope_parameters"}),
        ({**GEMMA, "rope_scaling": {**LINEAR, "factor": 8.0}}, {"rope_scaling"}),
        ({**QWEN3_VL, "rope_theta": 1e7}, {"rope_theta"}),
        # Beside the parameters of a composite's text model.
        (text(QWEN3_VL, rope_scaling=YARN), {"text_config.rope_scaling", "text_config.rope_parameters.rope_theta"}),
        # One dictionary, where a family reads one for each type of layer.
        (
            text(GEMMA, rope_scaling=None, rope_parameters={**LINEAR, "factor": 8.0}),
            {"text_config.rope_parameters"},
        ),
    ],
)
def test_what_is_ignored(config, keys):
    assert ignored(config) == keys


@pytest.mark.skipif(zoo.V4, reason="the classes of transformers 5")
@pytest.mark.parametrize(
    "config",
    [
        QWEN3_VL,
        GEMMA,
        text(QWEN3_VL, rope_parameters={**YARN, **MROPE}),
        text(QWEN3_VL, rope_parameters={**YARN, **MROPE}, rope_scaling={**YARN, **MROPE}, rope_theta=5e6),
        text(GEMMA, rope_scaling=YARN),
    ],
)
def test_composites_that_are_right(config):
    found = probe_config(config, tables)
    assert (found.verdict, found.ignored) == ("honoured", ())


def test_what_cannot_be_told():
    assert probed(LLAMA, rope_scaling={"rope_type": "dynamic", "factor": 2.0}, rope_theta=1e4).verdict == "untold"
    assert probed(LLAMA, model_type="nothing").verdict == "untold"
    assert probed(LLAMA, auto_map={"AutoConfig": "x.Y"}).verdict == "untold"
    refused = probed(LLAMA, rope_scaling={"rope_type": "linear"}, rope_theta=1e4)
    assert refused.verdict == "untold"
    assert "transformers" in refused.notes[0]


@pytest.mark.parametrize("name", [name for name in zoo.ROWS if zoo.available(name)])
def test_the_tiny_model_of_a_type_is_honoured_or_not_told(name):
    config = json.loads(zoo.config(name).to_json_string(use_diff=False))
    assert probe_config(config, tables).verdict in ("honoured", "untold")


def test_a_runtime_with_tables_of_its_own():
    def half(config):
        (claim,) = claims_of(config)
        meant = claim.meant(16)
        return {"": Table(meant.inv_freq, 1.0)}  # as runtimes that know no attention_factor

    config = {**LLAMA, "rope_scaling": {**YARN, "attention_factor": 1.2}, "rope_theta": 1e4}
    found = probe_config(config, half)
    assert [each.key for each in found.ignored] == ["rope_scaling.attention_factor"]


SWITCHING = {**LONGROPE, "short_factor": [1.0] * 16, "original_max_position_embeddings": 1024}


def test_a_longrope_with_a_table_for_long_prompts():
    config = {**LLAMA, "rope_scaling": SWITCHING, "rope_theta": 1e4, "original_max_position_embeddings": 1024}
    found = probe_config(config, tables)
    assert (found.verdict, found.ignored) == ("honoured", ())
    assert "misread" in found.notes[0]
    short, long = (found.tables[name].inv_freq for name in ("", "long prompts"))
    assert short == pytest.approx([2 * each for each in long])


@pytest.mark.skipif(not zoo.V4, reason="transformers 5 reads the length within the dictionary")
def test_a_length_that_transformers_4_does_not_find():
    config = {**LLAMA, "rope_scaling": SWITCHING, "rope_theta": 1e4}
    assert {each.key for each in probe_config(config, tables).ignored} >= {"rope_scaling.long_factor"}


@pytest.mark.parametrize("attention", [1.0, 1.2])
def test_a_runtime_with_the_table_of_long_prompts_alone(attention):
    def long_only(config):
        (claim,) = claims_of(config)
        return {"": Table(claim.beyond(16).inv_freq, attention)}

    found = probe_config({**LLAMA, "rope_scaling": SWITCHING, "rope_theta": 1e4}, long_only)
    keys = {each.key for each in found.ignored}
    assert keys >= {"rope_scaling.short_factor"}
    assert ("rope_scaling.attention_factor" in keys) == (attention != 1.0)
    assert found.notes == ()


def test_a_value_deep_in_a_configuration():
    config = {"text_config": {"rope_parameters": {"factor": 1}, "a": 2}}
    assert replaced(config, ("text_config", "rope_parameters", "factor"), 3) == {
        "text_config": {"rope_parameters": {"factor": 3}, "a": 2}
    }
    assert config["text_config"]["rope_parameters"]["factor"] == 1


# The command


def run(*args):
    return CliRunner().invoke(main, ["probe", *map(str, args)])


def convert(folder, output, *options):
    result = CliRunner().invoke(main, ["convert", str(folder), "-o", str(output), *options])
    assert result.exit_code == 0, result.output


@pytest.mark.parametrize("method", ["yarn", "linear", "ntk", "dprope"])
def test_a_native_export(tiny_llama, tmp_path, method):
    convert(tiny_llama, tmp_path / "out", "--method", method, "--target", "256", "--native")
    result = run(tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert "honours its keys" in result.output
    edit_config(tmp_path / "out", rope_theta=12345.0, rope_scaling=None, rope_parameters=None)
    changed = run(tmp_path / "out", "--json")
    assert changed.exit_code == 1
    assert {each["key"] for each in json.loads(changed.output)["ignored"]} == {"rope_ext.inv_freq"}


def test_exit_statuses(tiny_llama, tmp_path):
    assert run(tiny_llama).exit_code == 0
    convert(tiny_llama, tmp_path / "code", "--method", "yarn", "--target", "256")
    told = run(tmp_path / "code")
    assert told.exit_code == 3
    assert "ropext verify" in told.output
    edit_config(tiny_llama, rope_scaling={"rope_type": "linear", "factor": 2.0, "scale": 4.0})
    told = run(tiny_llama)
    assert told.exit_code == 1
    assert "rope_scaling.scale is ignored" in told.output


@pytest.mark.parametrize("runtime", ["vllm", "sglang", "mlx"])
def test_a_runtime_that_is_not_installed(tiny_llama, runtime, monkeypatch):
    for name in ("vllm", "vllm.config", "sglang", "mlx_lm", "mlx_lm.utils"):
        monkeypatch.setitem(sys.modules, name, None)
    told = run(tiny_llama, "--runtime", runtime, "--json")
    assert told.exit_code == 3
    assert "cannot be imported" in json.loads(told.output)["notes"][0]


def test_a_refusal_says_why():
    def refuse(config):
        raise Untold("it does not like it")

    assert probe_config(LLAMA, refuse).notes == ("it does not like it",)
