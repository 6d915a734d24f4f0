"""Nothing that is emitted says where on this machine the base, the preset or its files were."""

import numpy as np
import pytest
from safetensors.numpy import save_file

from ropext.converter.presets.load import load_preset


def texts(folder):
    found = {file.name: file.read_text() for file in folder.iterdir() if file.suffix != ".safetensors"}
    assert {"README.md", "config.json", "ropext.json"} <= set(found)
    return found


def naming(place, folder):
    return [name for name, text in texts(folder).items() if str(place) in text]


@pytest.fixture
def kept_preset(run, tiny_llama):
    """Write a preset by a command; it names its base by the whole path."""

    def keep(*command):
        run(*command)
        assert load_preset("kept.yaml").base_model == str(tiny_llama)
        return "kept.yaml"

    return keep


@pytest.mark.parametrize(
    ("command", "options"),
    [
        (("suggest", "--method", "yarn", "--write"), ()),
        (("suggest", "--method", "yarn", "--write"), ("--native",)),
        (("suggest", "--method", "self_extend", "--write"), ("--set", "target_window=128")),
        (("calibrate", "dprope", "--output"), ()),
        (("calibrate", "dpe", "--scale-factors", "2,8,4,16", "--output"), ()),
    ],
)
def test_a_base_is_named_by_its_name(command, options, run, kept_preset, tiny_llama, tmp_path):
    *head, last = command
    kept_preset(*head, tiny_llama, "--target", 256, last, "kept.yaml")
    run("convert", "--preset", "kept.yaml", "--output", "out", *options)
    assert naming(tmp_path, tmp_path / "out") == []
    assert "./tiny-llama" in texts(tmp_path / "out")["ropext.json"]
    assert "./tiny-llama" in texts(tmp_path / "out")["README.md"]
    run("verify", "out", "--quick", status=3)
    before = texts(tmp_path / "out")
    run("upgrade", "out")
    run("card", "out")
    assert texts(tmp_path / "out") == before


def test_files_with_scores_are_named_by_their_name(run, tiny_llama, tiny_preset, tmp_path):
    save_file({"scores": np.random.default_rng(0).random((3, 4, 8), dtype=np.float32)}, tmp_path / "s.safetensors")
    scores = ("--set", "top_k=3", "--set", f"dimension_scores={tmp_path}/s.safetensors")
    run("convert", tiny_llama, "--preset", tiny_preset, *scores, "--output", "out")
    assert naming(tmp_path, tmp_path / "out") == []
    assert "dimension_scores: s.safetensors" in texts(tmp_path / "out")["README.md"]
    run("verify", "out", "--quick", status=3)
