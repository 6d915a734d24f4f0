"""The attention of one layer, of a model's shape, on random queries, keys and values, rotations included.

The layer is not the first: the tables of cosines and sines that all layers share are there.
"""

import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import AutoConfig
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding, apply_rotary_pos_emb

from ropext.converter.model_classes import parts_of
from ropext.modeling.rope_ext_method import Tokens
from ropext.modeling.rope_ext_positions import Geometry


class Layer:
    """One layer's input, and what the base and a method make of it."""

    def __init__(self, models, length):
        facts, device = models.facts, models.device
        self.config = AutoConfig.from_pretrained(models.folder)
        self.backend = models.options.attn
        generator = torch.Generator(device).manual_seed(0)
        heads = [facts.num_attention_heads, facts.num_key_value_heads, facts.num_key_value_heads]
        self.query, self.key, self.value = (
            torch.randn((1, count, length, facts.head_dim), generator=generator, device=device, dtype=models.dtype)
            for count in heads
        )
        self.length, self.scale = length, facts.head_dim**-0.5
        self.positions = torch.arange(length, device=device)[None]
        self.table = LlamaRotaryEmbedding(self.config).to(device)(self.query, self.positions)

    def base(self):
        """Rotated, then torch's own attention."""
        query, key = apply_rotary_pos_emb(self.query, self.key, *self.table)
        return self._causal(query, key)

    def _causal(self, query, key):
        grouped = query.shape[1] != key.shape[1]
        return scaled_dot_product_attention(query, key, self.value, is_causal=True, enable_gqa=grouped)

    def of(self, config):
        """An action: the same by the method of a configuration."""
        method = parts_of(config.rope_ext["method"])[0](config.rope_ext)
        geometry = Geometry(self.positions, 0, self.length)
        exact = method.is_base(self.length)

        def attend():
            query, key = apply_rotary_pos_emb(self.query, self.key, *self.table)
            if exact:
                return self._causal(query, key)
            tokens = Tokens(0, query, key, self.value, geometry, method.pairs, self.scale, backend=self.backend)
            if method.keys_stay:  # as a cache would have it
                tokens.far_key = method.far_keys(tokens, self.length)
            return method.attend(tokens, weights=False)[0]

        return attend, exact
