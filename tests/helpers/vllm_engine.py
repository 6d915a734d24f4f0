"""vLLM in this process, on the CPU, for small models in float32."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ENVIRONMENT = {
    "HF_HUB_OFFLINE": "1",
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_LOGGING_LEVEL": "ERROR",
    "VLLM_NO_USAGE_STATS": "1",
}
os.environ.update({name: value for name, value in ENVIRONMENT.items() if name not in os.environ})

import torch  # noqa: E402


@contextmanager
def engine(folder: Path, **options: Any) -> Iterator[Any]:
    """An engine with small steps, so that prompts come in pieces, and with prefix caching."""
    from vllm import LLM
    from vllm.distributed.parallel_state import cleanup_dist_env_and_memory

    default = {"max_model_len": 192, "max_num_batched_tokens": 64, "max_num_seqs": 4, "enforce_eager": True}
    default |= {"dtype": "float32", "skip_tokenizer_init": True, "trust_remote_code": True}
    made = None
    try:
        made = LLM(model=str(folder), **default | options)
        yield made
    finally:
        if made is not None:
            made.llm_engine.engine_core.shutdown()
        del made
        gc.collect()
        cleanup_dist_env_and_memory()


def generated(
    engine: Any, prompts: list[list[int]], tokens: int, adapters: list[Any] | None = None, **how: Any
) -> list[Any]:
    """What comes of prompts that are asked together; `adapters` has a LoRA request for each, or None."""
    from vllm import SamplingParams

    params = SamplingParams(temperature=0.0, max_tokens=tokens, detokenize=False, ignore_eos=True, **how)
    given = [{"prompt_token_ids": ids} for ids in prompts]
    outputs: list[Any] = engine.generate(given, params, use_tqdm=False, lora_request=adapters)
    return outputs


def known(engine: Any, ids: list[int]) -> torch.Tensor:
    """[T - 1]: the log-probability of each token but the first."""
    (output,) = generated(engine, [ids], 1, prompt_logprobs=0)
    pairs = zip(output.prompt_logprobs[1:], ids[1:], strict=True)
    return torch.tensor([chances[token].logprob for chances, token in pairs])


def written(engine: Any, prompts: list[list[int]], tokens: int) -> list[list[int]]:
    """The tokens after each prompt."""
    return [list(output.outputs[0].token_ids) for output in generated(engine, prompts, tokens)]
