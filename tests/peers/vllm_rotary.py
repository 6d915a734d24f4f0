"""Native exports as vLLM reads them: its configuration and its rotary classes, on a CPU, against transformers'.

    python tests/peers/vllm_rotary.py

Needs vllm to be importable; no GPU. Prints, for each export, for how many positions vLLM has rotations, and the largest
difference of their cosines and sines from transformers' at that length; for DCA, that of the rotations of keys and of
the three queries from the shipped class's; and what comes of a longrope with two lists of factors, by the length that
vLLM is started with.
"""

import json
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
import transformers
import vllm
import yaml
from transformers import AutoConfig, LlamaConfig, LlamaForCausalLM
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding
from vllm.config import DeviceConfig, VllmConfig, set_current_vllm_config
from vllm.model_executor.layers import rotary_embedding
from vllm.model_executor.layers.rotary_embedding import dual_chunk_rope, get_rope, phi3_long_rope_scaled_rope
from vllm.transformers_utils.config import get_config

from ropext.converter.convert.api import convert_checkpoint
from ropext.converter.presets.load import load_preset
from ropext.modeling.rope_ext_dca import Dca

INITIAL, TARGET = 4096, 16384
HEAD_DIM, THETA = 128, 10000.0
EXPORTS = [
    ("linear", {}),
    ("ntk", {}),
    ("dprope", {}),
    ("yarn", {}),
    ("yarn", {"attention_factor": 1.0}),
    ("dynamic_ntk", {}),
]
DCA = {"chunk_size": 3072, "local_window": 512, "temperature": False}


def base(folder: Path) -> Path:
    """A Llama with the frequencies of Llama 2, and next to nothing else."""
    config = LlamaConfig(
        hidden_size=HEAD_DIM,
        intermediate_size=8,
        num_hidden_layers=1,
        num_attention_heads=1,
        num_key_value_heads=1,
        vocab_size=8,
        max_position_embeddings=INITIAL,
        rope_theta=THETA,
    )
    LlamaForCausalLM(config).save_pretrained(folder / "base")
    return folder / "base"


def export(source: Path, folder: Path, method: str, parameters: dict[str, float]) -> Path:
    preset = {
        "name": f"native-{method}",
        "description": "For a comparison.",
        "base_model": "base",
        "initial_window": INITIAL,
        "target_window": TARGET,
        "method": method,
        "parameters": parameters,
    }
    file = folder / "preset.yaml"
    file.write_text(yaml.safe_dump(preset))
    return convert_checkpoint(load_preset(str(file)), str(source), folder / "native", native=True, force=True).output


def in_vllm(folder: Path, **overrides: Any) -> torch.Tensor:
    """[length, head_dim], cosine beside sine, as its Llama makes them; `overrides` are those of `--hf-overrides`."""
    config = get_config(str(folder), trust_remote_code=False, hf_overrides_kw=overrides)
    length = config.max_position_embeddings
    phi3_long_rope_scaled_rope.get_current_vllm_config = lambda: SimpleNamespace(
        model_config=SimpleNamespace(max_model_len=length)
    )
    rotary = get_rope(HEAD_DIM, max_position=length, rope_parameters=config.rope_parameters, dtype=torch.float32)
    if hasattr(rotary, "long_short_cos_sin_cache"):  # the short factors' rows come first
        return rotary.long_short_cos_sin_cache[-length:]
    return rotary.cos_sin_cache


def in_transformers(folder: Path, positions: torch.Tensor) -> torch.Tensor:
    rotary = LlamaRotaryEmbedding(AutoConfig.from_pretrained(folder))
    cos, sin = rotary(torch.zeros(1), positions[None])
    half = HEAD_DIM // 2
    return torch.cat([cos[0, :, :half], sin[0, :, :half]], -1)


def one_theta(folder: Path) -> dict[str, Any]:
    """Overrides with which vLLM takes, for every length, the theta that dynamic NTK has at the target window."""
    parameters = json.loads((folder / "config.json").read_text())["rope_parameters"]
    return {
        "max_position_embeddings": TARGET,
        "rope_parameters": {**parameters, "max_trained_positions": INITIAL},
    }


def compare(name: str, theirs: torch.Tensor, folder: Path) -> None:
    theirs = theirs[:TARGET]
    difference = (theirs - in_transformers(folder, torch.arange(len(theirs)))).abs().max().item()
    print(f"{name:40} {len(theirs):6} positions, difference {difference:.1e}")


def dual_chunk_differences() -> dict[str, float]:
    """Between vLLM's rotations for DCA and those of the shipped class."""
    theirs = dual_chunk_rope.DualChunkRotaryEmbedding.__new__(dual_chunk_rope.DualChunkRotaryEmbedding)
    torch.nn.Module.__init__(theirs)  # its own wants a GPU to put the tables on
    theirs.rotary_dim, theirs.max_position_embeddings, theirs.base = HEAD_DIM, TARGET, THETA
    theirs.chunk_size, theirs.local_size = DCA["chunk_size"], DCA["local_window"]
    theirs.dtype, theirs.device = torch.float32, torch.device("cpu")
    own, before, key, *_ = theirs._compute_cos_sin_cache()
    inv_freq = (1 / THETA ** (torch.arange(0, HEAD_DIM, 2).float() / HEAD_DIM)).tolist()
    block = {"initial_window": INITIAL, "parameters": DCA, "inv_freq": inv_freq, "tables": {}}
    ours = Dca(block)
    within = torch.arange(ours.stride)

    def shipped(positions: torch.Tensor) -> torch.Tensor:
        cosines, sines = ours.table(torch.zeros_like(positions)[None], positions[None])
        return torch.cat((cosines[0, 0, :, : HEAD_DIM // 2], sines[0, 0]), -1)

    tables = {
        "keys": (key, torch.arange(TARGET) % ours.stride),
        "queries, own chunk": (own, within),
        "queries, chunk before": (before, (within + ours.stride).clamp(max=ours.chunk_size)),
        "queries, older chunks": (before[-1:], torch.tensor([ours.chunk_size])),
    }
    return {name: (table - shipped(positions)).abs().max().item() for name, (table, positions) in tables.items()}


def of_two_lists(started_with: int, **scales: float) -> dict[str, str]:
    """What a longrope of ones for short prompts turns by, and how long queries are beside those of one list."""
    ones, factors = [1.0] * (HEAD_DIM // 2), [1.0 + pair / 16 for pair in range(HEAD_DIM // 2)]

    def turned(short: list[float], long: list[float], original: int) -> torch.Tensor:
        length = SimpleNamespace(model_config=SimpleNamespace(max_model_len=started_with))
        phi3_long_rope_scaled_rope.get_current_vllm_config = lambda: length
        found = {"short_factor": short, "long_factor": long, "original_max_position_embeddings": original}
        parameters = {"rope_type": "longrope", "rope_theta": THETA, **found, **scales}
        rotary_embedding._ROPE_DICT.clear()  # it does not know by what length vLLM was started
        rotary = get_rope(HEAD_DIM, max_position=TARGET, rope_parameters=parameters, dtype=torch.float32)
        query = torch.ones(1, HEAD_DIM)
        return rotary.forward(torch.tensor([INITIAL - 1]), query, query)[0]

    switched = turned(ones, factors, INITIAL)
    return {
        name: f"{(switched / switched.norm() - one / one.norm()).abs().max():.1e}, {switched.norm() / one.norm():.4f}"
        for name, one in (("base", turned(ones, ones, TARGET)), ("table", turned(factors, factors, TARGET)))
    }


@torch.no_grad()
def main() -> None:
    print(f"vllm {vllm.__version__}, transformers {transformers.__version__}")
    print(f"{INITIAL} to {TARGET} tokens, head_dim {HEAD_DIM}, theta {THETA:g}")
    settings = VllmConfig(device_config=DeviceConfig("cpu"))
    with tempfile.TemporaryDirectory() as name, set_current_vllm_config(settings):
        folder = Path(name)
        source = base(folder)
        for method, parameters in EXPORTS:
            native = export(source, folder, method, parameters)
            compare(
                method + "".join(f", {key} {value:g}" for key, value in parameters.items()), in_vllm(native), native
            )
        compare("dynamic_ntk, with overrides", in_vllm(native, **one_theta(native)), native)
        for length in (INITIAL, TARGET):
            for scale in ({}, {"short_mscale": 1.0, "long_mscale": 1.0}):
                print(f"two lists, {length} tokens, {scale}: {of_two_lists(length, **scale)}")
    for name, difference in dual_chunk_differences().items():
        print(f"dca, {name:35} difference {difference:.1e}")


if __name__ == "__main__":
    main()
