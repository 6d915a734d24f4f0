"""Keys and values in fewer bits: each question is asked of the text alone, and the loss stands beside the whole."""

from dataclasses import replace
from importlib import import_module
from types import SimpleNamespace

import pytest
import torch
from transformers import DynamicCache

from ropext.converter.errors import RopextError, UsageError
from ropext.converter.evaluation.asking import prompt_ids
from ropext.converter.evaluation.report.results import read_results
from ropext.converter.evaluation.report.tables import as_markdown
from ropext.converter.evaluation.run import transformers_model
from ropext.converter.evaluation.run.transformers_model import SwitchableModel
from tests.converter.evaluation.test_evaluation import preset, text_of
from tests.helpers import tiny
from tests.helpers.asked import with_tokenizer
from tests.helpers.measured import asked, results, write
from tests.helpers.uses import unpack

quantized = pytest.importorskip("transformers.cache_utils", reason="no quantized caches")
pytestmark = pytest.mark.skipif(
    not hasattr(quantized, "Fp8QuantizedLayer"), reason="this transformers has no caches in fp8"
)


@pytest.fixture
def folder(tiny_llama):
    return with_tokenizer(tiny_llama)


@pytest.mark.parametrize("method", ["dpe", "gali", "yarn", "jet_long", None])
def test_no_question_sees_the_ones_before_it(method, folder, no_grad):
    model, prompt = SwitchableModel(folder), text_of(120, questions=3)
    model.use(preset(method) if method else None)
    whole = model.answers(prompt)
    with model.keeping("fp8"):
        together = model.answers(prompt)
        for question, answer in zip(prompt.questions, together, strict=True):
            assert model.answers(replace(prompt, questions=(question,))) == [answer]
    assert all(mine != its for mine, its in zip(whole, together, strict=True))
    assert [each.log_probability for each in together] == pytest.approx([e.log_probability for e in whole], rel=0.15)
    assert model.answers(prompt) == whole


def test_a_cache_that_keeps_what_was_cropped_is_refused(folder, monkeypatch, no_grad):
    monkeypatch.setattr(DynamicCache, "crop", lambda cache, length: None)
    with pytest.raises(RopextError, match="keeps what was cropped"):
        SwitchableModel(folder).answers(text_of(120, questions=2))


def test_no_quantized_cache_is_cropped(folder, monkeypatch, no_grad):
    def refuse(cache, tokens):
        raise AssertionError(f"{type(cache).__name__} is cropped")

    monkeypatch.setattr(quantized.QuantizedCache, "crop", refuse, raising=False)
    model, prompt = SwitchableModel(folder), text_of(120, questions=3)
    with model.keeping("fp8"):
        assert len(model.answers(prompt)) == 3
        assert len(model.losses_and_answers(prompt, 2)[1]) == 3
        model.continuation("words " * 30, 4)


@pytest.mark.parametrize("method", ["dpe", "gali", "jet_long", "dca"])
def test_a_method_does_not_go_on_after_a_crop_that_says_nothing(method, monkeypatch, no_grad):
    """The keys that came last are gone, and the cache still counts them; a stock model goes on at wrong positions."""
    quanto = pytest.importorskip("optimum.quanto.library.extensions.cpp")
    monkeypatch.setattr(quanto.ext, "_lib", SimpleNamespace(unpack=unpack))
    for model in (tiny.base(), tiny.converted(method)):
        ids, cache = tiny.tokens(100), quantized.QuantizedCache("quanto", model.config, nbits=4, q_group_size=16)
        model(ids[:, :90], **{tiny.CACHE: cache})
        model(ids[:, 90:95], **{tiny.CACHE: cache})
        cache.crop(-5)
        assert cache.get_seq_length() == 95
    with pytest.raises(ValueError, match="given 91 keys, and 96 were expected"):
        model(ids[:, 90:91], **{tiny.CACHE: cache})


def test_what_is_written_is_written_after_quantized_keys(folder, monkeypatch):
    made, make = [], transformers_model.quantized_cache
    monkeypatch.setattr(transformers_model, "quantized_cache", lambda *how: made.append(make(*how)) or made[-1])
    model, text = SwitchableModel(folder), "words " * 30
    model.continuation(text, 4)
    assert not made
    with model.keeping("fp8"):
        model.continuation(text, 4)
    (cache,) = made
    assert cache.get_seq_length() > len(prompt_ids(model.tokenizer, text))


def test_four_bits_lose_more_than_eight(folder, monkeypatch, no_grad):
    quanto = pytest.importorskip("optimum.quanto.library.extensions.cpp")
    monkeypatch.setattr(quanto.ext, "_lib", SimpleNamespace(unpack=unpack))  # else it is compiled for two minutes
    import_module("optimum.quanto")
    model, prompt = SwitchableModel(folder), text_of(120, questions=3)
    monkeypatch.setattr(quantized.QuantoQuantizedLayer.__init__, "__defaults__", (4, 0, 0, 16, 128))
    whole, lost = model.answers(prompt), {}
    for kv_dtype in ("fp8", "int4"):
        with model.keeping(kv_dtype):
            answers = model.answers(prompt)
        lost[kv_dtype] = sum(abs(a.log_probability - b.log_probability) for a, b in zip(answers, whole, strict=True))
    assert 0 < lost["fp8"] < lost["int4"]


def test_both_are_asked_and_the_loss_is_reported(run, folder, tiny_preset, tmp_path):
    command = ["eval", "niah", folder, "-p", tiny_preset, "--needles", 2, "-l", 900, "--samples", 2]
    done = run(*command, "--kv-dtype", "fp8")
    _, found = results(tmp_path / "results" / folder.name / "niah.jsonl")
    kinds = [(each["preset"], each.get("kv_dtype")) for each in found]
    assert kinds == [(name, kind) for kind in (None, "fp8") for name in (None, "tiny-dpe") for _ in range(2)]
    assert {each["asked"] for each in found if "kv_dtype" in each} == {each["asked"] for each in found}
    loss = done.stdout.partition("the same model's with whole keys and values")[2]
    assert "base, fp8 keys and values" in loss
    assert "tiny-dpe, fp8 keys and values" in loss
    assert "all was measured before" in run(*command, "--kv-dtype", "fp8", "--resume").stderr


def test_the_loss_is_against_the_same_model(tmp_path):
    def value(name, level, seed, **more):
        return {**asked(name, 4096, seed, [(0.5, level, True)]), **more}

    rows = (
        (None, -1.0, {}),
        ("dpe", -5.0, {}),
        (None, -1.5, {"kv_dtype": "int4"}),
        ("dpe", -7.0, {"kv_dtype": "int4"}),
    )
    values = [value(name, level, seed, **more) for name, level, more in rows for seed in range(3)]
    (found,), _ = read_results([write(tmp_path / "tiny" / "niah.jsonl", "niah", values)])
    page = as_markdown([found])
    loss = page.partition("whole keys and values")[2]
    assert "| base, int4 keys and values | −0.50" in loss
    assert "| dpe, int4 keys and values | −2.00" in loss
    assert set(found.only(["dpe"]).presets) == set(found.presets)


def test_what_cannot_be_kept_so_is_said(run, folder, tmp_path):
    assert "No such option" in run("eval", "ppl", folder, "--kv-dtype", "fp8", status=2).stderr
    vllm = run("eval", "niah", folder, "-l", 900, "--kv-dtype", "fp8", "--backend", "vllm", status=2)
    assert "leave out --backend" in vllm.stderr
    model = SwitchableModel(folder)
    model.model.config.layer_types = ["sliding_attention"] * 3
    model.model.config.sliding_window = 16
    with model.keeping("fp8"), pytest.raises(UsageError, match=r"--kv-dtype fp8: .*full attention"):
        model.answers(text_of(60))
    with torch.inference_mode(), model.keeping("fp4"), pytest.raises(UsageError, match="--kv-dtype fp4"):
        model.answers(text_of(60))
