"""The Python interface as it is used, on a tiny model."""

import dataclasses
import json
import os
from pathlib import Path

import pytest

import ropext
from tests.helpers.asked import with_tokenizer
from tests.helpers.checkpoints import edit_config
from tests.helpers.measured import results


@pytest.fixture(autouse=True)
def _there(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_convert_by_a_preset(tiny_llama, tiny_preset):
    done = ropext.convert(preset=tiny_preset)
    assert done.output == Path("tiny-dpe").absolute()
    assert done.preset.name == "tiny-dpe"
    assert done.written.methods["generate"] > 1
    assert isinstance(done.notes, tuple)
    assert json.loads((done.output / "config.json").read_text())["rope_ext"]["method"] == "dpe"
    with pytest.raises(dataclasses.FrozenInstanceError):
        done.output = Path()


def test_convert_by_a_loaded_preset_and_paths(tiny_llama, tiny_preset, tmp_path):
    preset = ropext.load_preset(tiny_preset, {"target_window": "1k", "local_window": 32})
    assert preset.target_window == 1024
    assert preset.overrides == ('target_window="1k"', "local_window=32")
    assert ropext.convert(tiny_llama, preset=preset, output=tmp_path / "out").output == tmp_path / "out"
    assert not ropext.verify(str(tmp_path / "out"), quick=True).bad


@pytest.mark.parametrize("target", ["1k", "1024", 1024])
def test_convert_by_a_method(tiny_llama, target):
    done = ropext.convert(tiny_llama, method="yarn", target=target, overrides={"attention_factor": 1.5})
    assert done.preset.name == "tiny-llama-yarn-1k"
    assert done.preset.parameters["scaling_factor"] == 16
    assert done.preset.parameters["attention_factor"] == 1.5
    record = json.loads((done.output / "ropext.json").read_text())
    assert record["preset"]["text"] == done.preset.text
    assert done.preset.text.startswith("name: tiny-llama-yarn-1k\n")
    assert "base_model: ./tiny-llama\n" in done.preset.text
    assert str(tiny_llama.parent) not in (done.output / "ropext.json").read_text()
    assert not ropext.verify(str(done.output), quick=True).bad


def test_plan_writes_nothing(tiny_llama):
    before = sorted(os.listdir())
    planned = ropext.plan(tiny_llama, method="self_extend", target="1k")
    assert sorted(os.listdir()) == before
    assert planned.method == "self_extend"
    assert {file.path for file in planned.files} >= {"config.json", "model.safetensors"}


def test_initial_window(tiny_llama):
    done = ropext.convert(tiny_llama, method="linear", target="1k", initial_window=32)
    assert done.preset.initial_window == 32
    assert done.preset.parameters["scaling_factor"] == 32


def test_suggest(tiny_llama):
    found = ropext.suggest(tiny_llama, "1k")
    assert found.recommended == found.methods[0].method
    assert found.trained.tokens == 64
    assert [each.method for each in ropext.suggest(tiny_llama, "1k", method="ntk").methods] == ["ntk"]


def test_presets(tiny_llama):
    assert {each.method for each in ropext.presets(method="yarn")} == {"yarn"}
    assert all("smollm2" in each.name for each in ropext.presets(model="SmolLM2"))
    edit_config(tiny_llama, hidden_size=576, num_attention_heads=9, num_key_value_heads=3, head_dim=64)
    edit_config(tiny_llama, rope_theta=100000.0, max_position_embeddings=8192)
    fitting = ropext.presets(fits=tiny_llama)
    assert {each.name for each in fitting} >= {"smollm2-135m-rerope"}
    assert all(each.name.startswith("smollm2") for each in fitting)
    assert len(ropext.presets()) > len(fitting)


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        (lambda: ropext.convert("x"), ropext.UsageError, "say what to convert with: --preset NAME|FILE, or --method"),
        (lambda: ropext.convert("x", preset="a", method="yarn"), ropext.UsageError, "give one of them"),
        (lambda: ropext.convert("x", method="yarn"), ropext.UsageError, "needs the length to read in the end"),
        (lambda: ropext.convert(method="yarn", target="4k"), ropext.UsageError, "name the model to convert"),
        (lambda: ropext.convert("x", preset="llama3-8b-dpe", target=9), ropext.UsageError, "--set target_window=64k"),
        (lambda: ropext.convert("x", method="yarm", target=9), ropext.UsageError, "did you mean 'yarn'?"),
        (lambda: ropext.convert("x", method="yarn", target="64kb"), ropext.UsageError, "write it as 65536 or 64k"),
        (lambda: ropext.convert("nowhere", method="yarn", target="64k"), ropext.UsageError, "there is no such folder"),
        (lambda: ropext.load_preset("llama3-8b-dep"), ropext.UsageError, "did you mean 'llama3-8b-dpe'?"),
        (lambda: ropext.presets(method="x"), ropext.UsageError, "unknown method 'x'"),
        (lambda: ropext.push("nowhere", "org/name"), ropext.UsageError, "is no folder that ropext converted"),
        (lambda: ropext.verify("nowhere"), ropext.UsageError, "there is no such folder"),
        (lambda: ropext.evaluate("passkeys", "nowhere"), ropext.UsageError, "did you mean 'passkey'?"),
        (lambda: ropext.evaluate("passkey", "x", needles=3), ropext.UsageError, "has no setting 'needles'"),
        (lambda: ropext.evaluate("passkey", ["a/x", "b/x"]), ropext.UsageError, "two of one name"),
    ],
)
def test_errors_say_what_the_command_line_says(call, kind, message):
    with pytest.raises(kind) as caught:
        call()
    assert message in str(caught.value)
    assert caught.value.exit_code == 2


def test_every_problem_of_a_preset(tiny_preset):
    tiny_preset.write_text(tiny_preset.read_text().replace("target_window: 256", "target_window: 4"))
    with pytest.raises(ropext.InvalidPreset) as caught:
        ropext.load_preset(tiny_preset)
    assert caught.value.problems
    assert str(tiny_preset) in str(caught.value)


# With a model


@pytest.fixture
def model(tiny_llama):
    transformers = pytest.importorskip("transformers")
    return transformers.AutoModelForCausalLM.from_pretrained(tiny_llama)


def logits(model, no_grad):
    import torch

    return model(torch.arange(200)[None] % 100, use_cache=False).logits


def test_apply_by_a_preset_and_by_a_method(model, tiny_llama, tiny_preset, no_grad):
    base = logits(model, no_grad)
    with ropext.apply(model, tiny_preset):
        assert not logits(model, no_grad).equal(base)
    assert logits(model, no_grad).equal(base)
    with ropext.apply(model, method="yarn", target="1k", initial_window=32, overrides={"attention_factor": 2.0}):
        by_method = logits(model, no_grad)
    done = ropext.convert(
        tiny_llama, method="yarn", target="1k", initial_window=32, overrides={"attention_factor": 2.0}
    )
    with ropext.apply(model, done.preset):
        assert logits(model, no_grad).equal(by_method)
    assert not by_method.equal(base)


def test_apply_needs_a_length(model):
    with pytest.raises(ropext.UsageError, match="needs the length to read in the end"):
        ropext.apply(model, method="yarn")


def test_evaluate(tiny_llama, tiny_preset, capfd):
    pytest.importorskip("transformers")
    with_tokenizer(tiny_llama)
    seen = []
    settings = {"depths": 2, "lengths": "900", "dtype": "float32"}
    done = ropext.evaluate(
        "passkey", tiny_llama, presets=[tiny_preset], progress=lambda *each: seen.append(each), **settings
    )
    assert done.complete
    assert done.output == Path("results")
    assert done.files == (Path("results/tiny-llama/passkey.jsonl"),)
    steps = [("tiny-llama: loading", 0, 0), ("tiny-llama: making the questions", 0, 0)]
    steps += [("tiny-llama: short prompts", each, 12) for each in range(13)]
    assert seen == [*steps, *(("tiny-llama passkey", each, 4) for each in range(5))]
    first, found = results(done.files[0])
    assert first["task"] == "passkey"
    assert [each["preset"] for each in found] == [None, None, "tiny-dpe", "tiny-dpe"]
    assert "passkey" not in "".join(capfd.readouterr())
    again = ropext.evaluate("passkey", tiny_llama, presets=[tiny_preset], resume=True, **settings)
    assert again == done
    with pytest.raises(ropext.UsageError, match="resume"):
        ropext.evaluate("passkey", tiny_llama, **settings)
