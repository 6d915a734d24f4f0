"""Methods that keep exact distances in a local window: beyond it, a(p) for queries and b(p) for keys."""

import base64
import math
from itertools import pairwise

import mlx.core as mx

from .mlx_rope_ext import METHODS, Method, apart, dot


class Band(Method):
    """Near and far logits, and a choice where both occur."""

    keys_stay, width = True, "local_window"

    def __init__(self, block):
        super().__init__(block)
        self.window = self.parameters[self.width]
        self.start = max(self.window, self.parameters.get("activate_beyond", 0))
        self.scales_queries = self.parameters.get("query_scaling", False)
        self.selection = None

    def query_place(self, p, so_far):
        """a(p): [B, T], or [B, T, P] for a map of each pair's own; `so_far` is [B, 1] tokens."""
        raise NotImplementedError

    def far_place(self, p, so_far):
        """b(p), in the same terms."""
        return self.key_place(p)

    def prepared(self, keys, where):
        L, T = keys.shape[2], where.p.shape[1]
        everywhere = self.start == self.window or (where.first is not None and where.first >= self.start)
        first = max(0, L - T - self.window + 1) if everywhere and self.selection is None else 0
        far = keys[:, :, : max(0, L - self.window)]
        if not self.keys_stay:
            p = where.key_positions(0, far.shape[2])
            far = self.turn(far, self.table(apart(self.far_place(p, where.so_far), p)))
        return far, self.exact_keys(keys, where, first), first, everywhere

    def logits(self, query, part, prepared, columns):
        (far, exact, first, everywhere), begin, end = prepared, columns.start, columns.stop
        near_query = self.rotate(query, part.p)
        far_query = self.rotate(query, self.query_place(part.p, part.so_far))
        if self.scales_queries:
            scale = mx.where(part.p < self.start, 1.0, self.query_scale(part.p))[:, None, :, None]
            near_query, far_query = ((each * scale).astype(query.dtype) for each in (near_query, far_query))
        low = max(first, begin - self.window + 1) if everywhere else first
        high = max(low, end - self.window)
        near = dot(near_query, exact[:, :, low - first : end - first])
        if high <= 0:
            return near
        beyond = self.far_logits(near_query, far_query, far[:, :, :high], exact, part.layer)
        is_near = mx.arange(begin, end)[:, None] - mx.arange(low, high) < self.window
        if self.start > self.window:
            is_near = is_near | (part.p < self.start)[:, None, :, None]
        both = mx.where(is_near, near[..., : high - low], beyond[..., low:])
        return mx.concatenate((beyond[..., :low], both, near[..., high - low :]), axis=-1)

    def query_scale(self, p):
        """[B, T]: the factor on queries from `start` on, against entropy that grows with the length."""
        return mx.maximum(mx.log((p + 1).astype(mx.float32)) / math.log(self.trained), 1.0)

    def far_logits(self, near_query, far_query, far, exact, layer):
        """[B, H, T, columns of `far`]; unselected pairs stay exact."""
        if self.selection is None:
            return dot(far_query, far)
        chosen = self.dims(self.selection[layer], far.shape[-1]).astype(far.dtype)
        query = mx.concatenate((far_query * chosen, near_query * (1 - chosen)), axis=-1)
        return dot(query, mx.concatenate((far, exact[:, :, : far.shape[2]]), axis=-1))


class SelfExtend(Band):
    """Floor(i / G) + w - floor(w / G) against floor(j / G)."""

    def query_place(self, p, so_far):
        group = self.parameters["group_size"]
        return p // group + self.window - self.window // group

    def key_place(self, p):
        return p // self.parameters["group_size"]


class Dpe(Band):
    """SelfExtend with a scale for each group of pairs, of all pairs or of those that each head has selected."""

    def __init__(self, block):
        super().__init__(block)
        sizes = [stop - start for start, stop in pairwise(self.parameters["dimension_groups"])]
        scales = zip(self.parameters["scale_factors"], sizes, strict=True)
        self.scale = mx.array([scale for scale, size in scales for _ in range(size)])
        packed = block["tables"].get("selected_pairs")
        if packed is not None:
            self.keys_stay = False  # both rotations of a key are needed
            bits = mx.array(list(base64.b64decode(packed["bits"])), dtype=mx.uint8)
            bits = (bits[:, None] >> mx.arange(8, dtype=mx.uint8) & 1).flatten()
            self.selection = bits[: math.prod(packed["shape"])].reshape(packed["shape"])

    def query_place(self, p, so_far):
        return p[..., None] // self.scale + self.window - self.window // self.scale

    def key_place(self, p):
        return p[..., None] // self.scale


class Rerope(Band):
    """Distances stand still beyond w, or leak."""

    def query_place(self, p, so_far):
        leak = self.parameters.get("leak")
        return mx.full(p.shape, self.window) if leak is None else p / leak + self.window - self.window / leak

    def key_place(self, p):
        leak = self.parameters.get("leak")
        return mx.zeros_like(p) if leak is None else p / leak


class String(Band):
    """Distances shifted down by S - W."""

    keys_stay, width = False, "shift"

    def query_place(self, p, so_far):
        return p - self.window + self.parameters["local_window"]

    def key_place(self, p):
        return p


class LocalProfile(Band):
    """A factor for each pair beyond the window."""

    def __init__(self, block):
        super().__init__(block)
        self.factors, self.logit_factor = mx.array(self.parameters["factors"]), self.parameters["attention_factor"] ** 2
        self.scales_queries = self.logit_factor != 1.0

    def query_scale(self, p):
        return mx.full(p.shape, self.logit_factor)

    def query_place(self, p, so_far):
        joined = self.window * (1 - self.factors) if self.parameters["joined"] else 0.0
        return p[..., None] * self.factors + joined

    def key_place(self, p):
        return p[..., None] * self.factors


class JetLong(Band):
    """SelfExtend whose G follows the length: keys stay exact in the cache."""

    keys_stay = False

    def is_base(self, length):
        return super().is_base(length) or length <= self.parameters["window"]

    def group(self, so_far):
        return -(-so_far // self.parameters["window"])

    def query_place(self, p, so_far):
        group = self.group(so_far)
        return p // group + self.window - self.window // group

    def far_place(self, p, so_far):
        return p // self.group(so_far)


METHODS.update(
    {
        "dpe": Dpe,
        "jet_long": JetLong,
        "local_profile": LocalProfile,
        "rerope": Rerope,
        "self_extend": SelfExtend,
        "string": String,
    }
)
