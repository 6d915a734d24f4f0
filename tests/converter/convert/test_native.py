"""Native exports: frequency methods in stock keys, which stock classes read as the shipped code computes them."""

import json
import warnings

import pytest
import torch
from click.testing import CliRunner
from transformers import AutoModelForCausalLM, LlamaForCausalLM

from ropext.converter.cli.app import main
from ropext.converter.convert.api import convert_checkpoint
from ropext.converter.convert.config import GUARD
from ropext.converter.convert.native import require_native
from ropext.converter.converted.inspect import inspect_source, render
from ropext.converter.errors import RopextError, UsageError
from ropext.converter.methods.registry import FREQUENCY_METHODS
from ropext.converter.methods.schemas import METHODS
from ropext.converter.model_classes import configuration_class, model_class
from ropext.converter.presets.load import load_preset
from ropext.converter.verify.checks import verify
from tests.helpers import tiny, zoo, zoo_composites
from tests.helpers.checkpoints import LLAMA3, edit_config
from tests.modeling.test_frequencies import oracle
from tests.modeling.test_loading import preset_file
from tests.reference.rope import llama_logits

pytestmark = pytest.mark.usefixtures("no_grad")
LINEAR = {"rope_type": "linear", "factor": 2.0}
CASES = [
    ("linear", {}, None),
    ("linear", {"scaling_factor": 6.5}, None),
    ("linear", {}, LLAMA3),
    ("linear", {}, LINEAR),
    ("ntk", {}, None),
    ("ntk", {}, LLAMA3),
    ("dynamic_ntk", {}, None),
    ("dynamic_ntk", {"scaling_factor": 1.5}, None),
    ("yarn", {}, None),
    ("yarn", {"scaling_factor": 6.5, "attention_factor": 1.25}, None),
    ("yarn", {"beta_fast": 16, "beta_slow": 2, "truncate": False}, None),
    ("dprope", {}, None),
    ("dprope", {}, LLAMA3),
]


def convert(source, folder, method, *, native, initial=tiny.INITIAL_WINDOW, **parameters):
    file = preset_file(folder, f"tiny-{method}", method, parameters)
    preset = load_preset(str(file), [f"initial_window={initial}"])
    output = folder / ("native" if native else "remote")
    return convert_checkpoint(preset, str(source), output, native=native).output


def config_of(folder):
    return json.loads((folder / "config.json").read_text())


@pytest.mark.parametrize(("method", "parameters", "scaling"), CASES)
def test_stock_classes_give_the_same_logits(method, parameters, scaling, tiny_llama, tmp_path):
    edit_config(tiny_llama, rope_scaling=scaling)
    stock = LlamaForCausalLM.from_pretrained(convert(tiny_llama, tmp_path, method, native=True, **parameters)).eval()
    shipped, _ = tiny.from_folder(convert(tiny_llama, tmp_path, method, native=False, **parameters))
    # On a scaled base there are frequencies that no factor hits: they are off by one unit in the last place.
    tolerance = 1e-4 if scaling else 2e-5
    for length in (40, 200):  # in this order: after a long prompt transformers 5.0.0 stays with its theta
        ids = tiny.tokens(length)
        torch.testing.assert_close(stock(ids).logits, shipped(ids).logits, atol=tolerance, rtol=0)


@pytest.mark.parametrize("method", ["linear", "ntk", "dynamic_ntk", "yarn"])
def test_stock_classes_equal_the_naive_oracle(method, tiny_llama, tmp_path):
    native = convert(tiny_llama, tmp_path, method, native=True)
    ids = tiny.tokens(200)
    pair_logit = oracle(config_of(native)["rope_ext"], 200)
    expected = llama_logits(tiny.base(dtype=torch.float64), ids[0], pair_logit).float()
    stock = LlamaForCausalLM.from_pretrained(native).eval()
    torch.testing.assert_close(stock(ids).logits[0], expected, atol=2e-4, rtol=0)


def test_a_window_below_the_trained_length(tiny_llama, tmp_path):
    for method in ("dynamic_ntk", "yarn"):
        folder = tmp_path / method
        folder.mkdir()
        stock = LlamaForCausalLM.from_pretrained(convert(tiny_llama, folder, method, native=True, initial=32)).eval()
        shipped, _ = tiny.from_folder(convert(tiny_llama, folder, method, native=False, initial=32))
        ids = tiny.tokens(150)
        torch.testing.assert_close(stock(ids).logits, shipped(ids).logits, atol=2e-5, rtol=0)


def test_a_sliding_window_stays(tiny_llama, tmp_path):
    edit_config(tiny_llama, model_type="mistral", architectures=["MistralForCausalLM"], sliding_window=16)
    native = convert(tiny_llama, tmp_path, "linear", native=True)
    assert config_of(native)["sliding_window"] == 16
    checked = verify(str(native))  # a window of fewer tokens than are compared
    assert (checked.verdict, checked.unchecked) == ("incomplete", ["reference"])
    stock = AutoModelForCausalLM.from_pretrained(tiny_llama)
    scaled = AutoModelForCausalLM.from_pretrained(native)
    ids = tiny.tokens(80)
    scaled.model.rotary_emb.inv_freq = stock.model.rotary_emb.inv_freq
    torch.testing.assert_close(scaled(ids).logits, stock(ids).logits)  # nothing but the frequencies differs


@pytest.mark.parametrize("method", FREQUENCY_METHODS)
def test_nothing_of_ours_is_needed(method, tiny_llama, tmp_path):
    native = convert(tiny_llama, tmp_path, method, native=True)
    config, text = config_of(native), (native / "config.json").read_text()
    assert not list(native.glob("*.py"))
    assert "auto_map" not in config
    assert GUARD not in text
    assert config["architectures"] == ["LlamaForCausalLM"]
    assert config["hidden_act"] == "silu"
    assert config["rope_ext"]["initial_window"] == tiny.INITIAL_WINDOW
    assert config["rope_ext"]["base"]["rope_theta"] == 10000.0
    assert type(AutoModelForCausalLM.from_pretrained(native)) is LlamaForCausalLM
    card = (native / "README.md").read_text()
    assert "trust_remote_code" not in card
    assert "custom_code" not in card
    assert "native export" in card
    assert "--native" in card
    assert json.loads((native / "ropext.json").read_text())["native"] is True


def test_the_block_is_the_same_as_without(tiny_llama, tmp_path):
    blocks = [config_of(convert(tiny_llama, tmp_path, "yarn", native=native))["rope_ext"] for native in (True, False)]
    assert blocks[0] == blocks[1]


@pytest.mark.parametrize(
    ("method", "scaling", "theta", "length"),
    [
        ("linear", {"rope_type": "linear", "factor": 4.0}, 10000.0, 256),
        ("ntk", None, pytest.approx(10000 * 4 ** (16 / 14), rel=1e-6), 256),
        ("dynamic_ntk", {"rope_type": "dynamic", "factor": 4.0}, 10000.0, 64),
        (
            "yarn",
            {
                "rope_type": "yarn",
                "factor": 4.0,
                "original_max_position_embeddings": 64,
                "attention_factor": pytest.approx(1.138629436),
                "beta_fast": 32.0,
                "beta_slow": 1.0,
            },
            10000.0,
            256,
        ),
    ],
)
def test_both_spellings(method, scaling, theta, length, tiny_llama, tmp_path):
    config = config_of(convert(tiny_llama, tmp_path, method, native=True))
    assert config["rope_theta"] == theta
    assert config["rope_scaling"] == (scaling and {**scaling, "type": scaling["rope_type"]})
    assert config["rope_parameters"] == {**(scaling or {"rope_type": "default"}), "rope_theta": theta}
    assert config["max_position_embeddings"] == length


def test_dprope_is_a_longrope_of_one_set_of_factors(tiny_llama, tmp_path):
    config = config_of(convert(tiny_llama, tmp_path, "dprope", native=True))
    scaling, block = config["rope_scaling"], config["rope_ext"]
    assert scaling["rope_type"] == scaling["type"] == "longrope"
    assert scaling["short_factor"] == scaling["long_factor"]
    assert scaling["short_factor"] == pytest.approx(block["parameters"]["scaling_factors"], rel=1e-7)
    assert (scaling["factor"], scaling["attention_factor"]) == (1.0, 1.0)
    assert scaling["original_max_position_embeddings"] == config["max_position_embeddings"] == 256


def test_another_attention_factor_is_written_for_vllm_too(tiny_llama, tmp_path):
    config = config_of(convert(tiny_llama, tmp_path, "yarn", native=True, attention_factor=1.0))
    assert config["rope_scaling"]["attention_factor"] == 1.0
    assert config["rope_scaling"]["attn_factor"] == pytest.approx(1 / 1.138629436)


def test_yarn_needs_a_whole_length(tiny_llama, tmp_path):
    with pytest.raises(RopextError, match=r"4\.01 times initial_window 64 is no whole number .* set scaling_factor to"):
        convert(tiny_llama, tmp_path, "yarn", native=True, scaling_factor=4.01)
    assert not (tmp_path / "native").exists()


def test_a_guarded_key_that_the_base_does_not_have_is_left_out(tiny_llama, tmp_path):
    edit_config(tiny_llama, hidden_act=None)
    assert "hidden_act" not in config_of(convert(tiny_llama, tmp_path, "ntk", native=True))


@pytest.mark.parametrize("method", sorted(set(METHODS) - set(FREQUENCY_METHODS)))
def test_other_methods_are_refused(method):
    with pytest.raises(UsageError, match=f"{method} changes attention itself.* {', '.join(FREQUENCY_METHODS)}"):
        require_native(method)


def test_the_command(tiny_llama, tiny_preset, tmp_path):
    run = CliRunner().invoke(main, ["convert", str(tiny_llama), "-p", str(tiny_preset), "-o", "x", "--native"])
    assert run.exit_code == 2
    assert run.stderr.startswith("error: --native: dpe changes attention itself")
    file = preset_file(tmp_path, "tiny-ntk", "ntk", {})
    output = tmp_path / "native"
    run = CliRunner().invoke(main, ["convert", str(tiny_llama), "-p", str(file), "-o", str(output), "--native"])
    assert run.exit_code == 0, run.stderr
    assert f'from_pretrained("{output}")' in run.stdout
    assert "trust_remote_code" not in run.stdout


def test_inspect(tiny_llama, tmp_path):
    native = convert(tiny_llama, tmp_path, "linear", native=True)
    report = inspect_source(str(native))
    assert (report["kind"], report["native"], report["method"], report["code"]) == ("converted", True, "linear", {})
    assert "native" in render(report)
    assert inspect_source(str(convert(tiny_llama, tmp_path, "linear", native=False)))["native"] is False


def test_is_no_source_for_another_conversion(tiny_llama, tmp_path):
    native = convert(tiny_llama, tmp_path, "linear", native=True)
    with pytest.raises(RopextError, match="converted by ropext already"):
        convert(native, tmp_path, "ntk", native=False)


@pytest.mark.parametrize(
    ("model_type", "architecture", "keys"),
    [
        ("olmo", "OlmoForCausalLM", {"type", "factor"}),
        ("olmo2", "Olmo2ForCausalLM", {"type", "factor"}),
        ("phi3", "Phi3ForCausalLM", {"type", "short_factor", "long_factor"}),
    ],
)
def test_families_whose_class_counts_the_keys_of_a_scaling(model_type, architecture, keys, tiny_llama, tmp_path):
    edit_config(tiny_llama, model_type=model_type, architectures=[architecture])
    assert config_of(convert(tiny_llama, tmp_path, "linear", native=True))["rope_scaling"].keys() == keys


def test_chunks_that_a_runtime_would_prefer_are_left_out(tiny_llama, tmp_path):
    chunks = {"chunk_size": 48, "local_size": 8}
    edit_config(tiny_llama, dual_chunk_attention_config=chunks)
    assert "dual_chunk_attention_config" not in config_of(convert(tiny_llama, tmp_path, "linear", native=True))


def test_keys_beside_a_text_model_are_written_inside_alone(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        zoo_composites.build("llava").save_pretrained(tmp_path / "llava")
    before = config_of(tmp_path / "llava")
    edit_config(tmp_path / "llava", rope_scaling=before["text_config"].get("rope_scaling"), rope_theta=10000.0)
    edit_config(tmp_path / "llava", text_config={**before["text_config"], "rope_theta": 10000.0})
    config = config_of(convert(tmp_path / "llava", tmp_path, "yarn", native=True, initial=128, scaling_factor=2))
    inside = config["text_config"]
    assert not {"rope_theta", "rope_scaling", "rope_parameters"} & set(config)
    assert inside["rope_scaling"]["rope_theta"] == inside["rope_parameters"]["rope_theta"] == 10000.0
    assert inside["rope_scaling"]["factor"] == inside["rope_parameters"]["factor"] == 2.0


def test_one_theta_for_each_layer_is_refused_where_they_differ(tmp_path):
    if not zoo.available("granite_swa"):
        pytest.skip("this transformers has no granite_swa")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        zoo.build("granite_swa").save_pretrained(tmp_path / "granite_swa")
    edit_config(tmp_path / "granite_swa", layer_rope_theta=[10000.0, 500.0, 500.0, 500.0])
    with pytest.raises(RopextError, match="differs from layer to layer, and no stock keys scale one layer alone"):
        convert(tmp_path / "granite_swa", tmp_path, "linear", native=True)


def test_shipped_code_does_not_scale_a_latent_attention(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        zoo.build("deepseek_v3").save_pretrained(tmp_path / "base")
    scaling = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16, "mscale_all_dim": 1.0}
    edit_config(tmp_path / "base", rope_scaling=scaling, rope_theta=10000.0, rope_parameters=None)
    with pytest.raises(UsageError, match=r"follows yarn's factor \(mscale_all_dim\).* add --native"):
        convert(tmp_path / "base", tmp_path, "yarn", native=False)
    with pytest.raises(RopextError, match="only yarn keeps"):
        convert(tmp_path / "base", tmp_path, "linear", native=True)


@pytest.mark.parametrize("method", ["linear", "ntk", "dprope"])
def test_the_attention_factor_of_a_scaled_base_stays(method, tiny_llama, tmp_path):
    edit_config(tiny_llama, rope_scaling={"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64})
    native = convert(tiny_llama, tmp_path, method, native=True)
    assert config_of(native)["rope_scaling"]["attention_factor"] == pytest.approx(1.138629436)
    stock = LlamaForCausalLM.from_pretrained(native).eval()
    shipped, _ = tiny.from_folder(convert(tiny_llama, tmp_path, method, native=False))
    ids = tiny.tokens(200)
    torch.testing.assert_close(stock(ids).logits, shipped(ids).logits, atol=5e-4, rtol=0)


@pytest.mark.parametrize("name", ["glm4", "gpt_neox", "minimax_m2", "phi"])
def test_a_part_of_each_head_is_turned_as_by_the_shipped_code(name, tmp_path):
    if not zoo.available(name):
        pytest.skip(f"this transformers has no {name}")
    base = zoo.build(name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        base.save_pretrained(tmp_path / name)
    native = convert(tmp_path / name, tmp_path, "yarn", native=True, initial=64)
    remote = convert(tmp_path / name, tmp_path, "yarn", native=False, initial=64)
    stock = AutoModelForCausalLM.from_pretrained(native).eval()
    config = configuration_class(name)(**config_of(remote))
    shipped = model_class(name, "yarn").from_pretrained(remote, config=config).eval()
    ids = zoo.inputs(name, 150)
    torch.testing.assert_close(stock(**ids).logits, shipped(**ids).logits, atol=1e-4, rtol=0)
    assert not torch.allclose(stock(**ids).logits, base(**ids).logits, atol=1e-2)


@pytest.mark.parametrize(("temperature", "original"), [(False, 0), (True, tiny.INITIAL_WINDOW)])
@pytest.mark.parametrize("family", ["qwen2", "qwen3"])
def test_dca_is_written_as_runtimes_with_their_own_read_it(family, temperature, original, tiny_llama, tmp_path):
    name = family.capitalize()
    edit_config(tiny_llama, model_type=family, architectures=[f"{name}ForCausalLM"])
    dca = {"chunk_size": 48, "local_window": 8, "temperature": temperature}
    config = config_of(convert(tiny_llama, tmp_path, "dca", native=False, **dca))
    expected = {"chunk_size": 48, "local_size": 8, "original_max_position_embeddings": original}
    assert config["dual_chunk_attention_config"] == expected
    assert config["architectures"] == [f"{name}RopeExtForCausalLM"]
    # What such a runtime sees once told to take its own class: the key, and the base's values behind the guards.
    seen = configuration_class(family)(**config)
    seen.update({"architectures": [f"{name}ForCausalLM"]})
    assert (seen.dual_chunk_attention_config, seen.hidden_act) == (expected, "silu")
    assert GUARD not in str(seen.__dict__)


@pytest.mark.parametrize(
    ("family", "method", "parameters"),
    [
        ("llama", "dca", {"chunk_size": 48, "local_window": 8}),
        ("qwen2", "self_extend", {"group_size": 5, "local_window": 16}),
        ("qwen2", "dca", {"chunk_size": 48, "local_window": 8, "activate_beyond": 60}),
    ],
)
def test_what_no_runtime_has_of_its_own_is_not_written(family, method, parameters, tiny_llama, tmp_path):
    edit_config(tiny_llama, model_type=family, architectures=[f"{family.capitalize()}ForCausalLM"])
    config = config_of(convert(tiny_llama, tmp_path, method, native=False, **parameters))
    assert "dual_chunk_attention_config" not in config
