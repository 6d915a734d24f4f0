"""`ropext suggest`: published rules give what was published, and presets that convert."""

import json
import math

import pytest
import yaml
from click.testing import CliRunner

from ropext.converter.checkpoint.facts import read_facts
from ropext.converter.cli.app import main
from ropext.converter.methods import registry
from ropext.converter.methods.schemas import METHODS
from ropext.converter.presets.fit import check_fit
from ropext.converter.presets.load import load_preset
from ropext.converter.presets.recommend import recommend
from tests.helpers.checkpoints import LLAMA3, edit_config
from tests.helpers.presets import TINY, frequencies


def run(*args):
    return CliRunner().invoke(main, ["suggest", *map(str, args)])


def suggested(*args):
    return json.loads(run(*args, "--json").output)["methods"]


SUGGESTED = [each.method for each in recommend(TINY, frequencies(TINY), 256) if each.parameters is not None]


def test_nearly_every_method_is_suggested_for_four_times_the_length():
    assert set(METHODS) - set(SUGGESTED) >= {"original", "dpe", "string"}
    assert len(SUGGESTED) >= 10


@pytest.mark.parametrize("method", SUGGESTED)
def test_what_is_written_converts(method, tiny_llama, tmp_path):
    file = tmp_path / f"tiny-{method}.yaml"
    result = run(tiny_llama, "--target", 256, "--method", method, "--write", file)
    assert result.exit_code == 0, result.output
    preset = load_preset(str(file))
    assert (preset.method, preset.initial_window, preset.target_window) == (method, 64, 256)
    assert not check_fit(preset, read_facts(str(tiny_llama)))
    converted = CliRunner().invoke(
        main, ["convert", str(tiny_llama), "-p", str(file), "-o", str(tmp_path / "converted")]
    )
    assert converted.exit_code == 0, converted.output


def test_string_reaches_a_third_further(tiny_llama):
    (near,) = suggested(tiny_llama, "--target", 66, "--method", "string")
    assert near["parameters"] == {"shift": 21, "local_window": 16}
    assert near["reach"] == 64 + 21 - 16
    (far,) = suggested(tiny_llama, "--target", "1k", "--method", "string")
    assert far["parameters"] is None
    assert "and not 1024" in far["why"]


def test_factors_that_are_published_for_the_model(tiny_llama):
    edit_config(tiny_llama, hidden_size=4096, num_attention_heads=32, num_key_value_heads=8, head_dim=128)
    edit_config(tiny_llama, rope_theta=500000.0, max_position_embeddings=8192)
    (found,) = suggested(tiny_llama, "--target", "64k", "--method", "dpe")
    assert found["parameters"] == load_preset("llama3-8b-dpe").parameters
    assert run(tiny_llama, "--target", "256k", "--method", "dpe").output.count("none are published") == 1


def test_a_base_that_is_scaled(tiny_llama):
    edit_config(tiny_llama, rope_scaling=LLAMA3)
    found = {each["method"]: each for each in suggested(tiny_llama, "--target", 256)}
    assert found["dynamic_ntk"]["parameters"] is None
    assert "scaling" in found["dynamic_ntk"]["why"]
    assert found["yarn"]["parameters"]
    assert found["self_extend"]["parameters"]


def test_a_base_that_is_scaled_by_yarn_keeps_its_rule_for_attention(tiny_llama):
    edit_config(tiny_llama, rope_scaling={"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16})
    found = {each["method"]: each for each in suggested(tiny_llama, "--target", 256)}
    by = (1 + 0.1 * math.log(16)) / (1 + 0.1 * math.log(4))
    assert found["yarn"]["parameters"] == {"scaling_factor": 4.0, "attention_factor": pytest.approx(by, abs=1e-6)}


def test_all_of_them_for_a_reader(tiny_llama):
    result = run(tiny_llama, "--target", "1k", "--initial-window", 32)
    assert "trained to M = 32 tokens (--initial-window)" in result.output
    assert "Target N = 1,024 tokens" in result.output
    assert all(f"\n{method}: " in result.output for method in set(METHODS) - {"original"})


def test_one_is_recommended_first_with_a_reason(tiny_llama):
    result = run(tiny_llama, "--target", "1k")
    assert f"Recommended: rerope. {registry.method('rerope').reason}\n" in result.output
    assert f"ropext convert {tiny_llama} --method rerope --target 1k" in result.output
    rows = [line.split() for line in result.output.splitlines() if line.startswith(("METHOD", "rerope", "string"))]
    assert rows[0] == ["METHOD", "REACH", "BOUND", "PARAMETERS"]
    assert rows[1][:2] == ["rerope", "*"]
    report = json.loads(run(tiny_llama, "--target", "1k", "--json").output)
    assert report["recommended"] == report["methods"][0]["method"] == "rerope"
    assert report["trained"] == {"tokens": 64, "why": "max_position_embeddings", "doubt": ""}
    assert report["target"] == 1024


def test_a_single_method_is_not_recommended_over_others(tiny_llama):
    output = run(tiny_llama, "--target", "1k", "--method", "ntk").output
    assert f"Convert with it:\n  ropext convert {tiny_llama} --method ntk --target 1k\n" in output
    assert "Recommended" not in output
    assert "Nothing to recommend: no method" in run(tiny_llama, "--target", "1k", "--method", "string").output


def test_a_class_without_model_code_is_refused(tiny_llama):
    edit_config(tiny_llama, architectures=["LlamaForNothing"])
    result = run(tiny_llama, "--target", "1k")
    assert result.exit_code == 1
    assert "LlamaForNothing" in result.output


def test_shipped_presets_that_fit_are_named(tiny_llama):
    edit_config(tiny_llama, hidden_size=4096, num_attention_heads=32, num_key_value_heads=8, head_dim=128)
    edit_config(tiny_llama, rope_theta=500000.0, max_position_embeddings=8192)
    report = json.loads(run(tiny_llama, "--target", "64k", "--json").output)
    assert "llama3-8b-dpe" in report["presets"]
    assert all(load_preset(name).target_window >= 65536 for name in report["presets"])
    assert "llama3-8b-dpe" in run(tiny_llama, "--target", "64k").output


def test_numbers_that_were_measured_are_recommended(tiny_llama):
    edit_config(tiny_llama, hidden_size=576, num_attention_heads=9, num_key_value_heads=3, head_dim=64)
    edit_config(tiny_llama, rope_theta=100000.0, max_position_embeddings=8192)
    near, far = run(tiny_llama, "--target", "16k").output, run(tiny_llama, "--target", "32k").output
    assert f"ropext convert {tiny_llama} --preset smollm2-135m-rerope\n" in near
    assert "smollm2-135m-original" not in near
    rows = [line.split()[0] for line in near.splitlines() if line.startswith("smollm2-")]
    assert rows[:3] == ["smollm2-135m-rerope", "smollm2-135m-self_extend", "smollm2-135m-dpe"]
    assert f"ropext convert {tiny_llama} --method rerope --target 32k\n" in far
    assert "smollm2" not in far


@pytest.mark.parametrize("named", ["tiny-llama", "./tiny-llama", "models/tiny-llama"])
def test_a_preset_of_a_relative_folder_finds_it_from_anywhere(named, tiny_llama, tmp_path, monkeypatch):
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "tiny-llama").symlink_to(tiny_llama)
    monkeypatch.chdir(tmp_path)
    assert run(named, "--target", 256, "--method", "yarn", "--write", "x.yaml").exit_code == 0
    assert load_preset("x.yaml").base_model == str(tmp_path / named)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert CliRunner().invoke(main, ["convert", "-p", "../x.yaml"]).exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--target", "lots"], "is no number of tokens; write it as 65536 or 64k"),
        (["--target", 64], "must be more than the 64 tokens"),
        (["--target", 256, "--method", "yarm"], "unknown method 'yarm'; did you mean 'yarn'?"),
        (["--target", 256, "--initial-window", 128], "was trained to 64 tokens"),
        (["--target", 256, "--write", "x.yaml"], "choose it by --method"),
        ([], "Missing option '--target'"),
    ],
)
def test_wrong_usage_is_said(arguments, message, tiny_llama):
    result = run(tiny_llama, *arguments)
    assert result.exit_code == 2
    assert message in result.output


def test_nothing_is_written_where_there_is_nothing_or_something(tiny_llama, tmp_path):
    file = tmp_path / "x.yaml"
    refused = run(tiny_llama, "--target", 256, "--method", "dpe", "--write", file)
    assert refused.exit_code == 1
    assert "none are published" in refused.output
    assert not file.exists()
    file.write_text("mine")
    assert run(tiny_llama, "--target", 256, "--method", "yarn", "--write", file).exit_code == 2
    assert file.read_text() == "mine"


def test_a_name_is_made_of_the_file(tiny_llama, tmp_path):
    file = tmp_path / "my 64k.test.yaml"
    assert run(tiny_llama, "--target", 256, "--method", "ntk", "--write", file).exit_code == 0
    assert yaml.safe_load(file.read_text())["name"] == "my-64k-test"
