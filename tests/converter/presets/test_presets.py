"""Presets: the shipped ones, finding, overriding, fitting, baking, and the commands around them."""

import base64
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from safetensors.numpy import save_file

from ropext.converter.checkpoint.facts import ModelFacts
from ropext.converter.cli import app
from ropext.converter.cli.app import main
from ropext.converter.errors import InvalidPreset, RopextError, UsageError
from ropext.converter.files import yaml_document
from ropext.converter.methods.registry import bake
from ropext.converter.methods.schemas import METHODS
from ropext.converter.presets.fit import check_fit
from ropext.converter.presets.load import list_presets, load_preset
from tests.helpers.checkpoints import edit_config

ROOT = Path(__file__).parents[3]
EXAMPLES = ROOT / "tests" / "examples"
SHIPPED = list_presets()
TINY = ModelFacts(
    source="tiny",
    model_type="llama",
    architecture="LlamaForCausalLM",
    head_dim=16,
    num_hidden_layers=3,
    num_attention_heads=4,
    num_key_value_heads=2,
    rope_theta=10000.0,
    rope_type="default",
    trained_length=64,
)
MODELS = {
    "gemma3-270m": replace(TINY, model_type="gemma3_text", head_dim=256, trained_length=32768, rope_theta=1000000.0),
    "llama2": replace(TINY, head_dim=128, trained_length=4096),
    "llama3-": replace(TINY, head_dim=128, trained_length=8192, rope_theta=500000.0),
    "llama31": replace(TINY, head_dim=128, trained_length=131072, rope_theta=500000.0, rope_type="llama3"),
    "mistral-7b-self_extend": replace(TINY, model_type="mistral", head_dim=128, trained_length=32768),
    "mistral-7b-v02": replace(TINY, model_type="mistral", head_dim=128, trained_length=32768, rope_theta=1000000.0),
    "phi-2": replace(TINY, model_type="phi", head_dim=80, partial_rotary_factor=0.4, trained_length=2048),
    "qwen25": replace(TINY, model_type="qwen2", head_dim=128, trained_length=32768, rope_theta=1000000.0),
    "smollm2": replace(TINY, head_dim=64, trained_length=8192, rope_theta=100000.0),
}


def frequencies(facts):
    return (facts.rope_theta ** -(np.arange(0, facts.rotary_dim, 2) / facts.rotary_dim)).tolist()


def example(name, *overrides):
    return load_preset(str(EXAMPLES / "valid" / f"{name}.yaml"), overrides)


def ropext(*args):
    return CliRunner().invoke(main, args)


# Shipped


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


# Overriding


@pytest.mark.parametrize(
    ("override", "key", "value"),
    [
        ("local_window=32", "local_window", 32),
        ("parameters.local_window=32", "local_window", 32),
        ("activate_beyond = 0x40", "activate_beyond", 64),
        ("scale_factors=[1, 2, 3, 4]", "scale_factors", [1, 2, 3, 4]),
    ],
)
def test_set_a_parameter(override, key, value):
    preset = example("dpe", override)
    assert preset.parameters[key] == value
    assert preset.overrides == (override,)


def test_set_in_depth_and_at_the_top():
    preset = example("gali", "noise.std=1e-1", "parameters.noise.seed=3", "target_window=128", "name=mine")
    assert (preset.parameters["noise"]["std"], preset.parameters["noise"]["seed"]) == (0.1, 3)
    assert (preset.target_window, preset.name) == (128, "mine")


def test_set_another_method():
    preset = example("dprope", "method=gali", "parameters={chunk_size: 8, local_window: 4}", "chunk_ends=grid")
    assert (preset.method, preset.parameters["chunk_ends"]) == ("gali", "grid")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("local_window", "write it as KEY=VALUE"),
        ("=3", "write it as KEY=VALUE"),
        (
            "local_windw=3",
            "--set local_windw: unknown key; did you mean 'local_window'? The keys here: name,",
        ),
        ("chunk_size=3", "--set chunk_size: unknown key"),
        ("local_window=[3", "--set local_window:1: is not valid YAML"),
        ("local_window=!!python/none x", "the tag tag:yaml.org,2002:python/none is not allowed"),
        ("local_window.x=3", "nothing can be set inside 16"),
    ],
)
def test_an_override_that_makes_no_sense(override, message):
    with pytest.raises(UsageError) as caught:
        example("dpe", override)
    assert message in str(caught.value)


def test_problems_of_overrides_are_named_by_them():
    with pytest.raises(InvalidPreset) as caught:
        example("dpe", "local_window=0", "target_window=2", "scale_factors=[1]", "requires.head_dim=32")
    assert str(caught.value).splitlines() == [
        "--set local_window: parameters.local_window: must be at least 1, not 0",
        "--set scale_factors: parameters.scale_factors: has 1 factors for 4 groups; give 4",
        "--set target_window: target_window: is 2; it must be at least initial_window (64)",
        f"{EXAMPLES}/valid/dpe.yaml:10: parameters.dimension_groups: ends at 8; end it at head_dim/2 = 16",
    ]


def test_scores_named_on_the_command_line_lie_where_it_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save_file({"scores": np.ones((3, 4, 8), np.float32)}, "mine.safetensors")
    preset = example("dpe", "top_k=2", "dimension_scores=mine.safetensors")
    assert check_fit(preset, TINY) == []


# Fitting


def test_fits():
    assert check_fit(example("dpe"), TINY) == []


@pytest.mark.parametrize(
    ("preset", "change", "message"),
    [
        (
            "dpe",
            {"model_type": "qwen2"},
            ":11: requires.model_type: is llama, but tiny has qwen2; `ropext inspect",
        ),
        ("dpe", {"rope_theta": 5e5}, "requires.rope_theta: is 10000, but tiny has 500000.0"),
        ("dpe", {"head_dim": 32}, "requires.head_dim: is 16, but tiny has 32"),
        (
            "dpe",
            {"trained_length": 32},
            ":4: initial_window: is 64, but tiny was trained to 32 tokens; set it to at",
        ),
        ("dpe-selected", {"num_attention_heads": 8}, "scores is [3, 4, 8]; tiny needs [3, 8, 8]"),
    ],
)
def test_does_not_fit(preset, change, message):
    problems = check_fit(example(preset), replace(TINY, **change))
    assert len(problems) == 1
    assert message in str(problems[0])


def test_sizes_are_held_against_the_model_when_nothing_is_required():
    wide = replace(TINY, head_dim=32)
    dpe = replace(example("dpe"), requires={})
    dprope = replace(example("dprope-solved"), requires={})
    assert "ends at 8; end it at head_dim/2 = 16" in str(*check_fit(dpe, wide))
    assert "has 8 factors; give one for each of 16 pairs" in str(*check_fit(dprope, wide))


# Baking


def test_dpe_is_passed_through():
    baked = bake(example("dpe"), TINY, frequencies(TINY))
    assert baked.inv_freq == frequencies(TINY)
    assert baked.tables == {}
    assert baked.parameters == {
        "local_window": 16,
        "scale_factors": [2, 8, 4, 16],
        "dimension_groups": [0, 2, 4, 6, 8],
    }


def test_selection_is_packed_as_the_contract_says(tmp_path):
    scores = np.zeros((3, 4, 8), np.float32)
    scores[0, 0] = [0, 5, 5, 5, 1, 9, 0, 0]  # 9 first, then the earlier of the equal ones
    save_file({"scores": scores}, tmp_path / "scores.safetensors")
    preset = example("dpe", "top_k=3", f"dimension_scores={tmp_path}/scores.safetensors")
    baked = bake(preset, TINY, frequencies(TINY))
    table = baked.tables["selected_pairs"]
    packed = base64.b64decode(table["bits"])
    assert table["shape"] == [3, 4, 8]
    assert packed == bytes([0b00100110] + [0b00000111] * 11)
    assert "dimension_scores" not in baked.parameters
    assert baked.parameters["top_k"] == 3
    json.dumps([baked.parameters, baked.inv_freq, baked.tables])


def scores_file(path, kind):
    if kind == "garbage":
        path.write_bytes(b"no safetensors at all")
    elif kind == "another name":
        save_file({"norms": np.ones((3, 4, 8), np.float32)}, path)
    elif kind == "integers":
        save_file({"scores": np.ones((3, 4, 8), np.int32)}, path)
    elif kind == "nan":
        save_file({"scores": np.full((3, 4, 8), np.nan, np.float32)}, path)
    elif kind == "bfloat16":
        torch = pytest.importorskip("torch")
        from safetensors.torch import save_file as save

        save({"scores": torch.ones(3, 4, 8, dtype=torch.bfloat16)}, path)


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("garbage", "cannot be read"),
        ("another name", "has no tensor 'scores', only ['norms']"),
        ("integers", "scores is of type int32; write it as float32"),
        ("nan", "scores holds NaN or infinity"),
        ("bfloat16", "write"),
    ],
)
def test_scores_that_cannot_be_used(tmp_path, kind, message):
    file = tmp_path / "scores.safetensors"
    scores_file(file, kind)
    preset = example("dpe", "top_k=3", f"dimension_scores={file}")
    with pytest.raises(InvalidPreset) as caught:
        bake(preset, TINY, frequencies(TINY))
    assert message in str(caught.value)
    assert str(caught.value).startswith("--set dimension_scores: parameters.dimension_scores: ")
    assert [str(problem) for problem in check_fit(preset, TINY)] == [str(caught.value)]


def test_dprope_is_solved():
    from ropext.converter.methods.dprope_solver import solve

    baked = bake(example("dprope"), TINY, frequencies(TINY))
    solution = solve(frequencies(TINY), 64, 256)
    assert baked.parameters["scaling_factors"] == solution.factors.tolist()
    assert baked.parameters["scaling_factor"] == 4.0
    np.testing.assert_allclose(baked.inv_freq, solution.inv_freq, rtol=1e-11)
    assert baked.notes == ("7 of 8 frequency pairs changed, the largest divided by 4",)


def test_dprope_takes_a_finished_solution():
    baked = bake(example("dprope-solved"), TINY, [1.0] * 8)
    assert baked.parameters["scaling_factors"] == [1, 1, 1, 2.5, 4, 4, 4, 4]
    assert baked.inv_freq == [1, 1, 1, 0.4, 0.25, 0.25, 0.25, 0.25]


def test_gali_is_passed_through():
    preset = example("gali")
    baked = bake(preset, TINY, frequencies(TINY))
    assert baked.parameters == preset.parameters
    assert baked.inv_freq == frequencies(TINY)


# YAML


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


# Commands


def test_presets_list():
    table = ropext("presets", "list")
    assert table.exit_code == 0
    assert all(preset.name in table.stdout and preset.description in table.stdout for preset in SHIPPED)
    records = json.loads(ropext("presets", "list", "--json").stdout)
    assert [record["name"] for record in records] == [preset.name for preset in SHIPPED]


def test_presets_list_is_filtered(tiny_llama):
    def names(*args):
        return [record["name"] for record in json.loads(ropext("presets", "list", "--json", *args).stdout)]

    assert names("--method", "rerope") == ["smollm2-135m-rerope"]
    assert names("--model", "SMOLLM2", "--method", "dpe") == ["smollm2-135m-dpe", "smollm2-135m-dpe-512"]
    assert names("--model", "meta-llama/Meta-Llama-3-8B") == [p.name for p in SHIPPED if "Llama-3-8B" in p.base_model]
    assert names("--fits", tiny_llama) == []
    edit_config(tiny_llama, hidden_size=576, num_attention_heads=9, num_key_value_heads=3, head_dim=64)
    edit_config(tiny_llama, rope_theta=100000.0, max_position_embeddings=8192)
    assert "smollm2-135m-dpe" in names("--fits", tiny_llama)
    assert ropext("presets", "list", "--method", "yarm").stderr.startswith("error: unknown method 'yarm'; did you mean")
    assert "no shipped preset is like that" in ropext("presets", "list", "--model", "nothing").stderr


def test_presets_list_is_a_table():
    lines = ropext("presets", "list", "--method", "rerope").stdout.splitlines()
    assert lines[0].split() == ["NAME", "METHOD", "BASE", "MODEL", "TOKENS", "DESCRIPTION"]
    assert lines[1].split()[:2] == ["smollm2-135m-rerope", "rerope"]
    assert "8k -> 16k" in lines[1]


def test_presets_show_is_verbatim():
    assert ropext("presets", "show", "llama3-8b-dpe").stdout == load_preset("llama3-8b-dpe").text
    missed = ropext("presets", "show", "llama3-8b-dep")
    assert missed.exit_code == 2
    assert missed.stderr.startswith("error: unknown preset 'llama3-8b-dep'; did you mean")


def test_schema():
    assert json.loads(ropext("schema").stdout)["title"] == "ropext preset"
    assert json.loads(ropext("schema", "dpe").stdout)["title"] == "DPE parameters"
    missed = ropext("schema", "dep")
    assert (missed.exit_code, missed.stdout) == (2, "")
    assert f"unknown method 'dep'; did you mean 'dpe'? there are {', '.join(METHODS)}" in missed.stderr


def test_validate_reports_every_file():
    files = [
        str(EXAMPLES / "valid" / "dpe.yaml"),
        "nowhere.yaml",
        str(EXAMPLES / "invalid" / "groups-end.yaml"),
    ]
    result = ropext("validate", *files, "smollm2-135m-dpe")
    assert result.exit_code == 2
    assert f"{files[0]}: valid (dpe, 64 -> 256 tokens)" in result.stdout
    assert "smollm2-135m-dpe: valid" in result.stdout
    assert len(result.stderr.splitlines()) == 2
    assert "error: nowhere.yaml: there is no preset file" in result.stderr
    assert "Traceback" not in result.stderr


def test_validate_against_a_model(monkeypatch):
    from ropext.converter.checkpoint import facts as model_facts

    monkeypatch.setattr(model_facts, "read_facts", lambda source: replace(TINY, source=source))
    assert ropext("validate", str(EXAMPLES / "valid" / "dpe.yaml"), "--model", "org/tiny").exit_code == 0
    missed = ropext("validate", "smollm2-135m-dpe", "--model", "org/tiny")
    assert missed.exit_code == 2
    assert "requires.head_dim: is 64, but org/tiny has 16" in missed.stderr


# The command line itself


def test_unknown_command():
    result = ropext("conver")
    assert result.exit_code == 2
    assert "No such command 'conver'; did you mean 'convert'?" in result.stderr


def test_version_and_help():
    assert ropext("--version").stdout == "ropext 0.1.0\n"
    listed = ropext("--help").stdout
    assert all(command in listed for command in ("convert", "inspect", "presets", "validate", "schema", "demo"))


@pytest.mark.parametrize(
    ("error", "message", "status"),
    [
        (RopextError("the disk is odd"), "error: the disk is odd\n", 1),
        (UsageError("say what"), "error: say what\n", 2),
        (OSError(28, "No space left on device", "out/x"), "error: out/x: No space left on device\n", 1),
        (PermissionError(13, "Permission denied", "out"), "error: out: Permission denied\n", 1),
        (KeyboardInterrupt(), "\ninterrupted\n", 130),
        (BrokenPipeError(32, "Broken pipe"), "", 1),
        (ZeroDivisionError("oh"), "error: ZeroDivisionError: oh (a fault of ropext: run again with", 1),
    ],
)
def test_failures_are_messages(monkeypatch, error, message, status):
    def fail(method):
        raise error

    monkeypatch.setattr(app.main.get_command(None, "schema"), "callback", fail)
    result = ropext("schema")
    assert result.exit_code == status
    assert result.stderr.startswith(message)
    assert "Traceback" not in result.stderr
    if isinstance(error, Exception) and not isinstance(error, BrokenPipeError):
        assert "Traceback" in ropext("schema", "--traceback").stderr


@pytest.mark.parametrize(
    "command", [[], ["convert"], ["inspect"], ["presets"], ["presets", "list"], ["validate"], ["schema"]]
)
def test_help_is_light(command):
    heavy = ["torch", "transformers", "numpy", "huggingface_hub"]
    code = f"""
import sys
from ropext.converter.cli.app import main
try:
    main({[*command, "--help"]})
finally:
    print([name for name in {heavy} if name in sys.modules], file=sys.stderr)
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stderr == "[]\n"
    assert run.stdout.startswith("Usage:")


def test_runs_as_a_module():
    run = subprocess.run(
        [sys.executable, "-m", "ropext.converter", "--version"], capture_output=True, text=True, check=True
    )
    assert run.stdout == "ropext 0.1.0\n"
