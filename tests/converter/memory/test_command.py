"""`ropext memory`: folders, converted folders and repositories, sizes as people write them."""

import json

import pytest
from click.testing import CliRunner

from ropext.converter.checkpoint import places
from ropext.converter.cli.app import main
from ropext.converter.convert.api import convert_checkpoint
from ropext.converter.errors import RopextError, UsageError
from ropext.converter.files.safetensors_header import tensor_types
from ropext.converter.hub.types import RemoteFile, Repository
from ropext.converter.memory import weights
from ropext.converter.memory.api import COPYING, WINDOWED, Question, bytes_of, fit
from ropext.converter.methods.schemas import METHODS
from ropext.converter.model_classes import parts_of
from ropext.converter.presets.load import load_preset
from ropext.modeling.rope_ext_band import BandMethod
from ropext.modeling.rope_ext_method import Method
from tests.helpers.checkpoints import edit_config


def run(*args):
    return CliRunner().invoke(main, ["memory", *map(str, args)])


def asked(*args):
    result = run(*args, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.output)


def by_runtime(found):
    return {each["runtime"]: each for each in found["runtimes"]}


def test_a_folder(tiny_llama):
    found = asked(tiny_llama, "--length", "1k")
    assert (found["model_type"], found["method"], found["dtype"]) == ("llama", "original", "float32")
    parts = by_runtime(found)
    assert set(parts) == {"transformers", "vllm", "llama.cpp", "mlx"}
    for each in parts.values():
        assert each["total"] == each["weights"] + each["kv_cache"] + each["method"] + each["prefill"]
        assert (each["fits"], each["longest"]) == (None, None)
    assert parts["llama.cpp"]["kv_cache"] * 2 == parts["mlx"]["kv_cache"]
    halved = by_runtime(asked(tiny_llama, "--length", "1k", "--dtype", "bfloat16"))
    assert halved["transformers"]["weights"] * 2 == parts["transformers"]["weights"]
    twice = by_runtime(asked(tiny_llama, "--length", "1k", "--batch", 2))
    assert twice["transformers"]["kv_cache"] == 2 * parts["transformers"]["kv_cache"]


def test_a_converted_folder_has_its_method(tiny_llama, tiny_preset, tmp_path):
    convert_checkpoint(load_preset(str(tiny_preset)), str(tiny_llama), tmp_path / "converted")
    planned = asked(tiny_llama, "--length", 256, "--preset", tiny_preset)
    found = asked(tmp_path / "converted", "--length", 256)
    assert found["method"] == planned["method"] == "dpe"
    assert found["runtimes"] == planned["runtimes"]
    assert set(by_runtime(found)) == {"transformers", "vllm", "mlx"}
    assert by_runtime(found)["vllm"]["method"] == by_runtime(found)["vllm"]["kv_cache"]
    refused = run(tmp_path / "converted", "--length", 256, "--method", "rerope")
    assert refused.exit_code == 2
    assert "is converted already" in refused.output


def test_a_conversion_turns_windows_off(tiny_llama):
    edit_config(tiny_llama, model_type="mistral", architectures=["MistralForCausalLM"], sliding_window=32)
    base = by_runtime(asked(tiny_llama, "--length", "1k"))["transformers"]
    method = by_runtime(asked(tiny_llama, "--length", "1k", "--method", "rerope"))["transformers"]
    native = by_runtime(asked(tiny_llama, "--length", "1k", "--method", "yarn"))["transformers"]
    assert base["cache"] == native["cache"]
    assert base["kv_cache"] * 1024 == method["kv_cache"] * 31


def test_the_methods_that_copy_are_those_whose_far_keys_move_with_the_length():
    classes = {name: parts_of(name)[0] for name in METHODS}
    moving = {name: each for name, each in classes.items() if issubclass(each, Method) and each.moves_keys}
    assert set(COPYING) == {name for name, each in moving.items() if not each.keys_stay}
    bands = {name for name, each in moving.items() if issubclass(each, BandMethod)}
    assert set(WINDOWED) == bands - set(COPYING)


def test_copies_of_one_text(tiny_llama, tiny_preset):
    def method(*args):
        return by_runtime(asked(tiny_llama, "--length", "1k", *args))["transformers"]["method"]

    assert method("--method", "gali") > 0
    assert method("--method", "gali", "--batch", 2) == method("--method", "rerope", "--batch", 2) == 0
    assert 0 < method("--preset", tiny_preset) < method("--method", "gali")


def test_exact_keys_of_a_window(tiny_llama):
    """In vLLM, beside a piece of the prompt."""

    def method(*args):
        return by_runtime(asked(tiny_llama, "--length", "100k", "--runtime", "vllm", *args))["vllm"]["method"]

    base = by_runtime(asked(tiny_llama, "--length", "100k", "--runtime", "vllm"))["vllm"]["kv_cache"]
    assert method("--method", "self_extend") / base == pytest.approx((1024 + 8191) / 102_400, rel=0.01)
    assert method("--method", "string") == method("--method", "dca") == method("--method", "yarn") == 0


def test_a_memory(tiny_llama):
    found = by_runtime(asked(tiny_llama, "--memory", "100MB", "--runtime", "mlx"))["mlx"]
    assert found["length"] == found["longest"]
    assert found["fits"] is True
    assert found["total"] <= 100_000_000
    both = by_runtime(asked(tiny_llama, "--memory", "100MB", "--length", 2 * found["longest"], "--runtime", "mlx"))[
        "mlx"
    ]
    assert (both["fits"], both["longest"]) == (False, found["longest"])
    assert "none fits" in run(tiny_llama, "--memory", "1kB").output


def test_for_people(tiny_llama):
    shown = run(tiny_llama, "--length", "1k", "--memory", "1GiB").output
    assert "llama, 3 full layers, float32" in shown
    for word in ("transformers", "vllm", "llama.cpp", "mlx", "KV CACHE", "LONGEST", "Not counted"):
        assert word in shown
    assert "`ropext memory`" in CliRunner().invoke(main, ["suggest", str(tiny_llama), "--target", "256"]).output
    assert "for 64 tokens in 16 bits" in CliRunner().invoke(main, ["inspect", str(tiny_llama)]).output


def test_what_is_missing_or_too_much(tiny_llama, tiny_preset):
    assert "--length 128k" in run(tiny_llama).output
    assert "not both" in run(tiny_llama, "-l", "1k", "--method", "dpe", "--preset", tiny_preset).output
    assert "did you mean" in run(tiny_llama, "-l", "1k", "--method", "yarm").output
    assert "65536" in run(tiny_llama, "-l", "1k", "--batch", "9" * 400).output
    assert "--set belongs" in run(tiny_llama, "-l", "1k", "--set", "a=1").output
    (tiny_llama / "model.safetensors").unlink()
    with pytest.raises(RopextError, match="neither model"):
        fit(Question(str(tiny_llama), 1024))


@pytest.mark.parametrize("parameters", [[], {"regions": []}, {"by_layer": [1]}, {"by_layer": 7}, "text"])
def test_a_block_that_is_not_ours(tiny_llama, tiny_preset, tmp_path, parameters):
    folder = convert_checkpoint(load_preset(str(tiny_preset)), str(tiny_llama), tmp_path / "out").output
    block = json.loads((folder / "config.json").read_text())["rope_ext"]
    edit_config(folder, rope_ext=block | {"method": "bands", "parameters": parameters})
    result = run(folder, "--length", "1k")
    assert "fault of ropext" not in result.output
    assert result.exit_code == (0 if parameters == [] else 1)
    edit_config(folder, rope_ext=parameters)
    assert run(folder, "--length", "1k").exit_code == 1


def test_a_repository_is_asked_for_headers_alone(tiny_llama, monkeypatch):
    files = {path.name: RemoteFile(path.name, path.stat().st_size, "0" * 40) for path in tiny_llama.iterdir()}
    repository = Repository("org/tiny", "1" * 40, False, False, None, files)
    monkeypatch.setattr(weights.hub, "look_up", lambda name: repository)
    monkeypatch.setattr(places._OnHub, "folder", tiny_llama)
    monkeypatch.setattr(places.hub, "tensors", lambda _, path: tensor_types(tiny_llama / path, path))
    monkeypatch.setattr(places.hub, "fetch_files", lambda *_: pytest.fail("nothing is to be fetched"))
    assert asked("org/tiny", "--length", "1k")["runtimes"] == asked(tiny_llama, "--length", "1k")["runtimes"]


def test_heads_that_are_the_embeddings_count_once(tiny_llama):
    both = by_runtime(asked(tiny_llama, "--length", 64))["mlx"]["weights"]
    edit_config(tiny_llama, tie_word_embeddings=True)
    held = tensor_types(tiny_llama / "model.safetensors", "")["lm_head.weight"].shape
    assert by_runtime(asked(tiny_llama, "--length", 64))["mlx"]["weights"] == both - 4 * held[0] * held[1]


@pytest.mark.parametrize(
    ("text", "size"), [("24GB", 24 * 10**9), ("24GiB", 24 * 2**30), ("1.5g", 15 * 10**8), ("512 MiB", 2**29)]
)
def test_sizes(text, size):
    assert bytes_of(text) == size


@pytest.mark.parametrize("text", ["24", "GB", "0GB", "24XB", "-1GB", "9" * 400 + "GB"])
def test_no_sizes(text):
    with pytest.raises(UsageError, match="24GiB"):
        bytes_of(text)
