"""Divisors in a GGUF file, checked by reading it back."""

import pytest

pytest.importorskip("gguf", reason="pip install gguf")

import gguf
import numpy as np
from click.testing import CliRunner

from ropext.converter.cli.app import main
from tests.helpers.gguf_files import write_gguf
from tests.modeling.test_loading import preset_file


def patch(source, folder, method, *options, **parameters):
    preset = preset_file(folder, f"tiny-{method}", method, parameters)
    return CliRunner().invoke(main, ["gguf-patch", str(source), str(folder / "out.gguf"), "-p", str(preset), *options])


def contents(file):
    reader = gguf.GGUFReader(file)
    keys = {name: field.contents() for name, field in reader.fields.items() if not name.startswith("GGUF.")}
    return keys, {tensor.name: tensor for tensor in reader.tensors}


def test_divisors_are_added_and_all_else_is_kept(tmp_path):
    source = write_gguf(tmp_path / "in.gguf")
    run = patch(source, tmp_path, "ntk")
    assert run.exit_code == 0, run.stderr
    (keys, tensors), (new_keys, new_tensors) = contents(source), contents(tmp_path / "out.gguf")
    assert new_keys == keys | {"llama.context_length": 256}
    divisors = new_tensors.pop("rope_freqs.weight").data
    np.testing.assert_allclose(divisors, 4 ** (np.arange(8) / 7), rtol=1e-6)
    assert tensors.keys() == new_tensors.keys()
    for name, tensor in tensors.items():
        assert tensor.tensor_type == new_tensors[name].tensor_type
        np.testing.assert_array_equal(tensor.data, new_tensors[name].data)


def test_composes_with_divisors_that_are_there(tmp_path):
    before = [1, 1, 2, 3, 8, 8, 8, 8]
    assert patch(write_gguf(tmp_path / "in.gguf", divisors=before), tmp_path, "linear").exit_code == 0
    divisors = contents(tmp_path / "out.gguf")[1]["rope_freqs.weight"].data
    np.testing.assert_allclose(divisors, 4 * np.array(before), rtol=1e-6)


YARN_OF_32 = {"rope.scaling.factor": 2.0, "rope.scaling.original_context_length": 32}
USUAL = 1 + 0.1 * np.log(4)


@pytest.mark.parametrize(
    ("method", "parameters", "file", "added"),
    [
        ("yarn", {}, {}, {"type": "yarn", "factor": 4.0, "original_context_length": 64}),
        ("yarn", {}, {"arch": "qwen3"}, {"type": "yarn", "factor": 4.0, "original_context_length": 64}),
        (
            "yarn",
            {"attention_factor": 1.0},
            {"arch": "qwen3"},
            {"type": "yarn", "factor": 4.0, "original_context_length": 64, "attn_factor": pytest.approx(1 / USUAL)},
        ),
        (
            "yarn",
            {},
            {"arch": "gpt-oss", "scaling": True, "numbers": {**YARN_OF_32, "attention.sliding_window": 16}},
            {"type": "yarn", "factor": 8.0, "original_context_length": 32},
        ),
        (
            "yarn",
            {},
            {"arch": "deepseek2", "scaling": True, "numbers": {**YARN_OF_32, "rope.scaling.yarn_log_multiplier": 0.1}},
            {"type": "yarn", "factor": 8.0, "original_context_length": 32, "yarn_log_multiplier": pytest.approx(0.1)},
        ),
        ("linear", {}, {"arch": "qwen3"}, {"type": "linear", "factor": 4.0}),
        ("linear", {}, {"numbers": {"rope.scaling.factor": 2.0}}, {"type": "linear", "factor": 8.0}),
        (
            "linear",
            {},
            {"arch": "gemma3", "linear": True, "numbers": {"rope.scaling.factor": 8.0, "attention.sliding_window": 16}},
            {"type": "linear", "factor": 32.0},
        ),
    ],
)
def test_keys_of_any_architecture(method, parameters, file, added, tmp_path):
    source = write_gguf(tmp_path / "in.gguf", **file)
    run = patch(source, tmp_path, method, **parameters)
    assert run.exit_code == 0, run.stderr
    arch = file.get("arch", "llama")
    keys, tensors = contents(tmp_path / "out.gguf")
    start = f"{arch}.rope.scaling."
    assert {key.removeprefix(start): value for key, value in keys.items() if key.startswith(start)} == added
    assert keys[f"{arch}.context_length"] == 256
    assert "rope_freqs.weight" not in tensors
    before = contents(source)[0]
    assert {key: before[key] for key in before if "rope.scaling" not in key} == {
        **{key: keys[key] for key in before if "rope.scaling" not in key},
        f"{arch}.context_length": 64,
    }


def test_ntk_raises_the_base_where_there_are_no_divisors(tmp_path):
    run = patch(write_gguf(tmp_path / "in.gguf", arch="qwen3"), tmp_path, "ntk")
    assert run.exit_code == 0, run.stderr
    keys, tensors = contents(tmp_path / "out.gguf")
    assert keys["qwen3.rope.freq_base"] == pytest.approx(10000 * 4 ** (16 / 14))
    assert "qwen3.rope.freq_base" in run.stdout
    assert "rope_freqs.weight" not in tensors


@pytest.mark.parametrize(
    ("method", "parameters", "file", "message"),
    [
        ("dynamic_ntk", {}, {}, "dynamic_ntk has no fixed frequencies; a GGUF file takes dprope, linear, "),
        ("yarn", {}, {"divisors": [1, 1, 2, 3, 8, 8, 8, 8]}, "cannot scale attention by 1.13863; add --set"),
        ("yarn", {"beta_fast": 16}, {"arch": "qwen3"}, "beta_fast: versions of llama.cpp go by their own value"),
        ("yarn", {"truncate": False}, {"arch": "qwen3"}, "truncate: versions of llama.cpp go by their own value"),
        ("dprope", {}, {"arch": "qwen3"}, "needs divisors, which llama.cpp does not read for qwen3"),
        ("linear", {}, {"scaling": True}, "linear on top of rope_type yarn needs divisors"),
        ("yarn", {}, {"arch": "qwen3", "numbers": {"rope.scale_linear": 2.0}}, "yarn on top of rope_type linear needs"),
        ("yarn", {}, {"arch": "gemma4"}, "its architecture gemma4 leaves some pairs unturned"),
        ("yarn", {}, {"arch": "cohere2", "numbers": {"attention.sliding_window": 16}}, "has layers that slide, and it"),
        (
            "yarn",
            {"attention_factor": 1.0},
            {"arch": "gemma3", "numbers": {"attention.sliding_window": 16}},
            "attention_factor: llama.cpp would scale layers of gemma3 by it",
        ),
    ],
)
def test_refusals(method, parameters, file, message, tmp_path):
    run = patch(write_gguf(tmp_path / "in.gguf", **file), tmp_path, method, **parameters)
    assert run.exit_code != 0
    assert message in run.stderr
    assert sorted(path.name for path in tmp_path.glob("*.gguf")) == ["in.gguf"]


def test_an_output_that_exists_is_kept(tmp_path):
    source = write_gguf(tmp_path / "in.gguf")
    (tmp_path / "out.gguf").write_text("mine")
    assert "is there already" in patch(source, tmp_path, "linear").stderr
    assert patch(source, tmp_path, "linear", "--force").exit_code == 0


def write_layout(file, *, align=None, parts=None, big=False):
    writer = gguf.GGUFWriter(file, "llama", endianess=gguf.GGUFEndian.BIG if big else gguf.GGUFEndian.LITTLE)
    if align:
        writer.add_custom_alignment(align)
    for add, value in (("context_length", 64), ("embedding_length", 64), ("block_count", 1), ("head_count", 4)):
        getattr(writer, f"add_{add}")(value)
    if parts is not None:
        writer.add_uint16("split.no", 0)
        writer.add_uint16("split.count", parts)
        writer.add_int32("split.tensors.count", 3)
    for name in ("token_embd.weight", "output_norm.weight", "blk.0.attn_norm.weight"):
        writer.add_tensor(name, np.arange(1, 62, dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file


@pytest.mark.parametrize("align", [None, 8, 16, 64, 4096])
def test_alignment_is_the_files_own(tmp_path, align):
    source = write_layout(tmp_path / "in.gguf", align=align)
    run = patch(source, tmp_path, "linear")
    assert run.exit_code == 0, run.stderr
    (keys, before), (new_keys, after) = contents(source), contents(tmp_path / "out.gguf")
    assert new_keys == keys | {"llama.context_length": 256}
    assert gguf.GGUFReader(tmp_path / "out.gguf").alignment == (align or 32)
    assert not [name for name, tensor in after.items() if int(tensor.field.parts[-1][0]) % (align or 32)]
    for name, tensor in before.items():
        np.testing.assert_array_equal(tensor.data, after[name].data)


@pytest.mark.parametrize(
    ("layout", "message"),
    [
        ({"parts": 2}, "is one of 2 parts, and the first of them counts all tensors; merge them first"),
        ({"big": True}, "is big-endian; turn it round first"),
    ],
)
def test_layouts_that_are_refused(tmp_path, layout, message):
    run = patch(write_layout(tmp_path / "in.gguf", **layout), tmp_path, "linear")
    assert run.exit_code == 1
    assert message in run.stderr
    assert not (tmp_path / "out.gguf").exists()


def test_a_split_of_one_is_whole(tmp_path):
    source = write_layout(tmp_path / "in.gguf", parts=1)
    assert patch(source, tmp_path, "linear").exit_code == 0
    assert not [key for key in contents(tmp_path / "out.gguf")[0] if key.startswith("split.")]


def test_an_output_in_no_folder(tmp_path):
    preset = preset_file(tmp_path, "tiny-linear", "linear", {})
    args = [write_gguf(tmp_path / "in.gguf"), tmp_path / "nowhere" / "out.gguf", "-p", preset]
    run = CliRunner().invoke(main, ["gguf-patch", *map(str, args)])
    assert run.exit_code == 2
    assert f"there is no folder {tmp_path / 'nowhere'}; make it first" in run.stderr
