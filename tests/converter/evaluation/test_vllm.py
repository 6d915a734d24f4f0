"""vLLM's side of `ropext eval`, against a stand-in of what is called of it, which transformers computes."""

import re
import sys
from dataclasses import dataclass
from types import ModuleType, SimpleNamespace

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from ropext.converter.errors import RopextError, UsageError
from ropext.converter.evaluation.run import vllm_model
from tests.converter.cli.test_evaluate import SMALL, run, without_seconds
from tests.helpers.asked import with_tokenizer
from tests.helpers.measured import results


@dataclass
class SamplingParams:
    temperature: float = 1.0
    max_tokens: int = 16
    prompt_logprobs: int | None = None
    repetition_penalty: float = 1.0
    detokenize: bool = True


class LLM:
    """Takes what vLLM's takes, keeps rows apart, and refuses what is too long, as vLLM does."""

    def __init__(
        self,
        model,
        *,
        dtype,
        max_model_len,
        max_num_batched_tokens,
        enable_prefix_caching,
        enforce_eager,
        tensor_parallel_size,
        hf_overrides=None,
        config_format="auto",
    ):
        assert not enable_prefix_caching
        assert tensor_parallel_size >= 1 <= max_num_batched_tokens
        assert enforce_eager != torch.cuda.is_available()
        self.longest = max_model_len
        trust = config_format == "ropext"
        config = AutoConfig.from_pretrained(model, trust_remote_code=trust)
        config.update(hf_overrides or {})
        how = {"dtype" if hasattr(config, "dtype") else "torch_dtype": dtype}
        self.model = AutoModelForCausalLM.from_pretrained(model, config=config, trust_remote_code=trust, **how).eval()

    def get_default_sampling_params(self):
        return SamplingParams()

    @torch.inference_mode()
    def generate(self, prompts, sampling_params, *, use_tqdm):
        assert not use_tqdm
        assert sampling_params.temperature == 0
        return [self.output(prompt["prompt_token_ids"], sampling_params) for prompt in prompts]

    def output(self, ids, params):
        if len(ids) + 1 > self.longest:
            raise ValueError(f"the prompt (length {len(ids)}) is longer than {self.longest}")
        row = torch.tensor([ids])
        known = None
        if params.prompt_logprobs == 0:
            chances = self.model(row).logits[0].log_softmax(-1)
            known = [None]
            for at, token in enumerate(ids[1:]):
                rank = int((chances[at] > chances[at, token]).sum()) + 1
                known.append({token: SimpleNamespace(logprob=float(chances[at, token]), rank=rank)})
        written = self.model.generate(
            row, attention_mask=torch.ones_like(row), max_new_tokens=params.max_tokens, do_sample=False, pad_token_id=2
        )
        text = SimpleNamespace(token_ids=written[0, len(ids) :].tolist())
        return SimpleNamespace(prompt_logprobs=known, outputs=[text])


@pytest.fixture
def vllm(monkeypatch):
    module = ModuleType("vllm")
    module.LLM, module.SamplingParams, module.__version__ = LLM, SamplingParams, "0.stand-in"
    monkeypatch.setitem(sys.modules, "vllm", module)
    monkeypatch.setenv("VLLM_ALLOW_LONG_MAX_MODEL_LEN", "")


@pytest.fixture
def folder(tiny_llama):
    return with_tokenizer(tiny_llama)


@pytest.fixture
def native(folder, tiny_preset, tmp_path):
    def convert(method, *options):
        text = tiny_preset.read_text().replace("method: dpe", f"method: {method}")
        tiny_preset.write_text(re.sub("parameters:.*", "parameters: {}", text))
        asked = ["convert", folder, "-p", tiny_preset, "-o", tmp_path / method, *options]
        assert run(*asked).exit_code == 0
        return tmp_path / method

    return convert


@pytest.mark.parametrize("task", SMALL)
def test_both_backends_find_the_same(task, vllm, folder, tmp_path):
    found = {}
    for backend, name in (("transformers", task), ("vllm", f"{task}-vllm")):
        result = run("eval", task, folder, "-o", tmp_path / "results", *SMALL[task], "--backend", backend)
        assert result.exit_code == 0, result.output
        settings, values = results(tmp_path / "results" / folder.name / f"{name}.jsonl")
        found[backend] = without_seconds(values)
    assert settings["backend"] == "vllm"
    assert settings["versions"]["vllm"] == "0.stand-in"
    assert len(found["vllm"]) == len(found["transformers"]) > 0
    for here, there in zip(found["vllm"], found["transformers"], strict=True):
        if task in ("passkey", "niah", "mixed"):
            for mine, its in zip(here.pop("answers"), there.pop("answers"), strict=True):
                assert mine.pop("kind", "") == its.pop("kind", "")
                assert mine == pytest.approx(its, abs=1e-4)
        if task == "mixed":
            assert here.pop("losses") == pytest.approx(there.pop("losses"), rel=1e-5)
        if task == "ppl":
            assert here.pop("nll") == pytest.approx(there.pop("nll"), rel=1e-5)
        assert here == there


@pytest.mark.parametrize(("method", "options"), [("linear", ["--native"]), ("dprope", ["--native"]), ("linear", [])])
def test_what_was_converted_reads_beyond_its_window(method, options, vllm, native, tmp_path, module_cache):
    folder, values = native(method, *options), []
    for backend, name in (("transformers", "ppl"), ("vllm", "ppl-vllm")):
        asked = ["eval", "ppl", folder, "-o", tmp_path / "results", "-l", 300, "--backend", backend]
        assert run(*asked).exit_code == 0
        values.append(results(tmp_path / "results" / method / f"{name}.jsonl")[1][0]["nll"])
    assert values[0] == pytest.approx(values[1], rel=1e-5)


LONGROPE = {"rope_type": "longrope", "short_factor": [2.0], "long_factor": [2.0], "rope_theta": 1e4}


@pytest.mark.parametrize(
    ("scaling", "longest", "room", "said"),
    [
        ({"rope_theta": 1e4, "rope_type": "default"}, 9000, 10024, {}),
        (None, 100_000, 101_024, {"max_position_embeddings": 101_024}),
        ({"rope_type": "linear", "factor": 4.0}, 16384, 17408, {"max_position_embeddings": 17408}),
        (
            {**LONGROPE, "original_max_position_embeddings": 16384},
            16384,
            17408,
            {
                "max_position_embeddings": 17408,
                "rope_parameters": {**LONGROPE, "original_max_position_embeddings": 17408},
            },
        ),
        ({"type": "yarn", "factor": 4.0}, 16384, 16385, {}),
        ({"rope_type": "yarn", "factor": 4.0}, 15000, 16024, {}),
    ],
)
def test_vllm_makes_rotations_for_all_that_is_read(scaling, longest, room, said):
    config = {"max_position_embeddings": 16384, "rope_scaling": scaling}
    assert vllm_model._room("m", config, longest) == (room, said)


@pytest.mark.parametrize("kind", ["yarn", "dynamic", "longrope"])
def test_what_vllm_would_read_wrongly_is_refused(kind):
    scaling = {"rope_type": kind, "original_max_position_embeddings": 4096}
    with pytest.raises(UsageError, match=f"rotations of 16384 tokens for rope_type '{kind}'; choose --lengths up to"):
        vllm_model._room("m", {"max_position_embeddings": 16384, "rope_parameters": scaling}, 16385)


def test_what_vllm_cannot_run_is_said(vllm, folder, tiny_preset, tmp_path, monkeypatch):
    asked = ["eval", "ppl", folder, "-o", tmp_path / "results", "-l", 200, "--backend", "vllm"]
    refused = [run(*asked, "-p", tiny_preset), run(*asked, "--device", "cpu")]
    monkeypatch.setenv("WORLD_SIZE", "2")
    refused.append(run(*asked))
    said = ["takes no presets", "leave out --device", "and launcher"]
    for result, words in zip(refused, said, strict=True):
        assert result.exit_code == 2
        assert words in result.stderr
        assert "ropext convert" in result.stderr or "CUDA_VISIBLE_DEVICES" in result.stderr


def test_what_vllm_says_is_passed_on(vllm, folder, tmp_path, monkeypatch):
    asked = ["eval", "ppl", folder, "-o", tmp_path / "results", "-l", 200, "--backend", "vllm"]
    monkeypatch.setattr(vllm_model, "_MORE", 0)
    result = run(*asked)
    assert result.exit_code == 1
    assert "vLLM does not read this: the prompt (length 200)" in result.stderr

    def full(self, model, **how):
        raise ValueError("no memory for the KV cache")

    monkeypatch.setattr(LLM, "__init__", full)
    result = run(*asked, "--resume")
    assert result.exit_code == 1
    assert "vLLM cannot load it: no memory" in result.stderr


def test_without_vllm_it_is_said(folder, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "vllm", None)
    with pytest.raises(RopextError, match="pip install vllm"):
        vllm_model.vllm_version()
    result = run("eval", "ppl", folder, "-o", tmp_path / "results", "-l", 200, "--backend", "vllm")
    assert result.exit_code == 1
    assert not (tmp_path / "results").exists()
