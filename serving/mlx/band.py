"""Methods that keep exact distances in a local window: beyond it, a(p) for queries and b(p) for keys."""

import base64
import math
from itertools import pairwise

import mlx.core as mx

from .mlx_rope_ext import METHODS, Method, apart, dot


class Band(Method):
    """Near logits, those of each region beyond, and a choice where two occur."""

    keys_stay, width, held, borders_move = True, "local_window", 0, False

    def __init__(self, block):
        super().__init__(block)
        self.borders = self.borders_of(block)
        self.window = self.borders[0]
        self.start = max(self.window, self.parameters.get("activate_beyond", 0))
        self.selection = None

    def borders_of(self, block):
        """The distances from which each region beyond the near band reaches."""
        return (self.parameters[self.width],)

    def borders_at(self, so_far):
        """The borders with `so_far` tokens, [B, 1, 1, 1] where a border moves."""
        return self.borders

    def query_place(self, p, so_far, region=0):
        """a(p): [B, T], or [B, T, P] for a map of each pair's own; `so_far` is [B, 1] tokens."""
        raise NotImplementedError

    def far_place(self, p, so_far, region=0):
        """b(p), in the same terms."""
        return self.key_place(p)

    def prepared(self, keys, where):
        L, T = keys.shape[2], where.p.shape[1]
        everywhere = self.start == self.window or (where.first is not None and where.first >= self.start)
        everywhere = everywhere and not self.borders_move
        limits = everywhere and self.selection is None
        starts = [max(0, L - T - border + 1) if limits else 0 for border in self.borders] + [0]
        sides = []
        for region, border in enumerate(self.borders):
            start, stop = starts[region + 1], L if self.borders_move else max(0, L - border)
            side = keys[:, :, start:stop]
            if not self.keys_stay or region != self.held:
                p = where.key_positions(start, max(start, stop))
                stored = self.key_place(p) if self.keys_stay else p
                side = self.turn(side, self.table(apart(self.far_place(p, where.so_far, region), stored)))
            sides.append((side, start))
        return self.exact_keys(keys, where, starts[0]), starts[0], sides, everywhere

    def logits(self, query, part, prepared, columns):
        (exact, first, sides, everywhere), begin, end = prepared, columns.start, columns.stop
        near_query = self.scaled(self.rotate(query, part.p), part.p)
        low = max(first, begin - self.window + 1) if everywhere else first
        logits = dot(near_query, exact[:, :, low - first : end - first])
        for region, border in enumerate(self.borders):
            (keys, start), high = sides[region], end if self.borders_move else max(low, end - border)
            if high <= 0:
                break
            outer = self.borders[region + 1] if region + 1 < len(self.borders) else end
            lowest = max(start, begin - outer + 1) if everywhere else start
            far_query = self.scaled(self.rotate(query, self.query_place(part.p, part.so_far, region)), part.p)
            beyond = self.far_logits(
                near_query, far_query, keys[:, :, lowest - start : high - start], exact, part.layer
            )
            nearer = mx.arange(begin, end)[:, None] - mx.arange(low, high) < self.borders_at(part.so_far)[region]
            if self.start > self.window:
                nearer = nearer | (part.p < self.start)[:, None, :, None]
            both = mx.where(nearer, logits[..., : high - low], beyond[..., low - lowest :])
            logits = mx.concatenate((beyond[..., : low - lowest], both, logits[..., high - low :]), axis=-1)
            low = lowest
        return logits

    def far_logits(self, near_query, far_query, far, exact, layer):
        """[B, H, T, columns of `far`]; unselected pairs stay exact."""
        if self.selection is None:
            return dot(far_query, far)
        chosen = self.dims(self.selection[layer], far.shape[-1]).astype(far.dtype)
        query = mx.concatenate((far_query * chosen, near_query * (1 - chosen)), axis=-1)
        return dot(query, mx.concatenate((far, exact[:, :, : far.shape[2]]), axis=-1))


class SelfExtend(Band):
    """Floor(i / G) + w - floor(w / G) against floor(j / G)."""

    def query_place(self, p, so_far, region=0):
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

    def query_place(self, p, so_far, region=0):
        return p[..., None] // self.scale + self.window - self.window // self.scale

    def key_place(self, p):
        return p[..., None] // self.scale


class Rerope(Band):
    """Distances stand still beyond w, or leak."""

    def query_place(self, p, so_far, region=0):
        leak = self.parameters.get("leak")
        return mx.full(p.shape, self.window) if leak is None else p / leak + self.window - self.window / leak

    def key_place(self, p):
        leak = self.parameters.get("leak")
        return mx.zeros_like(p) if leak is None else p / leak


class String(Band):
    """Distances shifted down by S - W."""

    keys_stay, width = False, "shift"

    def query_place(self, p, so_far, region=0):
        return p - self.window + self.parameters["local_window"]

    def key_place(self, p):
        return p


class LocalProfile(Band):
    """A factor for each pair beyond the window."""

    def __init__(self, block):
        super().__init__(block)
        self.scales = mx.array(self.parameters["factors"])

    def query_place(self, p, so_far, region=0):
        joined = self.window * (1 - self.scales) if self.parameters["joined"] else 0.0
        return p[..., None] * self.scales + joined

    def key_place(self, p):
        return p[..., None] * self.scales


class Bands(Band):
    """Regions, each with a scale factor for all pairs or for each group of them."""

    def __init__(self, block):
        super().__init__(block)
        ends = (*self.borders[1:], max(block["target_window"], self.borders[-1] + 1))
        widths = [end - border for border, end in zip(self.borders, ends, strict=True)]
        self.held = widths.index(max(widths))
        self.whole = self.parameters["whole_positions"]
        sizes = [stop - start for start, stop in pairwise(self.parameters.get("dimension_groups", (0, 1)))]
        reached, self.scales, self.offsets = [self.window] * len(sizes), [], []
        for region, end in zip(self.parameters["regions"], ends, strict=True):
            scale = region["scale_factor"]
            scale = scale if isinstance(scale, list) else [scale] * len(sizes)
            scale = [int(each) if each == int(each) else each for each in scale]
            offset = [at - self.share(region["from"], by) for at, by in zip(reached, scale, strict=True)]
            reached = [self.share(end, by) + more for by, more in zip(scale, offset, strict=True)]
            for kept, numbers in ((self.scales, scale), (self.offsets, offset)):
                kept.append(mx.array([each for each, size in zip(numbers, sizes, strict=True) for _ in range(size)]))

    def borders_of(self, block):
        return tuple(region["from"] for region in self.parameters["regions"])

    def share(self, p, scale):
        """P / s, rounded down where positions are whole."""
        return p // scale if self.whole else p / scale

    def query_place(self, p, so_far, region=0):
        return self.far_place(p, so_far, region) + self.offsets[region]

    def far_place(self, p, so_far, region=0):
        return self.share(p[..., None], self.scales[region])

    def key_place(self, p):
        return self.far_place(p, None, self.held)


class Lampe(Band):
    """L tokens in the space of m: the middle compressed, the tail exact from the other end."""

    def __init__(self, block):
        super().__init__(block)
        self.step, self.tail, self.mapped = (
            self.parameters.get(key) for key in ("length_step", "tail", "mapping_length")
        )
        self.keys_stay = not self.step
        self.borders_move = bool(self.step and self.tail)

    def borders_of(self, block):
        parameters = self.parameters
        tail = (parameters["full_length"] - parameters["tail"],) if parameters["tail"] else ()
        return parameters["local_window"], *tail

    def borders_at(self, so_far):
        return (self.window, self.full(so_far)[:, None, None] - self.tail) if self.borders_move else self.borders

    def is_base(self, length):
        rounded = -(-length // self.step) * self.step if self.step else length
        return super().is_base(length) or (bool(self.step) and rounded <= self.mapped)

    def full(self, so_far):
        """L: a number, or [B, 1]."""
        if not self.step:
            return self.parameters["full_length"]
        return mx.maximum(-(-so_far // self.step) * self.step, self.mapped)

    def share(self, p, so_far):
        if self.parameters["form"] == "program":
            return mx.array(p, dtype=mx.int64) * self.mapped // self.full(so_far)
        rest = self.window + self.tail
        return p * ((self.mapped - rest) / (self.full(so_far) - rest))

    def query_place(self, p, so_far, region=0):
        if region:
            return p + self.mapped - self.full(so_far)
        return self.share(p, so_far) + self.window - self.share(self.window, so_far)

    def far_place(self, p, so_far, region=0):
        return p if region else self.share(p, so_far)

    def key_place(self, p):
        return self.share(p, None)


class JetLong(Band):
    """SelfExtend whose G follows the length: keys stay exact in the cache."""

    keys_stay = False

    def is_base(self, length):
        return super().is_base(length) or length <= self.parameters["window"]

    def group(self, so_far):
        return -(-so_far // self.parameters["window"])

    def query_place(self, p, so_far, region=0):
        group = self.group(so_far)
        return p // group + self.window - self.window // group

    def far_place(self, p, so_far, region=0):
        return p // self.group(so_far)


METHODS.update(
    {
        "bands": Bands,
        "dpe": Dpe,
        "jet_long": JetLong,
        "lampe": Lampe,
        "local_profile": LocalProfile,
        "rerope": Rerope,
        "self_extend": SelfExtend,
        "string": String,
    }
)
