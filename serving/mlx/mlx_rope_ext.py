"""MLX's side of a checkpoint that ropext made: `model_file` in `config.json` names this file, and mlx-lm runs it.

The model is mlx-lm's own. In the layers that the method acts on, three names of the attention are exchanged: `rope`
leaves queries and keys as they are, `update_and_fetch` of the cache stores keys where the method wants them, and
`scaled_dot_product_attention` goes by the method's distances. Caches are mlx-lm's own.

Position p counts a row's tokens, without left padding; a column is an index into the cache.
Shape letters: B batch, H query heads, K key heads, T queries, L columns, P frequency pairs, D head's width.
"""

import copy
import inspect
import math
from types import FunctionType

import mlx.core as mx
import mlx_lm
from mlx_lm.models import llama as family
from mlx_lm.models.base import scaled_dot_product_attention

FORMAT, MODEL_TYPE, METHOD = 2, "llama", "dpe"
TRIED = "0.30.7 to 0.32.2"
LOGITS = 1 << 26
"""Most logits that are held at once."""
GROWING = ("KVCache", "BatchKVCache", "QuantizedKVCache", "ConcatenateKVCache")
"""Caches in which a token's column never changes, but for padding."""
METHODS = {}
"""The class of each method, below."""
_ROPE = ("rope_parameters", "rope_scaling", "rope_theta")
_OF_THE_RECORD = ("architectures", "max_position_embeddings", "place")


def _changed(what):
    return ValueError(
        f"ropext: mlx-lm {getattr(mlx_lm, '__version__', '?')} {what}; this file was tried on mlx-lm {TRIED}. "
        "Install one of these, or convert the base again with a newer ropext."
    )


class ModelArgs:
    """What mlx-lm reads `config.json` by: the family's own arguments, the base's values in place of the guards."""

    @staticmethod
    def from_dict(config):
        """Return the arguments of the family's model, with the `rope_ext` block beside them."""
        block = config["rope_ext"]
        found = block["format"], config["model_type"], block["method"]
        if found != (FORMAT, MODEL_TYPE, METHOD):
            raise ValueError(f"ropext: config.json is of {found}, mlx_rope_ext.py of {(FORMAT, MODEL_TYPE, METHOD)}")
        place = block["base"].get("place")
        if place is None:
            config = _opened(config, block["base"])
        else:
            config = {**config, place: _opened(config[place], block["base"])}
        args = family.ModelArgs.from_dict(config)
        args.rope_ext = block
        return args


def _opened(keys, base):
    """The keys of a configuration with the base's values in place of the guards."""
    values = {key: value for key, value in base.items() if key not in _OF_THE_RECORD and value is not None}
    scaling = values.get("rope_scaling") or {}
    kind = scaling.get("rope_type", scaling.get("type", "default"))
    values.setdefault("rope_parameters", {"rope_type": "default", **scaling, "rope_theta": base.get("rope_theta")})
    values["rope_scaling"] = None if kind == "default" else {**scaling, "type": kind}
    values["max_position_embeddings"] = base.get("max_position_embeddings", keys["max_position_embeddings"])
    return {key: value for key, value in keys.items() if key not in _ROPE} | values


def Model(args):  # noqa: N802  mlx-lm calls it so
    """Return the family's model with the method's attention."""
    block, model = args.rope_ext, family.Model(args)
    methods = dict.fromkeys(range(len(model.layers)), METHODS[METHOD](block))
    for change in block["parameters"].get("by_layer", ()):
        methods |= dict.fromkeys(change["layers"], METHODS[METHOD]({**block, "parameters": change["parameters"]}))
    for index, layer in enumerate(model.layers):
        method, found = methods[index], [module for _, module in layer.named_modules() if "rope" in module]
        if index not in block["pairs"]["layers"]:
            for module in found:
                method.check_other(module.rope, index)
            continue
        if len(found) != 1:
            raise _changed(f"has {len(found)} attention modules with `rope` in layer {index}")
        attention = found[0]
        method.check_rotation(attention.rope, index)
        attention.__class__ = _with_method(type(attention))
        attention._rope_ext = method, index
        attention.rope = _stay
    return model


def _stay(x, offset=0):
    return x


def _with_method(stock):
    """A family's attention class, its `__call__` run with other names."""
    call = stock.__call__
    code = call.__code__
    missing = {"rope", "update_and_fetch", "scaled_dot_product_attention"} - set(code.co_names)
    if missing or "cache" not in code.co_varnames[: code.co_argcount]:
        raise _changed(f"computes attention in another way: {stock.__module__} has no {sorted(missing) or 'cache'}")
    names = {**call.__globals__, "scaled_dot_product_attention": _attend}
    inner = FunctionType(code, names, call.__name__, call.__defaults__, call.__closure__)
    signature = inspect.signature(call)

    def __call__(self, *args, **kwargs):  # noqa: N807
        given = signature.bind(self, *args, **kwargs)
        given.apply_defaults()
        given.arguments["cache"] = _Keys(*self._rope_ext, given.arguments["cache"])
        return inner(*given.args, **given.kwargs)

    return type(f"RopeExt{stock.__name__}", (stock,), {"__call__": __call__})


class _Keys:
    """Stands for a layer's cache in one forward, also where there is none.

    Attributes:
        p: [B or 1, T] positions of the queries.
        so_far: [B or 1, 1] tokens of each row up to the end of this forward.
        first: position of the first query, if all rows are alike; else None.
        pads: [B, 1] columns of left padding; None where there is none.
    """

    def __init__(self, method, layer, cache):
        if cache is not None and type(cache).__name__ not in GROWING:
            kind = type(cache).__name__
            raise ValueError(f"ropext: a {kind} forgets or moves tokens; serve without max_kv_size")
        self.method, self.layer, self.cache = method, layer, cache
        self.p = self.so_far = self.first = None
        self.offset = 0 if cache is None else cache.offset
        self.pads = getattr(cache, "left_padding", None)
        self.pads = None if self.pads is None else self.pads[:, None]

    def update_and_fetch(self, keys, values):
        """Store the new keys as the method wants them; return all."""
        count, offset, cache = keys.shape[2], self.offset, self.cache
        alike = not isinstance(offset, mx.array)
        self.first = offset if alike else None
        rows = mx.array([[offset]]) if alike else offset[:, None]
        self.p, self.so_far = rows + mx.arange(count), rows + count
        padded = getattr(cache, "_right_padding", None)
        if padded is not None:
            self.so_far = mx.maximum(self.so_far - padded[:, None], 1)
        keys = self.method.stored(keys, self)
        return (keys, values) if cache is None else cache.update_and_fetch(keys, values)

    def part(self, rows):
        """The queries of a slice."""
        part = copy.copy(self)
        part.p = self.p[:, rows]
        part.first = None if self.first is None else self.first + rows.start
        return part

    def key_positions(self, start, stop):
        """[B or 1, stop - start] positions of columns; below 0 at left padding."""
        columns = mx.arange(start, stop)[None]
        return columns if self.pads is None else columns - self.pads


def _attend(queries, keys, values, cache, scale, mask, sinks=None):
    return cache.method.attend(queries, keys, values, cache, scale, mask, sinks)


def stock_attention(queries, keys, values, cache, scale, mask, sinks):
    """Plain attention, as mlx-lm computes it."""
    given = {} if sinks is None else {"sinks": sinks}
    return scaled_dot_product_attention(queries, keys, values, cache=cache, scale=scale, mask=mask, **given)


def dot(query, key):
    """[B, H, T, L]; keys are not repeated to the query heads of their group."""
    B, H, T, D = query.shape
    return (query.reshape(B, key.shape[1], -1, D) @ key.swapaxes(2, 3)).reshape(B, H, T, -1)


def _weighted(logits, seen, values, sinks):
    """Values [B, K, L, D] by the softmax of logits [B, H, T, L]; sinks [H] are logits without a value."""
    (B, H, T, L), K = logits.shape, values.shape[1]
    if seen is not None:
        logits = mx.where(seen, logits, mx.finfo(logits.dtype).min)
    if sinks is not None:
        logits = mx.concatenate((logits, mx.broadcast_to(sinks[:, None, None], (B, H, T, 1)).astype(logits.dtype)), -1)
    weights = mx.softmax(logits, axis=-1, precise=True)[..., :L].astype(values.dtype)
    return (weights.reshape(B, K, -1, L) @ values).reshape(B, H, T, -1)


def _seen(mask, rows, columns):
    """Booleans that broadcast to [B, H, T, L], for the queries of slices of rows and columns; None: all."""
    if isinstance(mask, str) or (mask is None and columns.stop - columns.start > 1):
        return mx.arange(columns.stop) <= mx.arange(columns.start, columns.stop)[:, None]
    if mask is not None and mask.dtype != mx.bool_:
        raise ValueError("ropext: a mask that adds to logits is not served by MLX")
    return None if mask is None else mask[..., rows, : columns.stop]


class Method:
    """Queries and keys turned by a method's own positions.

    Attributes:
        start: queries at positions below it see exact distances only.
        keys_stay: where a far key stands depends on its own position alone, so that the cache holds it there.
        products: of each query with each key, that are held at once.
    """

    start = 0
    keys_stay = False
    products = 1

    def __init__(self, block):
        pairs = block["pairs"]
        sign = pairs.get("sign", 1)
        self.first, self.layout = pairs.get("first", 0), pairs.get("layout", "halves")
        self.base = mx.array(pairs["inv_freq"], dtype=mx.float32) * sign
        self.inv_freq = mx.array(block["inv_freq"], dtype=mx.float32) * sign
        self.parameters, self.trained, self.factor = block["parameters"], block["initial_window"], 1.0
        if pairs.get("norms_after"):
            raise ValueError("ropext: a norm after the rotation is not served by MLX; run it by transformers")

    # Rotations

    def table(self, positions, inv_freq=None):
        """Cosine and sine [B, 1, T, P], of positions [B, T] or [B, T, P]."""
        positions = positions[..., None] if positions.ndim == 2 else positions
        angle = (positions.astype(mx.float32) * (self.inv_freq if inv_freq is None else inv_freq))[:, None]
        return mx.cos(angle), mx.sin(angle)

    def turn(self, x, table):
        """[B, heads, T, D] turned, in float32."""
        cos, sin = table
        begin, width = self.first, 2 * cos.shape[-1]
        part = x[..., begin : begin + width].astype(mx.float32)
        if self.layout == "halves":
            a, b = mx.split(part, 2, axis=-1)
            part = mx.concatenate((a * cos - b * sin, b * cos + a * sin), axis=-1)
        else:
            a, b = part[..., ::2], part[..., 1::2]
            part = mx.stack((a * cos - b * sin, b * cos + a * sin), axis=-1).reshape(part.shape)
        parts = x[..., :begin], part.astype(x.dtype), x[..., begin + width :]
        return mx.concatenate([each for each in parts if each.shape[-1]], axis=-1)

    def rotate(self, x, positions, inv_freq=None):
        """Queries or keys as they were projected, turned to positions; with the base's factor."""
        cos, sin = self.table(positions, inv_freq)
        return self.turn(x, (cos * self.factor, sin * self.factor))

    def dims(self, pairs, width):
        """[H, 1, D] ones and zeros: the dimensions of pairs [H, P]."""
        turned = mx.concatenate((pairs, pairs), axis=-1) if self.layout == "halves" else mx.repeat(pairs, 2, axis=-1)
        return mx.pad(turned, [(0, 0), (self.first, width - self.first - turned.shape[-1])])[:, None]

    def base_factor(self, rope):
        """What mlx-lm's own rotation has on cosine and sine; None if it does not turn as the base."""
        width = getattr(rope, "dims", getattr(rope, "dim", 2 * len(self.base) + self.first))
        eye = mx.eye(width)[:, None, None]
        still, turned = rope(eye, offset=0)[:, 0, 0], rope(eye, offset=1)[:, 0, 0]
        factor = still[self.first, self.first].item()
        expected = self.turn(eye, [factor * each for each in self.table(mx.array([[1]]), self.base)])[:, 0, 0]
        if width < self.first + 2 * len(self.base) or mx.abs(turned - expected).max().item() > 1e-4:
            return None
        return factor

    def check_rotation(self, rope, layer):
        """Compare with how mlx-lm itself turns the base, and take its factor."""
        self.factor = self.base_factor(rope)
        if self.factor is None:
            raise _changed(f"turns layer {layer} of the base otherwise than transformers")

    def check_other(self, rope, layer):
        """Look at the rotation of a layer that the method leaves alone."""

    def scaled(self, query, p):
        """Queries from `start` on times the square of the attention factor, and against entropy that grows."""
        growing, factor = self.parameters.get("query_scaling"), self.parameters.get("attention_factor", 1.0) ** 2
        if not growing and factor == 1.0:
            return query
        if growing:
            factor = factor * mx.maximum(mx.log((p + 1).astype(mx.float32)) / math.log(self.trained), 1.0)
        return (query * mx.where(p < self.start, 1.0, factor)[:, None, :, None]).astype(query.dtype)

    # Attention

    def stored(self, keys, where):
        """Keys [B, K, T, D] as the cache holds them."""
        return self.rotate(keys, self.key_place(where.p) if self.keys_stay else where.p)

    def key_place(self, p):
        """Where a far key stands, for methods in which that depends on its own position alone."""
        raise NotImplementedError

    def exact_keys(self, keys, where, start=0):
        """Keys from column `start` on, at their own positions."""
        keys = keys[:, :, start:]
        if not self.keys_stay:
            return keys
        p = where.key_positions(start, start + keys.shape[2])
        return self.turn(keys, self.table(apart(p, self.key_place(p))))

    def prepared(self, keys, where):
        """What `logits` takes of the keys [B, K, L, D], for all queries of a forward."""
        raise NotImplementedError

    def logits(self, query, part, prepared, columns):
        """[B, H, T, stop of columns], of the queries at the slice `columns`, `part` of a forward."""
        raise NotImplementedError

    def is_base(self, length):
        """Whether rows of this length see exact distances alone."""
        return length <= self.start

    def attend(self, queries, keys, values, where, scale, mask, sinks):
        """Attention [B, H, T, D] of queries that are not turned yet."""
        if hasattr(where.cache, "bits"):
            how = {"group_size": where.cache.group_size, "bits": where.cache.bits}
            keys, values = (mx.dequantize(*each, **how).astype(queries.dtype) for each in (keys, values))
        (B, H, T, _), L = queries.shape, keys.shape[2]
        if self.is_base(L):
            query, keys = self.rotate(queries, where.p), self.exact_keys(keys, where)
            return stock_attention(query, keys, values, None, scale, mask, sinks)
        prepared = self.prepared(keys, where)
        step, outs = max(1, LOGITS // (B * H * L * self.products)), []
        for begin in range(0, T, step):
            rows = slice(begin, min(begin + step, T))
            columns = slice(L - T + rows.start, L - T + rows.stop)
            logits = self.logits(queries[:, :, rows] * scale, where.part(rows), prepared, columns)
            outs.append(_weighted(logits, _seen(mask, rows, columns), values[:, :, : columns.stop], sinks))
        return mx.concatenate(outs, axis=2) if len(outs) > 1 else outs[0]


def apart(p, q):
    """P - q, of positions [B, T] or [B, T, P] each."""
    return p - q if p.ndim == q.ndim else p[..., None] - q if q.ndim == 3 else p - q[..., None]
