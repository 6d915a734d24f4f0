"""DCA: every token by its place in a chunk, three products and a choice."""

import mlx.core as mx

from .mlx_rope_ext import METHODS, Method, dot


class Dca(Method):
    """Chunks of the stride c: a key stands at j mod c, a query at one of three places."""

    keys_stay, products = True, 3

    def __init__(self, block):
        super().__init__(block)
        self.stride = self.parameters["chunk_size"] - self.parameters["local_window"]
        self.active = self.parameters.get("activate_beyond", 0)
        self.start = max(self.stride, self.active)

    def is_base(self, length):
        unscaled = max(self.trained, self.active)
        return length <= self.start and not (self.parameters["temperature"] and length > unscaled)

    def key_place(self, p):
        return p % self.stride

    def prepared(self, keys, where):
        p = where.key_positions(0, keys.shape[2])
        return keys, p // self.stride, self.exact_keys(keys, where) if self.active else None

    def logits(self, query, part, prepared, columns):
        (keys, chunks, exact), p = prepared, part.p
        size, keys = self.parameters["chunk_size"], keys[:, :, : columns.stop]
        own = p % self.stride
        places = own, mx.minimum(own + self.stride, size), mx.full(own.shape, size)
        turned = mx.concatenate([self.scaled(self.rotate(query, place), p) for place in places], axis=2)
        same, before, older = mx.split(dot(turned, keys), 3, axis=2)
        apart = (p[..., None] // self.stride - chunks[:, None, : columns.stop])[:, None]
        logits = mx.where(apart == 0, same, mx.where(apart == 1, before, older))
        if self.parameters["temperature"]:
            ratio = mx.maximum(part.so_far.astype(mx.float32) / self.trained, 1.0)
            factor = mx.where(p < self.active, 1.0, (0.05 * mx.log(ratio) + 1.0) ** 2)[:, None, :, None]
            logits = logits * factor.astype(logits.dtype)
        if not self.active:
            return logits
        plain = dot(self.rotate(query, p), exact[:, :, : columns.stop])
        return mx.where((p < self.active)[:, None, :, None], plain, logits)


METHODS.update({"dca": Dca})
