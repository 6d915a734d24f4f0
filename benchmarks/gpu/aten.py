"""What torch's flash kernel takes and returns when it is called as our attention calls it.

Nothing is judged here: each row says what was seen, the text of a refusal included.
"""

import torch

from benchmarks.gpu.formula import H, attention, causal, drawn, everything

CLOSE = 0.05
PREFIX = "torch's kernel, "
QUESTIONS = {
    "causal": (200, 200, H, 64, True),
    "grouped heads": (200, 200, 2, 64, True),
    "grouped heads, one query": (1, 200, 2, 64, False),
    "causal, more keys than queries": (70, 200, H, 64, True),
    "causal, more queries than keys": (200, 70, H, 64, True),
    "rectangle": (70, 200, H, 64, False),
    "head_dim 20": (200, 200, H, 20, True),
    "head_dim 72": (200, 200, H, 72, True),
    "head_dim 100": (200, 200, H, 100, True),
    "head_dim 256": (200, 200, H, 256, True),
    "head_dim 264": (200, 200, H, 264, True),
    "float32": (200, 200, H, 64, True),
}
"""Queries, keys, key heads, head_dim, and whether the causal flag is set."""
CELLS = [PREFIX + question for question in QUESTIONS]


def run(cell):
    """Ask one question."""
    question = cell.name.removeprefix(PREFIX)
    *sizes, flag = QUESTIONS[question]
    dtype = torch.float32 if question == "float32" else torch.bfloat16
    labels = {"dtype": str(dtype).removeprefix("torch."), "length": sizes[1], "head_dim": sizes[3]}
    cell.attempt(question, lambda: {"ok": None, "note": _answer(*sizes, dtype, cell.device, flag)}, **labels)


def _answer(T, L, K, D, dtype, device, flag):
    """A sentence on one call."""
    tensors = [x.to(device) for x in drawn(T, L, K, D, dtype)]
    try:
        result = _kernel(*tensors, flag)
        result = [x.cpu() for x in result]
    except RuntimeError as error:
        return f"refused: {str(error).splitlines()[0]}"
    meanings = {"every key": everything(T, L)}
    if flag:
        meanings = {"aligned at the last key": causal(T, L), "aligned at the first key": everything(T, L).tril()}
    expected = [x.cpu().double() for x in tensors]
    found = [name for name, seen in meanings.items() if _close(result, expected, seen)]
    shapes = ", ".join(f"{list(x.shape)} {str(x.dtype).removeprefix('torch.')}" for x in result)
    return f"{' and '.join(found) or 'none of the masks it could mean'}; returns {shapes}"


def _kernel(query, key, value, flag):
    """Output and log-sum-exp by the operation of the tensors' device."""
    scale = query.shape[-1] ** -0.5
    if query.device.type == "cpu":
        operation = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
        return operation(query, key, value, 0.0, flag, scale=scale)
    operation = torch.ops.aten._scaled_dot_product_flash_attention
    return operation(query, key, value, 0.0, flag, False, scale=scale)[:2]


def _close(result, tensors, seen):
    """Whether output and log-sum-exp are those of a mask; queries that see no key do not count."""
    rows = seen.any(-1)
    expected = attention(*tensors, seen, tensors[0].shape[-1] ** -0.5)
    if any(a.shape != b.shape for a, b in zip(result, expected, strict=True)):
        return False
    pairs = zip(result, expected, strict=True)
    return all((a[:, :, rows].double() - b[:, :, rows]).abs().max() < CLOSE for a, b in pairs)
