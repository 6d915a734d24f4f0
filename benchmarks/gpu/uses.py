"""Ways to use a model.

Each takes a model and what it is given, and returns float32 logits [rows, vocabulary] on the CPU.
"""

from dataclasses import dataclass

import torch
from torch.nn.functional import pad
from transformers import CompileConfig

from benchmarks.gpu.subjects import Shape, forward

STEPS = 8
"""Tokens that are given one by one."""
COMPILED_STEPS = 3
"""The same to a compiled model, which needs a new graph for the first two, and should need none after that."""
FORCED = (7, 11, 5, 13, 3)
"""The tokens that `generate` has to choose, so that rounding never leads two models to different texts."""


@dataclass(frozen=True)
class Given:
    """What a use works on.

    Attributes:
        shape: of the model.
        length: of the longest row (tokens).
        dtype: the type in which products are computed.
    """

    shape: Shape
    length: int
    dtype: torch.dtype


def tokens(length, shape, seed=0):
    """[1, length] random ids."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(3, shape.vocabulary, (1, length), generator=generator)


def left_padded(lengths, shape):
    """Ids and mask of a batch, one row for each length."""
    width = max(lengths)
    rows = [pad(tokens(length, shape, seed=length), (width - length, 0)) for length in lengths]
    mask = torch.stack([torch.arange(width) >= width - length for length in lengths]).long()
    return torch.cat(rows), mask


def fed(model, ids, mask=None, steps=STEPS):
    """Logits [B, T, vocabulary] of a prefill and the last tokens one by one, as `generate` gives them."""
    width = ids.shape[1]
    whole = torch.ones_like(ids) if mask is None else mask
    positions = (whole.cumsum(-1) - 1).clamp(min=0)
    logits, state, start = [], None, 0
    for stop in range(width - steps, width + 1):
        given = {"position_ids": positions[:, start:stop]}
        if mask is not None:
            given["attention_mask"] = mask[:, :stop]
        part, state = forward(model, ids[:, start:stop], state, **given)
        logits.append(part)
        start = stop
    return torch.cat(logits, 1)


def prefill(model, given):
    """All tokens at once."""
    return _rows(forward(model, tokens(given.length, given.shape).to(model.device))[0])


def decode(model, given, steps=STEPS):
    """A prefill, then the last tokens one by one; their logits alone."""
    ids = tokens(given.length, given.shape).to(model.device)
    return _rows(fed(model, ids, steps=steps)[:, -steps:])


def decode_few(model, given):
    """`decode` with as many steps as `compiled` takes."""
    return decode(model, given, COMPILED_STEPS)


def padded(model, given):
    """Four rows of different lengths, padded on the left, then token by token."""
    longest = given.length
    ids, mask = left_padded((longest, longest * 6 // 7, longest * 2 // 3, longest // 7), given.shape)
    logits = fed(model, ids.to(model.device), mask.to(model.device))
    return _rows(logits[mask.bool().to(logits.device)])


def autocast(model, given):
    """`decode` with weights that `torch.autocast` casts for each product."""
    with torch.autocast(model.device.type, given.dtype):
        return decode(model, given)


def generate(model, given, **how):
    """`generate` with a batch of two, padded on the left."""
    ids, mask = left_padded((given.length, given.length * 6 // 7), given.shape)
    out = model.generate(
        ids.to(model.device),
        attention_mask=mask.to(model.device),
        max_new_tokens=len(FORCED),
        do_sample=False,
        pad_token_id=0,
        prefix_allowed_tokens_fn=lambda row, so_far: [FORCED[so_far.shape[-1] - given.length]],
        output_logits=True,
        return_dict_in_generate=True,
        **how,
    )
    return _rows(torch.stack(out.logits))


def generate_static(model, given):
    """`generate` with a static cache, nothing compiled."""
    return generate(model, given, cache_implementation="static", disable_compile=True)


def generate_compiled(model, given):
    """`generate` with a static cache, for which it compiles the steps on a GPU; on a CPU it has to be told to."""
    how = {}
    if model.device.type == "cpu":
        how["compile_config"] = CompileConfig(backend="aot_eager", mode=None)
        how["compile_config"]._compile_all_devices = True
    return generate(model, given, cache_implementation="static", **how)


def compiled(model, given):
    """`decode_few` by `torch.compile` of the whole model, with the dynamic cache."""
    backend = {"backend": "aot_eager"} if model.device.type == "cpu" else {}
    return decode_few(torch.compile(model, **backend), given)


def _rows(logits):
    return logits.flatten(0, -2).float().cpu()


REFERENCES = {generate_static: generate, generate_compiled: generate, compiled: decode_few, autocast: decode}
"""Uses that have to give what another gives."""
