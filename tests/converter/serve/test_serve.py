"""`ropext serve`: commands with the flags that a model and a method need, or a reason and what to do instead."""

import json
import shlex

import pytest
import yaml
from click.testing import CliRunner

from ropext.converter.cli.app import main
from ropext.converter.serve import plugins
from ropext.converter.serve.api import RUNTIMES, offers_of
from tests.helpers.checkpoints import edit_config

BANDS = ("self_extend", "rerope", "string", "dpe")
PARAMETERS = {
    "self_extend": {"group_size": 8, "local_window": 16},
    "rerope": {"local_window": 16},
    "dca": {"chunk_size": 48, "local_window": 8},
    "gali": {"chunk_size": 16, "local_window": 8},
    "linear": {"scaling_factor": 4.0},
}


def run(*args):
    return CliRunner().invoke(main, [*map(str, args)])


@pytest.fixture
def convert(tiny_llama, tmp_path):
    def converted(method, *options, **parameters):
        preset = {
            "name": "tiny",
            "description": "For a test.",
            "base_model": "tiny-llama",
            "initial_window": 64,
            "target_window": 256,
            "method": method,
            "parameters": PARAMETERS.get(method, {}) | parameters,
        }
        (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(preset))
        folder = tmp_path / "it's out"
        result = run("convert", tiny_llama, "-p", tmp_path / "tiny.yaml", "-o", folder, "--force", *options)
        assert result.exit_code == 0, result.output
        return folder, result.output

    return converted


@pytest.fixture
def plugin(monkeypatch):
    monkeypatch.setattr(plugins, "_vllm_families", lambda: {"Llama": ("llama", "LlamaForCausalLM")})


def served(folder):
    result = run("serve", folder, "--json")
    assert result.exit_code == 0, result.output
    assert "grp-attn" not in "".join(line for each in json.loads(result.output) for line in each["commands"])
    return {each["runtime"]: each for each in json.loads(result.output)}


def words(offer):
    """The last command, split as a shell does."""
    return shlex.split(offer["commands"][-1])


def flags(offer):
    """What follows each option of the last command."""
    found = words(offer)
    return {word: found[index + 1] for index, word in enumerate(found[:-1]) if word.startswith("-")}


def test_a_base(tiny_llama):
    found = served(tiny_llama)
    assert set(found) == set(RUNTIMES)
    assert all(each["able"] for each in found.values())
    assert words(found["vllm"]) == ["vllm", "serve", str(tiny_llama), "--max-model-len", "64"]
    assert words(found["llama.cpp"]) == ["llama-server", "-m", "base.gguf", "-c", "64"]
    assert "--trust-remote-code" not in str(found)


@pytest.mark.parametrize("method", ["self_extend", "rerope"])
def test_a_method_that_pages_can_hold(convert, plugin, method):
    folder, ended = convert(method)
    found = served(folder)
    assert words(found["vllm"]) == ["vllm", "serve", str(folder), "--trust-remote-code", "--max-model-len", "256"]
    assert found["vllm"]["commands"][0] == "pip install 'ropext[vllm]'"
    assert found["vllm"]["commands"][-1] in ended
    assert "LlamaRopeExtForCausalLM = transformers.AutoModelForCausalLM" in found["transformers"]["files"]["serve.py"]
    assert not found["sglang"]["able"]
    assert not found["llama.cpp"]["able"]
    assert "sglang" not in ended
    assert "yarn" in found["sglang"]["instead"]
    assert "vLLM or transformers" in found["sglang"]["instead"]


def test_a_method_that_pages_cannot_hold(convert, plugin):
    folder, ended = convert("gali")
    offer = served(folder)["vllm"]
    assert not offer["able"]
    assert "gali" in offer["why"]
    assert "vLLM" not in served(folder)["sglang"]["instead"]
    assert "vllm serve" not in ended
    refused = run("serve", folder, "--runtime", "vllm")
    assert refused.exit_code == 1
    assert offer["why"] in refused.output
    assert offer["instead"] in refused.output
    assert run("serve", folder, "--runtime", "vllm", "--json").exit_code == 1


@pytest.mark.parametrize(
    ("parameters", "why"),
    [
        ({}, ""),
        ({"activate_beyond": 32}, ""),
        ({"temperature": True}, "temperature"),
        ({"activate_beyond": 33}, "takes exact keys too"),
        ({"chunk_size": 44}, "stride, 36 tokens, is not a multiple"),
    ],
)
def test_chunks_in_pages(plugin, parameters, why):
    block = {"method": "dca", "parameters": {"chunk_size": 40, "local_window": 8, **parameters}}
    found = plugins.vllm_refusal({"model_type": "llama", "rope_ext": block})
    assert why in found
    assert bool(found) == bool(why)


def test_a_family_that_the_plugin_does_not_know(convert, monkeypatch):
    monkeypatch.setattr(plugins, "_vllm_families", dict)
    folder, _ = convert("rerope")
    assert "not tried with llama" in served(folder)["vllm"]["why"]


@pytest.mark.parametrize(
    ("block", "why"),
    [
        ({"parameters": {"top_k": 4}}, "top_k"),
        ({"parameters": {"regions": [{}, {}]}}, "these regions need more"),
        ({"parameters": {"tail": 8}}, "these regions need more"),
        ({"parameters": {"length_step": 8}}, "with length_step"),
        ({"base": {"place": "text_config"}}, "images"),
        ({"pairs": {"norms_after": ["a", "b"]}}, "norm between"),
    ],
)
def test_what_the_plugin_refuses(plugin, block, why):
    config = {"model_type": "llama", "rope_ext": {"method": "dpe", **block}}
    assert why in plugins.vllm_refusal(config)


def test_mlx_asks_the_folder(convert):
    folder, _ = convert("rerope")
    edit_config(folder, model_file=None)
    assert "no file for MLX" in served(folder)["mlx"]["why"]
    edit_config(folder, model_file="mlx_rope_ext.py")
    offer = served(folder)["mlx"]
    assert words(offer)[-1] == "--trust-remote-code"
    assert offer["commands"][0] == "pip install 'mlx-lm>=0.32'"


@pytest.mark.parametrize("beside", [False, True])
def test_a_theta_that_mlx_may_not_find(beside):
    config = {"rope_parameters": {"rope_theta": 5e5, "rope_type": "default"}} | ({"rope_theta": 5e5} if beside else {})
    (offer,) = offers_of(config, "folder", "mlx")
    assert ("rope_parameters alone" in str(offer.notes)) is not beside


def test_a_frequency_method_with_code_is_told_of_native(convert):
    folder, _ = convert("yarn")
    for runtime in ("sglang", "llama.cpp"):
        assert "--native" in served(folder)[runtime]["instead"]


def test_yarn_in_stock_keys(convert):
    folder, ended = convert("yarn", "--native")
    found = served(folder)
    assert words(found["vllm"]) == ["vllm", "serve", str(folder), "--max-model-len", "256"]
    assert words(found["transformers"]) == ["transformers", "serve", str(folder)]
    assert flags(found["sglang"])["--context-length"] == "256"
    assert flags(found["llama.cpp"]) == {
        "-m": "base.gguf",
        "-c": "256",
        "--rope-scaling": "yarn",
        "--rope-scale": "4",
        "--yarn-orig-ctx": "64",
    }
    for each in found.values():
        assert each["commands"][-1] in ended


def test_yarn_with_numbers_of_its_own(convert):
    folder, _ = convert("yarn", "--native", attention_factor=1.0, beta_fast=16.0)
    found = flags(served(folder)["llama.cpp"])
    assert float(found["--yarn-attn-factor"]) == pytest.approx(1 / 1.1386294, rel=1e-6)
    assert found["--yarn-beta-fast"] == "16"


def test_other_frequencies_in_llama_cpp(convert):
    assert flags(served(convert("linear", "--native")[0])["llama.cpp"])["--rope-scale"] == "4"
    folder, _ = convert("ntk", "--native")
    theta = json.loads((folder / "config.json").read_text())["rope_theta"]
    assert float(flags(served(folder)["llama.cpp"])["--rope-freq-base"]) == theta
    patched = served(convert("dprope", "--native")[0])["llama.cpp"]["commands"]
    assert patched[1] == "ropext gguf-patch base.gguf longer.gguf --preset tiny"


@pytest.mark.parametrize(("kind", "able"), [("yarn", True), ("linear", False), ("longrope", False)])
def test_latent_attention_that_reads_every_scaling_as_yarn(kind, able):
    block = {"method": "linear", "target_window": 256}
    config = {"kv_lora_rank": 8, "rope_parameters": {"rope_type": kind, "factor": 4.0}, "rope_ext": block}
    for runtime in ("vllm", "sglang"):
        (offer,) = offers_of(config, "folder", runtime)
        assert offer.able is able
        assert able or f"read rope_type {kind} as yarn" in offer.why


def test_a_theta_that_grows(convert):
    folder, _ = convert("dynamic_ntk", "--native")
    found = served(folder)
    assert not found["mlx"]["able"]
    assert not found["llama.cpp"]["able"]
    overrides = json.loads(flags(found["vllm"])["--hf-overrides"])
    assert overrides["max_position_embeddings"] == 256
    assert overrides["rope_parameters"]["max_trained_positions"] == 64
    assert overrides["rope_parameters"]["rope_theta"] == 10000.0


def test_flags_that_hold_for_every_layer(convert):
    folder, _ = convert("linear", "--native")
    config = json.loads((folder / "config.json").read_text())
    config["rope_ext"]["pairs"]["layers"] = [0]
    edit_config(folder, rope_ext=config["rope_ext"])
    assert "every layer" in served(folder)["llama.cpp"]["why"]


def test_what_is_no_model(tmp_path):
    result = run("serve", tmp_path)
    assert result.exit_code == 1
    assert "no config.json" in result.output


@pytest.mark.parametrize(
    "keys",
    [
        {"rope_scaling": ["linear"], "rope_theta": None},
        {"rope_ext": {"method": "dpe", "target_window": 256}, "auto_map": {}, "architectures": None},
        {"rope_ext": {"method": "dpe", "target_window": 256}, "auto_map": {}, "architectures": [7]},
        {"rope_ext": []},
        {"rope_ext": None},
    ],
)
def test_keys_that_are_not_as_they_have_to_be(tiny_llama, keys):
    file = tiny_llama / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **keys}))
    result = run("serve", tiny_llama)
    assert result.exit_code == 1
    assert "config.json: " in result.stderr
    assert "fault of ropext" not in result.stderr
