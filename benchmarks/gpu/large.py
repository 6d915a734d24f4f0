"""A large random model and its methods, which share its weights."""

from dataclasses import replace
from functools import cache

import torch

from benchmarks.gpu import subjects
from benchmarks.gpu.setting import SHAPES

GIB_PER_LAYER = 2.0
"""What a layer of the large shape takes at most: weights, its cache of 128k tokens, and a share of a prefill's peak."""
STOCK = {"base": "sdpa", "flex": "flex_attention"}
"""Models that are not ours, and how they attend."""


@cache
def shape(device):
    """All layers, or as many as the memory holds."""
    if device == "cpu":
        return SHAPES["tiny"]
    full = SHAPES["llama3_8b"]
    gibibytes = torch.cuda.get_device_properties(0).total_memory / 2**30
    return replace(full, layers=min(full.layers, int(gibibytes / GIB_PER_LAYER)))


@cache
def base(device):
    """The stock model, in bfloat16."""
    torch.manual_seed(0)
    return subjects.stock(shape(device), dtype=torch.bfloat16, device=device)


def model(name, device):
    """A method, or a name in `STOCK`; its weights are the base's."""
    if name == "base":
        return base(device)
    if name in STOCK:
        return subjects.stock(shape(device), attn=STOCK[name], like=base(device))
    return subjects.build(subjects.timed_case(name, shape(device)), shape(device), like=base(device))


def tokens(batch, length, device):
    """[batch, length] random ids."""
    generator = torch.Generator().manual_seed(0)
    return torch.randint(3, shape(device).vocabulary, (batch, length), generator=generator).to(device)


class Reader:
    """A model, and its cache of a text."""

    def __init__(self, name, batch, length, device):
        self.model, self.ids = model(name, device), tokens(batch, length, device)
        self._state = None

    def prefill(self):
        """Read the text into a new cache; logits of the last token only."""
        self._state = subjects.forward(self.model, self.ids, logits_to_keep=1)[1]

    def step(self):
        """Read one more token."""
        subjects.forward(self.model, self.ids[:, :1], self._state)

    def forget(self):
        """Free the cache."""
        self._state = None
