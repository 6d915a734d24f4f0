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


@pytest.mark.parametrize(
    ("method", "parameters", "file", "message"),
    [
        ("dynamic_ntk", {}, {}, "dynamic_ntk has no fixed frequencies; a GGUF file takes dprope, linear, ntk, yarn"),
        ("yarn", {}, {}, "divisors cannot scale attention by 1.13863; add --set attention_factor=1"),
        ("linear", {}, {"arch": "qwen3"}, "its architecture is qwen3"),
        ("linear", {}, {"scaling": True}, "is scaled already"),
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
