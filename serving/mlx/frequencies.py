"""Frequency methods: another angle per token for each pair, attention as it is."""

import mlx.core as mx

from .mlx_rope_ext import METHODS, Method, stock_attention


class Frequencies(Method):
    """Inverse frequencies of the method's own; attention is mlx-lm's."""

    def __init__(self, block):
        super().__init__(block)
        self.attention_factor = self.parameters.get("attention_factor", 1.0)

    def check_rotation(self, rope, layer):
        super().check_rotation(rope, layer)
        self.factor *= self.attention_factor

    def check_other(self, rope, layer):
        """Refuse: where layers with a window share the base's table, transformers changes them too."""
        if self.base_factor(rope) is not None:
            raise ValueError(
                f"ropext: layer {layer} slides at the base's frequencies; for MLX take a method with a local window"
            )

    def stored(self, keys, where):
        return self.rotate(keys, where.p, self.frequencies(where.so_far))

    def attend(self, queries, keys, values, where, scale, mask, sinks):
        queries = self.rotate(queries, where.p, self.frequencies(where.so_far))
        return stock_attention(queries, keys, values, where.cache, scale, mask, sinks)

    def frequencies(self, so_far):
        """Radians per token [P], or [B, 1, P] where each row has its own."""
        return self.inv_freq


class DynamicNtk(Frequencies):
    """Theta grows with the length of each row."""

    def __init__(self, block):
        super().__init__(block)
        base = block["base"]
        self.theta = base["rope_theta"] or base["rope_parameters"]["full_attention"]["rope_theta"]

    def frequencies(self, so_far):
        factor, dim = self.parameters["scaling_factor"], 2 * len(self.inv_freq)
        growth = mx.maximum(factor * so_far / self.trained - (factor - 1), 1.0)
        theta = self.theta * growth ** (dim / (dim - 2))
        grown = 1.0 / theta ** (mx.arange(0, dim, 2).astype(mx.float32) / dim)
        return mx.where(so_far > self.trained, grown, self.inv_freq)[:, None]


METHODS.update(
    {
        "dprope": Frequencies,
        "dynamic_ntk": DynamicNtk,
        "linear": Frequencies,
        "ntk": Frequencies,
        "original": Frequencies,
        "profile": Frequencies,
        "yarn": Frequencies,
    }
)
