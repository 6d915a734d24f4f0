"""How much each frequency pair contributes to attention logits (arXiv 2504.18857, section 3.1).

The contribution of a pair is the mean over tokens of |q| |k|, q and k being a token's query and key in the two
dimensions of the pair: what their product can come to at most (Cauchy and Schwarz). Rotations do not change it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ropext.converter.checkpoint.family import Layout
from ropext.converter.evaluation.tasks.texts import Text, passage

if TYPE_CHECKING:
    from ropext.converter.evaluation.run.transformers_model import SwitchableModel

__all__ = ["Contributions", "measure_contributions", "passages"]

_BLOCK = 4096
"""Tokens whose norms are held at once."""


class Contributions:
    """Sums that grow as texts are read: nothing else is kept of them.

    Attributes:
        texts: how many have been read.
    """

    def __init__(self, layers: int, heads: int, pairs: int, *, layout: Layout = "halves", first: int = 0) -> None:
        self._sums = torch.zeros(layers, heads, pairs, dtype=torch.float64)
        self._pairs, self._layout, self._first = pairs, layout, first
        self.texts = 0

    def see(self, layer: int, query: Tensor, key: Tensor) -> None:
        """Add one layer's queries [1, H, T, D] and keys [1, K, T, D]; dimensions beyond the pairs are not turned."""
        count = query.shape[2]
        for start in range(0, count, _BLOCK):
            block = slice(start, start + _BLOCK)
            q, k = (self._norms(states[0, :, block]) for states in (query, key))
            grouped = q.view(k.shape[0], -1, *q.shape[1:])  # [K, H / K, T, P]
            self._sums[layer] += torch.einsum("kgtp,ktp->kgp", grouped, k).flatten(0, 1).cpu() / count

    def _norms(self, states: Tensor) -> Tensor:
        """[heads, T, P] of [heads, T, D]."""
        turned = states[..., self._first : self._first + 2 * self._pairs].double()
        if self._layout == "halves":
            return torch.hypot(*turned.chunk(2, dim=-1))
        return torch.hypot(turned[..., 0::2], turned[..., 1::2])

    def mean(self) -> Tensor:
        """[layers, heads, pairs], float32, averaged over texts."""
        return (self._sums / max(1, self.texts)).float()


def passages(tokenizer: Any, text: Text, lengths: Sequence[int], samples: int, seed: int) -> Iterator[list[int]]:
    """So many passages of each length, token ids; those of one sample begin at the same place in the text."""
    for sample in range(samples):
        for length in lengths:
            yield passage(tokenizer, text, length, 1000 * seed + sample)


def measure_contributions(model: SwitchableModel, texts: Iterable[list[int]]) -> Tensor:
    """Contributions [layers, query heads, pairs], averaged over texts (token ids), the base reading them."""
    facts = model.facts
    base = model.description
    total = Contributions(
        facts.num_hidden_layers, facts.num_attention_heads, len(base.inv_freq), layout=base.layout, first=base.first
    )
    model.use(None)
    with model.watched(lambda method, tokens: total.see(tokens.layer, tokens.query, tokens.key)):
        for ids in texts:
            model.read(torch.tensor(ids))
            total.texts += 1
    return total.mean()
