"""What a conversion decides, before it writes."""

import ast
import json
from importlib import resources

import pytest

from ropext.converter import model_code
from ropext.converter.checkpoint.description import base_inv_freq, describe
from ropext.converter.checkpoint.read import read_checkpoint
from ropext.converter.convert.config import GUARD, without_window
from ropext.converter.convert.plan import make_plan
from ropext.converter.errors import RopextError
from ropext.converter.methods.registry import bake
from ropext.converter.methods.schemas import METHODS
from ropext.converter.presets.load import load_preset
from tests.helpers.checkpoints import LLAMA3, edit_config, shard


@pytest.fixture
def plan(tiny_llama, tiny_preset):
    """Return a function that plans the conversion of `tiny_llama`."""

    def make(*overrides, local=None):
        preset = load_preset(str(tiny_preset), overrides)
        checkpoint = read_checkpoint(tiny_llama)
        baked = bake(preset, checkpoint.facts, base_inv_freq(checkpoint.config))
        return make_plan(preset, checkpoint, baked, local)

    return make


def content(plan, path):
    return next(file.content for file in plan.files if file.path == path)


# config.json


def test_config_follows_the_contract(plan, tiny_llama):
    before = json.loads((tiny_llama / "config.json").read_text())
    config = json.loads(content(plan(), "config.json"))
    del config["rope_ext"]
    assert config == {
        **before,
        "architectures": ["LlamaRopeExtForCausalLM"],
        "auto_map": {
            "AutoConfig": "configuration_llama_ext.LlamaRopeExtConfig",
            "AutoModel": "modeling_llama_ext.LlamaRopeExtModel",
            "AutoModelForCausalLM": "modeling_llama_ext.LlamaRopeExtForCausalLM",
            "AutoModelForQuestionAnswering": "modeling_llama_ext.LlamaRopeExtForQuestionAnswering",
            "AutoModelForSequenceClassification": "modeling_llama_ext.LlamaRopeExtForSequenceClassification",
            "AutoModelForTokenClassification": "modeling_llama_ext.LlamaRopeExtForTokenClassification",
        },
        "dtype": "float32",
        "hidden_act": GUARD,
        "max_position_embeddings": 256,
        "model_file": "mlx_rope_ext.py",
        "rope_parameters": {"rope_type": GUARD, "rope_theta": 10000.0},
        "rope_scaling": {"rope_type": GUARD},
    }


def test_its_block_follows_the_contract(plan, tiny_llama):
    before = json.loads((tiny_llama / "config.json").read_text())
    assert json.loads(content(plan(), "config.json"))["rope_ext"] == {
        "format": 2,
        "ropext_version": "0.1.0",
        "method": "dpe",
        "preset": "tiny-dpe",
        "initial_window": 64,
        "target_window": 256,
        "parameters": {
            "local_window": 16,
            "scale_factors": [2, 8, 4, 16],
            "dimension_groups": [0, 2, 4, 6, 8],
        },
        "inv_freq": base_inv_freq(before),
        "pairs": {"layers": [0, 1, 2], "layout": "halves", "first": 0, "sign": 1, "inv_freq": base_inv_freq(before)},
        "tables": {},
        "base": {
            "hidden_act": "silu",
            "rope_theta": 10000.0,
            "rope_scaling": None,
            "architectures": ["LlamaForCausalLM"],
            "max_position_embeddings": 64,
        },
    }


def test_guard_is_the_one_that_the_model_code_expects():
    source = resources.files("ropext.modeling").joinpath("configuration_llama_ext.py").read_text()
    constants = {node.value for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Constant)}
    assert GUARD in constants


def test_scaled_base_is_kept_and_its_window_not_shortened(plan, tiny_llama):
    edit_config(
        tiny_llama,
        rope_theta=None,
        torch_dtype=None,
        dtype="bfloat16",
        rope_parameters={**LLAMA3, "rope_theta": 10000.0},
        max_position_embeddings=4096,
    )
    config = plan().config
    assert config["rope_ext"]["base"]["rope_scaling"] == LLAMA3
    assert config["rope_theta"] == 10000.0
    assert config["max_position_embeddings"] == 4096
    assert (config["dtype"], config["torch_dtype"]) == ("bfloat16", "bfloat16")
    plain = base_inv_freq({"model_type": "llama", "head_dim": 16})
    assert config["rope_ext"]["inv_freq"] != plain


def test_other_keys_pass_through_but_windows_slide_no_more(plan, tiny_llama):
    quantization = {"quant_method": "gptq", "bits": 4}
    edit_config(
        tiny_llama,
        quantization_config=quantization,
        sliding_window=32,
        use_sliding_window=True,
        layer_types=["sliding_attention", "full_attention", "full_attention"],
        rms_norm_eps=1e-5,
        novel={"impl": "org/code"},
    )
    planned = plan()
    config = planned.config
    assert config["quantization_config"] == quantization
    assert config["rms_norm_eps"] == 1e-5
    assert "novel" not in config
    assert any(note.endswith("no class of this family knows them: novel") for note in planned.notes)
    assert config["sliding_window"] is None
    assert config["use_sliding_window"] is False
    assert config["layer_types"] == ["full_attention"] * 3


@pytest.mark.parametrize("before", [["full_attention"] * 3, ["sliding_attention"] * 3])
def test_a_window_stays_where_types_of_layers_alone_choose_it(before):
    """Classes that make a mask for layers that slide, whether there are any or not, do not run without one."""
    text = {"model_type": "gemma2", "num_hidden_layers": 3, "sliding_window": 8, "layer_types": before}
    assert without_window(text, describe(text)) == {"layer_types": ["full_attention"] * 3}


def test_changes_are_listed(plan):
    changes = {key: (before, after) for key, before, after in plan().config_changes}
    assert changes["max_position_embeddings"] == (64, 256)
    assert changes["hidden_act"] == ("silu", GUARD)
    assert "rope_theta" not in changes
    assert "_name_or_path" not in changes


# Files


def test_actions(plan, tiny_llama):
    shard(tiny_llama)
    (tiny_llama / "LICENSE").write_text("terms")
    (tiny_llama / "tokenizer.json").write_text("{}")
    (tiny_llama / "tokenizer_config.json").write_text('{"tokenizer_class": "X"}')
    actions = {file.path: file.action for file in plan().files}
    code = dict.fromkeys(model_code.code("llama", "dpe"), "generate")
    assert actions == {
        "LICENSE": "copy",
        "LICENSE.ropext": "generate",
        "README.md": "generate",
        "config.json": "generate",
        "generation_config.json": "copy",
        "model-00001-of-00002.safetensors": "link",
        "model-00002-of-00002.safetensors": "link",
        "model.safetensors.index.json": "copy",
        "ropext.json": "generate",
        "tokenizer.json": "copy",
        "tokenizer_config.json": "copy",
        **code,
    }
    assert list(actions)[-1] == "config.json"


def test_code_is_shipped_byte_for_byte_under_a_line_of_its_origin(plan):
    files = {file.path: file.content for file in plan().files if file.path.endswith(".py")}
    assert files == model_code.code("llama", "dpe")
    assert {"modeling_llama_ext.py", "configuration_llama_ext.py", "rope_ext_dpe.py"} <= set(files)
    package = resources.files("ropext.modeling")
    origin, _, _ = files["rope_ext_dpe.py"].partition(b"\n")
    assert origin.startswith(b"# Made by ropext 0.1.0")
    made = {"modeling_llama_ext.py", "mlx_rope_ext.py"}  # with an import of each sibling; joined of two
    assert all(
        data == origin + b"\n" + package.joinpath(name).read_bytes() for name, data in files.items() if name not in made
    )
    imported = {
        f"{node.module}.py"
        for data in files.values()
        for node in ast.walk(ast.parse(data))
        if isinstance(node, ast.ImportFrom) and node.level
    }
    assert imported == set(files) - made


def test_what_the_method_does_not_need_is_not_shipped(plan):
    files = {file.path for file in plan().files}
    others = {f"rope_ext_{method}.py" for method in METHODS if method != "dpe"}
    assert not files & others
    assert not files & {"rope_ext_frequencies.py", "rope_ext_noise.py"}


@pytest.fixture
def no_modeling(tmp_path, monkeypatch):
    """An installation in which a file of `modeling/` imports one that is missing."""
    for name in ("modeling_llama_ext.py", "configuration_llama_ext.py", "rope_ext_frequencies.py"):
        (tmp_path / name).write_text("class Attachment:\n    pass\n")
    (tmp_path / "rope_ext_linear.py").write_text("from .rope_ext_gone import nothing\n")
    caches = (model_code._read, model_code.code)
    monkeypatch.setattr(model_code.resources, "files", lambda package: tmp_path)
    for cache in caches:
        cache.cache_clear()
    yield
    for cache in caches:
        cache.cache_clear()


@pytest.mark.usefixtures("no_modeling")
def test_missing_sibling_is_an_error():
    with pytest.raises(RopextError, match=r"rope_ext_gone.py is missing; install it again"):
        model_code.code("llama", "linear")


def test_plan_as_json(plan):
    report = json.loads(json.dumps(plan().to_json()))
    assert report["bytes"]["link"] == 439032
    assert {
        "path": "model.safetensors",
        "action": "link",
        "bytes": 439032,
        "why": "weights, as they are",
    } in (report["files"])


# The tokenizer and the record


def test_tokenizer_without_a_config_gets_one(plan, tiny_llama):
    (tiny_llama / "tokenizer.json").write_text("{}")
    assert json.loads(content(plan(), "tokenizer_config.json")) == {"tokenizer_class": "LlamaTokenizerFast"}


def test_provenance_names_no_path_of_this_machine(plan, tmp_path):
    assert str(tmp_path) not in plan().record_of([]).dump().decode()
