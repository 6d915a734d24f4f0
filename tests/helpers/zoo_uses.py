"""What is done with a model of the zoo; each use returns its worst error."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import transformers
from packaging.version import Version
from torch import Tensor
from transformers import Cache

from tests.helpers import tiny

from . import zoo, zoo_composites
from .zoo_subject import LENGTH, Subject, forget

ASKS_CACHE_POSITION = Version(transformers.__version__) < Version("5.10")
Inputs = dict[str, Tensor]


def difference(first: Tensor, second: Tensor) -> float:
    """The largest."""
    return float((first.double() - second.double()).abs().max())


def part(inputs: Inputs, start: int, stop: int) -> Inputs:
    """Some columns of a batch; pictures come with the first."""
    ids = inputs["input_ids"]
    found = {}
    for key, value in inputs.items():
        if key == "attention_mask":
            found[key] = value[:, :stop]
        elif value.shape[:2] == ids.shape:
            found[key] = value[:, start:stop]
        elif start == 0:
            found[key] = value
    return found


def fed(model: Any, inputs: Inputs, pieces: list[int]) -> Tensor:
    """Logits [B, T, vocabulary] of a batch given in pieces, with a cache."""
    forget(model)
    logits, start, kept = [], 0, {}
    for piece in pieces:
        stop = start + piece
        given: dict[str, Any] = {**part(inputs, start, stop), **kept, "use_cache": True}
        if ASKS_CACHE_POSITION:
            given["cache_position"] = torch.arange(start, stop)
        if start:
            given.pop("mm_token_type_ids", None)
            given.pop("token_type_ids", None)
        out = model(**given)
        kept = {key: value for key, value in out.items() if isinstance(value, Cache)}
        assert kept, "no cache came out"
        logits.append(out.logits)
        start = stop
    return torch.cat(logits, 1)


def ends_of(pieces: list[int]) -> list[int]:
    """For each token, the number of tokens at the end of its forward."""
    return [sum(pieces[: n + 1]) for n, piece in enumerate(pieces) for _ in range(piece)]


def generate(s: Subject, inputs: Inputs, *, logits: bool = False, **how: Any) -> Tensor:
    """The new tokens, [B, 8], or their logits, [B, 8, vocabulary]."""
    forget(s.model)
    how = {"do_sample": False, "max_new_tokens": 8, "pad_token_id": 0} | how
    if s.specimen.is_composite:
        how["suppress_tokens"] = zoo_composites.SPECIAL
    given = {"attention_mask": torch.ones_like(inputs["input_ids"])} | inputs
    out = s.model.generate(**given, **how, output_logits=True, return_dict_in_generate=True)
    if logits:
        return torch.stack(out.logits, 1)
    new: Tensor = out.sequences[:, inputs["input_ids"].shape[1] :]
    return new


def left_padded(rows: list[Inputs]) -> Inputs:
    """A batch of rows of any length, and its mask."""
    width = max(row["input_ids"].shape[1] for row in rows)
    batch: dict[str, list[Tensor]] = {}
    for row in rows:
        ids = row["input_ids"]
        for key, value in {"attention_mask": torch.ones_like(ids), **row}.items():
            if value.shape == ids.shape:
                value = torch.nn.functional.pad(value, (width - ids.shape[1], 0))
            batch.setdefault(key, []).append(value)
    for key in ("mm_token_type_ids", "token_type_ids"):  # a row without an image
        if key in batch:
            batch[key] = [torch.where(ids == zoo_composites.IMAGE, 1, 0) for ids in batch["input_ids"]]
    return {key: torch.cat(values) for key, values in batch.items()}


# Uses


def prefill(s: Subject) -> float:
    """All tokens at once."""
    inputs = s.specimen.inputs()
    truth = s.truth(inputs)
    if s.case is not None and s.case.method != "original":
        forget(s.base)
        effect = difference(truth, s.base(**inputs).logits[0])
        assert effect > 0.1, f"the method changes the logits by {effect:.2g} only"
    forget(s.model)
    return difference(s.model(**inputs).logits[0], truth)


def decode(s: Subject) -> float:
    """50 tokens at once, the others one by one with a cache."""
    inputs, pieces = s.specimen.inputs(), [50] + [1] * (LENGTH - 50)
    return difference(fed(s.model, positioned(s, inputs), pieces)[0], s.truth(inputs, ends_of(pieces)))


def positioned(s: Subject, inputs: Inputs) -> Inputs:
    """With the positions that `generate` gives; image-text models find their own."""
    if s.specimen.is_composite:
        return inputs
    mask = inputs.get("attention_mask", torch.ones_like(inputs["input_ids"]))
    return inputs | {"position_ids": (mask.cumsum(-1) - 1).clamp(min=0)}


def padded(s: Subject) -> float:
    """Rows padded on the left, each as alone, in a prefill and three steps."""
    return padded_error(s, lambda batch: positioned(s, batch))


def counted(s: Subject) -> float:
    """The same without `position_ids`: stock models then count columns, padding too."""
    return padded_error(s, lambda batch: batch)


def padded_error(s: Subject, given: Callable[[Inputs], Inputs]) -> float:
    """The worst of three rows; image-text models, whose steps only `generate` can make, in the prefill."""
    lengths, steps = [LENGTH, 66, 9], [] if s.specimen.is_composite else [1, 1, 1]
    rows = [s.specimen.inputs(length, seed=length) for length in lengths]
    together = fed(s.model, given(left_padded(rows)), [LENGTH - sum(steps), *steps])
    errors = []
    for logits, row, length in zip(together, rows, lengths, strict=True):
        truth = s.truth(row, ends_of([length - sum(steps), *steps]))
        errors.append(difference(logits[-length:], truth))
    return max(errors)


def batch(s: Subject) -> float:
    """`generate` with rows padded on the left: each row's logits as alone."""
    rows = [s.specimen.inputs(length, seed=length) for length in (LENGTH, 66)]
    together = generate(s, left_padded(rows), logits=True)
    return max(difference(together[n], generate(s, row, logits=True)[0]) for n, row in enumerate(rows))


def packed(s: Subject) -> float:
    """Documents in one row without a mask, positions from 0 in each, each as alone."""
    lengths = [70, LENGTH]
    documents = [zoo.inputs(s.specimen.name, length, seed=length)["input_ids"] for length in lengths]
    positions = torch.cat([torch.arange(length) for length in lengths])[None]
    out = s.model(torch.cat(documents, 1), position_ids=positions, use_cache=False).logits[0]
    truths = [s.truth({"input_ids": document}) for document in documents]
    return difference(out, torch.cat(truths))


def beams(s: Subject) -> float:
    """Beam search with a cache, of two rows: the tokens of one without; or each row's own, where those differ."""
    rows = [s.specimen.inputs(length, seed=length) for length in (LENGTH - 10, 55)]
    together = generate(s, left_padded(rows), num_beams=3)
    if s.feeding:
        return float((together != generate(s, left_padded(rows), num_beams=3, use_cache=False)).sum())
    alone = torch.cat([generate(s, row, num_beams=3) for row in rows])
    return float((together != alone).sum())


def static(s: Subject) -> float:
    """A static cache: the tokens of a dynamic one."""
    batch = left_padded([s.specimen.inputs(length, seed=length) for length in (LENGTH - 10, 55)])
    dynamic = generate(s, batch)
    return float((dynamic != generate(s, batch, cache_implementation="static", disable_compile=True)).sum())


def inside(s: Subject) -> float:
    """The base to the last bit while all distances are exact, at once and one by one."""
    length = s.window()
    if not length:
        return 0.0
    steps = [1] * min(6, length - 1)
    cuts, given = [[length], [length - len(steps), *steps]], positioned(s, zoo.inputs(s.specimen.name, length))
    return max(difference(fed(s.model, given, cut), fed(s.base, given, cut)) for cut in cuts)


@dataclass(frozen=True)
class Use:
    """A use, and the error at which it fails.

    Attributes:
        run: returns the error.
        tolerance: the largest that passes.
        composites: whether image-text models are used so.
    """

    run: Callable[[Subject], float]
    tolerance: float
    composites: bool = True


LOGITS = 1e-3
"""Largest error of a logit: stock models differ by up to 6e-4 between float32 and float64; methods change 0.1 to 10."""

USES: dict[str, Use] = {
    "prefill": Use(prefill, LOGITS),
    "decode": Use(decode, LOGITS),
    "padded": Use(padded, LOGITS),
    "counted": Use(counted, LOGITS, composites=False),
    "batch": Use(batch, LOGITS),
    "packed": Use(packed, LOGITS, composites=False),
    "beams": Use(beams, 0.0),
    "static": Use(static, 0.0),
    "inside": Use(inside, 0.0),
}
CASES = [name for name in tiny.CASES if name not in ("gali_noise", "dynamic_ntk")]
"""Methods with a naive formula in every use: noise has none, dynamic NTK goes by the longest row of a batch."""
