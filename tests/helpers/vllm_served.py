"""Converted checkpoints for vLLM, what transformers makes of them, and how an engine is held to that."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers

from ropext.converter import model_code

from . import tiny
from .emitted import emit
from .vllm_engine import generated, known, written
from .vllm_models import Served

IDS: list[int] = tiny.tokens(150)[0].tolist()
PROMPTS = [IDS[:130], IDS[10:60], IDS[5:125], IDS[:9], IDS[:130], IDS[:100]]
NEW = 6


@dataclass(frozen=True)
class Wanted:
    """What transformers makes of a folder."""

    folder: Path
    known: torch.Tensor
    base: torch.Tensor
    written: list[int]


def written_to(folder: Path, model_type: str, case: str, **size: Any) -> Served:
    """A converted checkpoint; `size` as `Served` takes it."""
    of = Served(model_type, **size)
    fitted = of.fitted(tiny.CASES[case])
    if fitted.method not in ("lampe", "local_profile") and "by_layer" not in fitted.parameters:
        emit(of, fitted, folder)
        return of
    # What its preset says is not what the block holds.
    config = emit(of, of.fitted(tiny.CASES["self_extend"]), folder)
    config["rope_ext"] |= {"method": fitted.method, "parameters": fitted.parameters}
    (folder / "config.json").write_text(json.dumps(config))
    for name, text in model_code.code(model_type, fitted.method).items():
        (folder / name).write_bytes(text)
    return of


@torch.no_grad()
def wanted(folder: Path, model_type: str, case: str) -> Wanted:
    """Write a checkpoint, and run it in transformers."""
    of = written_to(folder, model_type, case)
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=True).eval()
    model.generation_config.eos_token_id = None
    row = torch.tensor([IDS])
    new = model.generate(row[:, : len(PROMPTS[0])], max_new_tokens=NEW, do_sample=False, pad_token_id=0)
    chances = [each(row).logits[0, :-1].log_softmax(-1).gather(1, row[0, 1:, None])[:, 0] for each in (model, of.base)]
    return Wanted(folder, *chances, new[0, len(PROMPTS[0]) :].tolist())


def check(model: Any, want: Wanted, tolerance: float = 1e-4) -> None:
    """As transformers, six requests at once as each alone, and prefixes from the cache."""
    assert (known(model, IDS) - want.known).abs().max() < tolerance
    together = written(model, PROMPTS, NEW)
    assert together[0] == together[4] == want.written
    for prompt, found in zip(PROMPTS[1:4], together[1:4], strict=True):
        assert written(model, [prompt], NEW) == [found]
    assert generated(model, PROMPTS[:1], 1)[0].num_cached_tokens >= 64
