"""Random checkpoints, converted and served by vLLM, against the same checkpoints in transformers.

The truth is the dense formula in float32 on the CPU, from weights that are rounded to the type. The budget is the
error of the same code on the device in the type.
"""

import tempfile
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM

from benchmarks.gpu.budget import error_of, judged

METHODS = ("dpe", "self_extend", "rerope", "dca", "string", "yarn", "local_profile", "lampe_program")
METHODS += ("profile", "dprope", "ntk", "linear")
"""Cases of `tests/helpers/tiny.py`: one for each method that vLLM can serve, in order of worth."""
MEMORY = 0.3
"""The share of the GPU that vLLM may take."""


def cells(setting):
    """A method, and whether vLLM compiles the model and records CUDA graphs, as it does where nobody says otherwise."""
    first, *others = setting.pick(METHODS, ("dpe", "yarn"))
    return [f"{first} eager", *setting.pick([f"{first} compiled"], []), *(f"{name} eager" for name in others)]


def run(cell, setting):
    """One converted checkpoint."""
    from tests.helpers import vllm_served

    case, how = cell.name.split()
    dtype, head_dim = setting.pick(("bfloat16", 64), ("float32", 32))
    labels = {"dtype": dtype, "head_dim": head_dim, "length": len(vllm_served.IDS)}
    found = {}

    def serve(folder):
        found.update(answers(folder, cell.device, dtype, eager=how == "eager"))
        return {"ok": True}

    with tempfile.TemporaryDirectory(prefix="ropext_served_") as name:
        folder = Path(name)
        vllm_served.written_to(folder, "llama", case, head_dim=head_dim, dtype=getattr(torch, dtype))
        cell.attempt("runs", lambda: serve(folder), **labels)
        if found:
            cell.attempt("log-probabilities", lambda: compared(folder, cell.device, dtype, found), **labels)


def answers(folder, device, dtype, *, eager):
    """What vLLM makes of a checkpoint: log-probabilities of a prompt, and tokens after several at once."""
    from ropext.serving.vllm import register
    from tests.helpers import vllm_engine, vllm_served

    register()  # as vLLM does by itself where ropext is installed
    memory = {"gpu_memory_utilization": MEMORY} if device == "cuda" else {}
    with vllm_engine.engine(folder, dtype=dtype, enforce_eager=eager, **memory) as engine:
        known = vllm_engine.known(engine, vllm_served.IDS)
        return {"known": known, "written": vllm_engine.written(engine, vllm_served.PROMPTS, vllm_served.NEW)}


@torch.no_grad()
def compared(folder, device, dtype, found):
    """Figures: log-probabilities by the budget, and how much less likely than the best a token was that vLLM chose."""
    from tests.helpers.vllm_served import IDS, PROMPTS

    truth = loaded(folder, "cpu", "float32", "eager")
    right = chances(truth, IDS)[:, None]
    plain = error_of(chances(loaded(folder, device, dtype, "sdpa"), IDS)[:, None], right)
    figures = judged(error_of(found["known"][:, None], right), plain, dtype)
    lost = max(map(regret, [truth] * len(PROMPTS), PROMPTS, found["written"]))
    allowed = 2 * figures["worst_allowed"]
    return figures | {"ok": figures["ok"] and lost <= allowed, "lost": lost, "lost_allowed": allowed}


def loaded(folder, device, dtype, attn):
    """The checkpoint, as anybody would load it."""
    how = {"dtype": getattr(torch, dtype), "attn_implementation": attn}
    return AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=True, **how).to(device).eval()


def chances(model, ids):
    """[T - 1]: the log-probability of each token but the first."""
    row = torch.tensor([ids], device=model.device)
    return model(row).logits[0, :-1].float().log_softmax(-1).gather(1, row[0, 1:, None])[:, 0].cpu()


def regret(model, prompt, written):
    """The most by which a token that was written after a prompt is less likely than the likeliest there, nats."""
    ids = torch.tensor([[*prompt, *written]])
    logits = model(ids).logits[0, len(prompt) - 1 : -1]
    return (logits.max(-1).values - logits.gather(1, ids[0, len(prompt) :, None])[:, 0]).max().item()
