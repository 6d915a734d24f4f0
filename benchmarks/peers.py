"""Methods as their papers describe them, in the place of a stock Llama's attention: what ours are compared with.

Logits are dense matrices of all queries and keys. Keys are cached unrotated, repeated to all query heads, and rotated
anew in each forward; DCA's, which never move, are cached rotated. No padding.

Shape letters: B batch, H query heads, T queries, L keys, D head_dim, P = D / 2 frequency pairs.
"""

import math

import torch
from transformers.models.llama.modeling_llama import LlamaAttention

from ropext.modeling.rope_ext_dpe import unpack_booleans

PUBLISHED = ["dpe", "dpe_top_k", "gali", "self_extend", "dca"]


class PublishedAttention(LlamaAttention):
    """A stock layer's attention by `scheme`."""

    def forward(self, hidden_states, position_embeddings=None, attention_mask=None, past_key_values=None, **kwargs):
        cache = kwargs.get("cache", kwargs.get("past_key_value", past_key_values))
        B, T = hidden_states.shape[:2]
        query, key, value = (
            linear(hidden_states).view(B, T, -1, self.head_dim).transpose(1, 2)
            for linear in (self.q_proj, self.k_proj, self.v_proj)
        )
        past = 0 if cache is None else cache.get_seq_length(self.layer_idx)
        key = self.scheme.cached(key, past)
        if cache is not None:
            key, value = cache.update(key, value, self.layer_idx, {})
        key, value = (x.repeat_interleave(query.shape[1] // x.shape[1], dim=1) for x in (key, value))
        out = self.scheme.attend(self.layer_idx, query, key, value)
        return self.o_proj(out.transpose(1, 2).reshape(B, T, -1)), None


class Scheme:
    """A method. `block` is the `rope_ext` block that ours reads: both take the same numbers."""

    def __init__(self, block, device):
        self.inv_freq = torch.tensor(block["inv_freq"], device=device)
        self.initial_window = block["initial_window"]
        for name, value in block["parameters"].items():
            setattr(self, name, value)

    def cached(self, key, past):
        """What the cache keeps of new keys."""
        return key

    def turn(self, x, positions):
        """Rotate [B, H, T, D] to positions [T] or, each pair to its own, [T, P]."""
        positions = positions if positions.dim() == 2 else positions[:, None]
        angle = (positions.float() * self.inv_freq).repeat(1, 2)
        first, second = x.chunk(2, dim=-1)
        return (x * angle.cos() + torch.cat((-second, first), dim=-1) * angle.sin()).to(x.dtype)

    def attend(self, layer, query, key, value):
        """Softmax over the dense logits."""
        T, L = query.shape[2], key.shape[2]
        columns = torch.arange(L, device=key.device)
        rows = columns[L - T :]
        logits = self.logits(layer, query, key, rows, columns) / math.sqrt(query.shape[-1])
        logits = logits.masked_fill(columns > rows[:, None], torch.finfo(logits.dtype).min)
        return logits.softmax(-1, dtype=torch.float32).to(value.dtype) @ value


class SelfExtend(Scheme):
    """Neighbour logits and grouped logits, chosen by a mask (arXiv 2401.01325, section 3)."""

    def logits(self, layer, query, key, rows, columns):
        window, group = self.local_window, self.group_size
        neighbour = self.turn(query, rows) @ self.turn(key, columns).mT
        grouped_query = self.turn(query, rows // group + window - window // group)
        grouped = grouped_query @ self.turn(key, columns // group).mT
        return torch.where(rows[:, None] - columns < window, neighbour, grouped)


class Dpe(Scheme):
    """SelfExtend with a group size for each pair; with key dimensions, for those of each head (arXiv 2504.18857)."""

    def __init__(self, block, device):
        super().__init__(block, device)
        sizes = torch.tensor(self.dimension_groups).diff()
        self.scale = torch.tensor(self.scale_factors).repeat_interleave(sizes).to(device)
        packed = block.get("tables", {}).get("selected_pairs")
        self.selected = None if packed is None else unpack_booleans(packed).to(device)

    def logits(self, layer, query, key, rows, columns):
        window, scale = self.local_window, self.scale
        near_query, near_key = self.turn(query, rows), self.turn(key, columns)
        far_query = self.turn(query, rows[:, None] // scale + window - window // scale)
        far_key = self.turn(key, columns[:, None] // scale)
        if self.selected is not None:
            selected = self.selected[layer].repeat(1, 2)[:, None]
            far_query, far_key = (
                torch.where(selected, far, near) for far, near in ((far_query, near_query), (far_key, near_key))
            )
        return torch.where(rows[:, None] - columns < window, near_query @ near_key.mT, far_query @ far_key.mT)


class Gali(Scheme):
    """Two logits of each query and key, at the key's position rounded up and down, interpolated (arXiv 2502.02659)."""

    def attend(self, layer, query, key, value):
        """Chunk by chunk: each stands where the positions of its end say."""
        T, L = query.shape[2], key.shape[2]
        past, outs, begin, end = L - T, [], L - T, self.initial_window
        while begin < L:
            while end <= begin:
                end += self.chunk_size
            stop = min(end, L)
            part = query[:, :, begin - past : stop - past], key[:, :, :stop], value[:, :, :stop]
            outs.append(super().attend(layer, *part))
            begin = stop
        return torch.cat(outs, dim=2)

    def logits(self, layer, query, key, rows, columns):
        upper, lower, weight = self._positions(key.shape[2], columns)
        query = self.turn(query, upper[rows])
        at_upper, at_lower = (query @ self.turn(key, positions).mT for positions in (upper, lower))
        return at_upper + weight * (at_lower - at_upper)

    def _positions(self, count, index):
        """Positions of `count` tokens: 0, 1 / g, 2 / g, … for as few integers as will do, then integers up to M - 1."""
        window, local = self.initial_window, self.local_window
        if count <= window:
            return index, index, torch.zeros_like(index, dtype=torch.float32)
        group = math.ceil((count - local) / (window - local))
        shared = math.ceil((count - window) / (group - 1))
        moved = index < count - (window - shared)
        upper, lower = (index + group - 1) // group, index // group
        rest, weight = index - (count - window), upper - index / group
        return torch.where(moved, upper, rest), torch.where(moved, lower, rest), torch.where(moved, weight, 0.0)


class Dca(Scheme):
    """Three logits of each query and key: of one chunk, of the next, of later ones (arXiv 2402.17463)."""

    def __init__(self, block, device):
        super().__init__(block, device)
        self.stride = self.chunk_size - self.local_window

    def cached(self, key, past):
        """Rotated to its place in its chunk."""
        return self.turn(key, (past + torch.arange(key.shape[2], device=key.device)) % self.stride)

    def logits(self, layer, query, key, rows, columns):
        apart = (rows // self.stride)[:, None] - columns // self.stride
        own = rows % self.stride
        places = own, (own + self.stride).clamp(max=self.chunk_size), torch.full_like(own, self.chunk_size)
        intra, successive, inter = (self.turn(query, place) @ key.mT for place in places)
        return torch.where(apart == 0, intra, torch.where(apart == 1, successive, inter))


SCHEMES = {"dpe": Dpe, "gali": Gali, "self_extend": SelfExtend, "dca": Dca}


def install(model, config):
    """Let a stock model attend as the `rope_ext` block of a configuration says."""
    block = config.rope_ext
    scheme = SCHEMES[block["method"]](block, model.device)
    for layer in model.model.layers:
        layer.self_attn.__class__ = PublishedAttention
        layer.self_attn.scheme = scheme
    return model
