"""Runs in a process of its own, where ropext cannot be imported: the logits of a converted checkpoint.

    python answered.py CONVERTED SCRATCH

Reads `input.safetensors` in SCRATCH (input_ids [1, n], prefill) and writes `output.safetensors`: logits of all tokens,
in one forward; of those after `prefill`, one at a time on a cache; and both again for the same row in a batch with a
shorter one, left-padded.
"""

import sys

sys.modules["ropext"] = None  # importing it fails from here on

from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, Cache

SHORTER = 37


def logits(model, ids, mask, prefill):
    """Of the first row: [n, vocabulary] of one forward, and [n - prefill, vocabulary] one token at a time."""
    whole = model(ids, attention_mask=mask).logits[0]
    positions = (mask.cumsum(-1) - 1).clamp(min=0)

    def step(start, stop, cache):
        kept = {"attention_mask": mask[:, :stop], "position_ids": positions[:, start:stop]}
        return model(ids[:, start:stop], use_cache=True, **cache, **kept)

    out = step(0, prefill, {})
    first, rows = out.logits[0], []
    for i in range(prefill, ids.shape[1]):
        out = step(i, i + 1, {name: value for name, value in out.items() if isinstance(value, Cache)})
        rows.append(out.logits[0, -1])
    return whole, first, torch.stack(rows)


@torch.no_grad()
def main(folder, scratch):
    given = load_file(scratch / "input.safetensors")
    model = AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=True).eval()
    ids, prefill = given["input_ids"], int(given["prefill"])
    short = torch.nn.functional.pad(ids[:, SHORTER:], (SHORTER, 0))
    mask = torch.ones((2, ids.shape[1]), dtype=torch.long)
    mask[1, :SHORTER] = 0
    found = {}
    for name, arguments in {"alone": (ids, mask[:1]), "batch": (torch.cat((ids, short)), mask)}.items():
        parts = logits(model, *arguments, prefill)
        found |= {
            f"{name}.{part}": x.contiguous() for part, x in zip(("whole", "prefill", "steps"), parts, strict=True)
        }
    save_file(found, scratch / "output.safetensors")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
