"""GALI: positions of N tokens fitted into M, logits between integers interpolated, noise as transformers draws it."""

import math

import mlx.core as mx

from .mlx_rope_ext import METHODS, Method, dot


class Gali(Method):
    """Positions of N tokens fitted into M, logits between integers interpolated by a blended key."""

    products = 3

    def __init__(self, block):
        super().__init__(block)
        self.start = max(self.trained, self.parameters.get("activate_beyond", 0))
        self.ends_with_input = self.parameters["chunk_ends"] == "input"

    def ends(self, length):
        """Lengths at which chunks end."""
        ends, size = [self.trained], self.parameters["chunk_size"]
        while ends[-1] < length:
            ends.append(ends[-1] + (size if isinstance(size, int) else max(1, int(ends[-1] * size))))
        return ends

    def places(self, p, so_far):
        """Ceil(pi), floor(pi) and ceil(pi) - pi of positions [B, L], with N [B, 1] tokens."""
        space = self.trained - self.parameters["local_window"]
        surplus = mx.maximum(so_far - self.trained, 0)
        group = -(-(surplus + space) // space)
        moved = (p < surplus - (-surplus // mx.maximum(group - 1, 1))) & (surplus > 0)
        upper, lower, weight = -(-p // group), p // group, (-p % group) / group
        suffix = p - surplus
        return mx.where(moved, upper, suffix), mx.where(moved, lower, suffix), mx.where(moved, weight, 0.0)

    def prepared(self, keys, where):
        return keys, where

    def logits(self, query, part, prepared, columns):
        (keys, where), end = prepared, columns.stop
        keys, key_p = keys[:, :, :end], where.key_positions(0, end)
        ends = self.ends(columns.stop)
        if self.ends_with_input and part.p.shape[1] == 1:
            runs = [(mx.array(True), part.so_far)]
        else:
            run = sum((part.p >= each).astype(mx.int32) for each in ends)
            first = 0 if part.first is None else sum(part.first >= each for each in ends)
            limit = part.so_far if self.ends_with_input else mx.array([[1 << 30]])
            runs = [(run == n, mx.minimum(ends[n], limit)) for n in range(max(first, 1), len(ends))]
        logits = dot(self.rotate(query, part.p), keys)
        for chosen, so_far in runs:
            moved = self.moved(query, part.p, keys, key_p, so_far, part.layer)
            logits = mx.where((chosen & (part.p >= self.start))[:, None, :, None], moved, logits)
        return logits

    def moved(self, query, p, keys, key_p, so_far, layer):
        """[B, H, T, L] by the positions of N tokens."""
        upper, _, weight = self.places(p, so_far)
        between = self.parameters["logit_interpolation"]
        query = self.scaled(self.rotate(query, upper if between else upper - weight), p)
        upper, lower, weight = self.places(key_p, so_far)
        if between:
            blend = weight[:, None, :, None]
            tables = zip(self.table(upper - key_p), self.table(lower - key_p), strict=True)
            table = [high + blend * (low - high) for high, low in tables]
        else:
            table = self.table(upper - weight - key_p)
        logits = dot(query, self.turn(keys, table))
        noise = self.parameters["noise"]
        if noise["distribution"] == "none":
            return logits
        return logits + self.noise(noise, layer, query.shape[1], p, key_p, so_far, weight).astype(logits.dtype)

    def noise(self, noise, layer, heads, p, key_p, so_far, weight):
        """[B, H, T, L] of zero mean, the same for the same seed, layer, head and positions."""
        state = mx.array(0, dtype=mx.uint32)
        for number in (noise["seed"] & 0xFFFFFFFF, layer):
            state = _mixed(state ^ mx.array(number, dtype=mx.uint32))
        head = _mixed(state ^ mx.arange(heads, dtype=mx.uint32))
        bits = _mixed(head[None, :, None] ^ p.astype(mx.uint32)[:, None])
        bits = _mixed(bits[..., None] ^ key_p.astype(mx.uint32)[:, None, None])
        if noise["distribution"] == "gaussian":
            turn = mx.cos(_unit(_mixed(bits ^ mx.array(0x9E3779B9, dtype=mx.uint32))) * (2 * math.pi))
            sample = mx.sqrt(-2 * mx.log(_unit(bits))) * turn
        else:
            sample = (_unit(bits) * 2 - 1) * math.sqrt(3)
        deviation = mx.array(noise["std"])
        if noise["scale_by_distance"]:
            distance = (p[..., None] - key_p[:, None]).astype(mx.float32)
            deviation = (deviation * distance / so_far[..., None].astype(mx.float32))[:, None]
        if noise["interpolated_only"]:
            return sample * deviation * (weight > 0)[:, None, None]
        return sample * deviation * (so_far > self.trained)[:, None, None]


def _mixed(x):
    """A bijection of 32-bit integers that spreads every bit."""
    x = (x ^ (x >> 16)) * mx.array(0x7FEB352D, dtype=mx.uint32)
    x = (x ^ (x >> 15)) * mx.array(0x846CA68B, dtype=mx.uint32)
    return x ^ (x >> 16)


def _unit(bits):
    """32-bit integers to float32 in (0, 1]."""
    return (bits.astype(mx.float32) + 1) * 2.0**-32


METHODS.update({"gali": Gali})
