"""Quantized bases: weights and settings pass through, and the stock quantizers load what comes out."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    AutoModelForCausalLM,
    BitsAndBytesConfig,
    LlamaConfig,
    LlamaForCausalLM,
    TorchAoConfig,
)

from ropext.converter.convert.api import convert_checkpoint
from ropext.converter.convert.config import GUARD
from ropext.converter.presets.load import load_preset
from tests.helpers import tiny
from tests.helpers.checkpoints import edit_config, write_index
from tests.modeling.test_loading import preset_file

pytestmark = pytest.mark.usefixtures("no_grad")
IDS = tiny.tokens(150)


def convert(source, folder, method, **options):
    preset = load_preset(str(preset_file(folder, f"tiny-{method}", method, tiny.CASES[method].parameters)))
    return convert_checkpoint(preset, str(source), folder / f"{source.name}_{method}", **options)


def config_of(folder):
    return json.loads((folder / "config.json").read_text())


# What passes through, by the names that each kind gives its tensors: `rows` outputs, `columns` inputs of a matrix.


def zeros(dtype, *shape):
    return torch.zeros(shape, dtype=dtype)


def gptq(rows, columns):
    return {
        "qweight": zeros(torch.int32, columns // 8, rows),
        "qzeros": zeros(torch.int32, columns // 32, rows // 8),
        "scales": zeros(torch.float16, columns // 32, rows),
        "g_idx": zeros(torch.int32, columns),
    }


def awq(rows, columns):
    return {
        "qweight": zeros(torch.int32, columns, rows // 8),
        "qzeros": zeros(torch.int32, columns // 32, rows // 8),
        "scales": zeros(torch.float16, columns // 32, rows),
    }


def bnb_4bit(rows, columns):
    return {
        "weight": zeros(torch.uint8, rows * columns // 2, 1),
        "weight.absmax": zeros(torch.uint8, rows * columns // 64),
        "weight.quant_map": zeros(torch.float32, 16),
        "weight.nested_absmax": zeros(torch.float32, 1),
        "weight.nested_quant_map": zeros(torch.float32, 256),
        "weight.quant_state.bitsandbytes__nf4": zeros(torch.uint8, 83),
    }


def bnb_8bit(rows, columns):
    return {
        "weight": zeros(torch.int8, rows, columns),
        "SCB": zeros(torch.float32, rows),
        "weight_format": zeros(torch.uint8),
    }


def compressed_tensors(rows, columns):
    return {
        "weight_packed": zeros(torch.int32, rows, columns // 8),
        "weight_scale": zeros(torch.bfloat16, rows, columns // 32),
        "weight_shape": zeros(torch.int64, 2),
    }


def fp8(rows, columns):
    return {
        "weight": zeros(torch.float8_e4m3fn, rows, columns),
        "weight_scale_inv": zeros(torch.float32, 1, 1),
    }


def torchao(rows, columns):
    return {
        "_weight_qdata": zeros(torch.int8, rows, columns),
        "_weight_scale": zeros(torch.float32, rows, 1),
    }


KINDS = {
    gptq: {
        "quant_method": "gptq",
        "bits": 4,
        "group_size": 32,
        "desc_act": True,
        "sym": True,
        "damp_percent": 0.1,
        "modules_in_block_to_quantize": None,
    },
    awq: {
        "quant_method": "awq",
        "bits": 4,
        "group_size": 32,
        "version": "gemm",
        "zero_point": True,
        "modules_to_not_convert": ["lm_head", "model.layers.0.self_attn"],
    },
    bnb_4bit: {
        "quant_method": "bitsandbytes",
        "_load_in_4bit": True,
        "load_in_4bit": True,
        "bnb_4bit_quant_type": "nf4",
        "bnb_4bit_compute_dtype": "bfloat16",
        "bnb_4bit_use_double_quant": True,
        "llm_int8_skip_modules": ["lm_head", "model.layers.1.mlp"],
    },
    bnb_8bit: {"quant_method": "bitsandbytes", "_load_in_8bit": True, "load_in_8bit": True, "llm_int8_threshold": 6.0},
    compressed_tensors: {
        "quant_method": "compressed-tensors",
        "format": "pack-quantized",
        "ignore": ["lm_head"],
        "config_groups": {"group_0": {"targets": ["Linear"], "weights": {"num_bits": 4, "group_size": 32}}},
    },
    fp8: {
        "quant_method": "fp8",
        "activation_scheme": "dynamic",
        "weight_block_size": [128, 128],
        "modules_to_not_convert": ["lm_head"],
    },
    torchao: {
        "quant_method": "torchao",
        "quant_type": {"default": {"_type": "Int8WeightOnlyConfig", "_version": 2, "_data": {"group_size": None}}},
    },
}


def replace_matrices(folder, kind):
    """Put a kind's tensors in the place of each linear layer's matrix."""
    file, tensors = folder / "model.safetensors", {}
    for name, tensor in load_file(file).items():
        if name.endswith("proj.weight"):
            replaced = kind(*tensor.shape)
            tensors |= {name.removesuffix("weight") + part: value for part, value in replaced.items()}
        else:
            tensors[name] = tensor
    save_file(tensors, file, {"format": "pt"})
    edit_config(folder, quantization_config=KINDS[kind])


def cut_in_two(folder):
    tensors = load_file(folder / "model.safetensors")
    names = sorted(tensors)
    (folder / "model.safetensors").unlink()
    weight_map = {}
    for i, part in enumerate((names[::2], names[1::2])):
        file = f"model-{i + 1:05}-of-00002.safetensors"
        save_file({name: tensors[name] for name in part}, folder / file, {"format": "pt"})
        weight_map |= dict.fromkeys(part, file)
    write_index(folder, weight_map)


@pytest.mark.parametrize("native", [False, True])
@pytest.mark.parametrize("shards", [1, 2])
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_weights_and_settings_pass_through(kind, shards, native, tiny_llama, tmp_path):
    replace_matrices(tiny_llama, kind)
    if shards == 2:
        cut_in_two(tiny_llama)
    (tiny_llama / "quantize_config.json").write_text('{"bits": 4}')
    before = {file.name: file.read_bytes() for file in tiny_llama.glob("model*")}
    result = convert(tiny_llama, tmp_path, "linear" if native else "dpe", native=native, link="hardlink")
    config = config_of(result.output)
    assert config["quantization_config"] == KINDS[kind]
    linked = [name for name in before if name.endswith(".safetensors")]
    assert all((result.output / name).samefile(tiny_llama / name) for name in linked)
    assert all((result.output / name).read_bytes() == data for name, data in before.items())
    assert result.bytes_linked == sum(len(before[name]) for name in linked)
    assert (result.output / "quantize_config.json").read_text() == '{"bits": 4}'
    assert not any("private" in note or "left out" in note for note in result.plan.notes)
    changed = {key for key, _, _ in result.plan.config_changes}
    assert "quantization_config" not in changed
    if native:
        assert GUARD not in json.dumps(config)
    else:
        assert config["hidden_act"] == config["rope_scaling"]["rope_type"] == GUARD
        assert config["architectures"] == ["LlamaRopeExtForCausalLM"]


# What the stock quantizers do with it


@pytest.fixture(scope="module")
def load(module_cache):
    """Load a folder as its users do, with a module cache for this file."""
    return lambda folder, **how: AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=True, **how).eval()


@pytest.fixture
def wide_llama(tmp_path):
    """A Llama whose matrices have the widths that kernels ask for."""
    config = LlamaConfig.from_pretrained(tiny.TINY_LLAMA, intermediate_size=128)
    torch.manual_seed(0)
    folder = tmp_path / "wide"
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


def stock(folder, **options):
    return LlamaForCausalLM.from_pretrained(folder, **options).eval()


def with_weights_of(quantized, plain):
    """The logits of a converted model in full precision, with the weights to which a quantized one amounts."""
    plain.load_state_dict({name: tensor.float() for name, tensor in quantized.state_dict().items()})
    return plain(IDS).logits


def quantized_by(settings, source, folder):
    """A base that a stock quantizer has written."""
    stock(source, quantization_config=settings, device_map="cpu").save_pretrained(folder)
    return folder


def bitsandbytes_settings(kind):
    pytest.importorskip("bitsandbytes", reason="pip install bitsandbytes")
    if kind == "8bit":
        return BitsAndBytesConfig(load_in_8bit=True)
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type=kind,
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.float32,
    )


@pytest.mark.parametrize("kind", ["8bit", "nf4", "fp4"])
def test_bitsandbytes(kind, wide_llama, load, tmp_path):
    settings = bitsandbytes_settings(kind)
    quantized = quantized_by(settings, wide_llama, tmp_path / kind)
    errors = {}
    for method in ("original", "dpe"):
        output = convert(quantized, tmp_path, method).output
        model, plain = load(output), convert(wide_llama, tmp_path, method).output
        assert "bitsandbytes" in type(model.model.layers[0].self_attn.q_proj).__module__
        assert model.model.rope_ext_attachment.method.is_base(1 << 20) == (method == "original")
        logits = model(IDS).logits
        if method == "original":
            assert torch.equal(logits, stock(quantized)(IDS).logits)
        difference = logits - with_weights_of(load(output).dequantize(), load(plain))
        errors[method] = difference.pow(2).mean().sqrt().item()
        at_load = load(plain, quantization_config=settings, device_map="cpu")
        assert torch.equal(at_load(IDS).logits, logits)
    # Its kernels round activations: a method may err by that as the base does, and no more.
    assert errors["original"] < 0.2
    assert errors["dpe"] < 1.5 * errors["original"]


def test_bitsandbytes_saved_again(wide_llama, load, tmp_path):
    settings = bitsandbytes_settings("nf4")
    model = load(convert(wide_llama, tmp_path, "dpe").output, quantization_config=settings, device_map="cpu")
    model.save_pretrained(tmp_path / "again")
    config = config_of(tmp_path / "again")
    assert config["hidden_act"] == GUARD
    assert config["quantization_config"]["load_in_4bit"] is True
    with pytest.raises(Exception, match="trust_remote_code"):
        stock(tmp_path / "again")
    assert torch.equal(load(tmp_path / "again")(IDS).logits, model(IDS).logits)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_torchao(tiny_llama, load, tmp_path):
    torchao = pytest.importorskip("torchao.quantization", reason="pip install torchao")
    settings = TorchAoConfig(torchao.Int8WeightOnlyConfig())
    quantized = quantized_by(settings, tiny_llama, tmp_path / "torchao")
    for method in ("original", "dpe"):
        model = load(convert(quantized, tmp_path, method).output)
        weight = model.model.layers[0].self_attn.q_proj.weight
        assert "torchao" in type(weight).__module__
        if method == "original":
            assert torch.equal(model(IDS).logits, stock(quantized)(IDS).logits)
        else:
            at_load = load(convert(tiny_llama, tmp_path, method).output, quantization_config=settings)
            assert torch.equal(at_load(IDS).logits, model(IDS).logits)


def eight_bits(folder, dtype, largest, scale_name):
    """Write a base's matrices in eight bits with scales; returns the weights to which they amount."""
    file = folder / "model.safetensors"
    written, meant = {}, {}
    for name, tensor in load_file(file).items():
        written[name] = meant[name] = tensor
        if name.endswith("proj.weight"):
            blocks = (0, 1) if dtype.is_floating_point else 1  # one of the whole matrix, or one for each row
            scale = tensor.abs().amax(blocks, keepdim=True) / largest
            few = tensor / scale
            written[name] = (few if dtype.is_floating_point else few.round()).to(dtype)
            written[name.removesuffix("weight") + scale_name] = scale
            meant[name] = written[name].float() * scale
    save_file(written, file, {"format": "pt"})
    return meant


EIGHT_BITS = {
    "compressed-tensors": {
        "quant_method": "compressed-tensors",
        "format": "int-quantized",
        "quantization_status": "compressed",
        "ignore": ["lm_head"],
        "config_groups": {
            "group_0": {
                "format": "int-quantized",
                "targets": ["Linear"],
                "weights": {"num_bits": 8, "type": "int", "strategy": "channel"},
            }
        },
    },
    "fp8": KINDS[fp8],
}


@pytest.mark.parametrize("name", EIGHT_BITS)
def test_kinds_that_are_dequantized_on_a_cpu(name, tiny_llama, load, tmp_path):
    if name == "fp8":
        meant = eight_bits(tiny_llama, torch.float8_e4m3fn, 448, "weight_scale_inv")
    else:
        pytest.importorskip("compressed_tensors", reason="pip install compressed-tensors")
        meant = eight_bits(tiny_llama, torch.int8, 127, "weight_scale")
    edit_config(tiny_llama, quantization_config=EIGHT_BITS[name])
    for method in ("original", "dpe"):
        logits = load(convert(tiny_llama, tmp_path, method).output)(IDS).logits.float()
        if method == "original":
            assert torch.equal(logits, stock(tiny_llama)(IDS).logits.float())
        plain = tiny.converted(method)
        plain.load_state_dict(meant)
        torch.testing.assert_close(logits, plain(IDS).logits, atol=1e-5, rtol=0)
