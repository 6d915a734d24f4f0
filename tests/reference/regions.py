"""Each method as regions: pairs of tokens in which the distance is separable, a(i) - b(j).

These are the definitions of the other files of this folder, written for all pairs of tokens at once;
`tests/modeling/test_stock_reference.py` holds each against the other. Letters: T tokens, P frequency pairs, H query
heads.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass, replace
from math import ceil, floor, log
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tests.helpers.tiny import INITIAL_WINDOW, Case

from . import dynamic_ntk, gali, ntk
from .self_extend import query_factor


@dataclass(frozen=True)
class Region:
    """Pairs of tokens whose logit is `weight` times <query turned to a(i)> . <key turned to b(j)>.

    Attributes:
        mask: [T, T] booleans, over query i and key j; [H, T, T] where each head has another one.
        a: [T] positions of the queries, or [T, P], one for each frequency pair.
        b: [T] or [T, P] positions of the keys.
        weight: factor on the logit, broadcast to [T, T].
        amplitude: factor on the cosines and sines, for the query and for the key.
        pairs: [P] booleans: the frequency pairs whose products are summed, None for all. Dimensions that never turn
            are summed with the first pair.
    """

    mask: Tensor
    a: Tensor
    b: Tensor
    weight: Tensor | float = 1.0
    amplitude: float = 1.0
    pairs: Tensor | None = None


@dataclass(frozen=True)
class Setting:
    """What the distances of one layer depend on.

    Attributes:
        p: [T] float64, the tokens' positions.
        ends: for each token, how many tokens there were at the end of the forward that brought it.
        inv_freq: [P] float64, the base's frequencies.
        layer: index of the layer.
    """

    p: Tensor
    ends: list[int]
    inv_freq: Tensor
    layer: int = 0

    @property
    def distance(self) -> Tensor:
        """[T, T] exact distances."""
        return self.p[:, None] - self.p

    def queries_by(self, function: Callable[[int, int], Hashable]) -> Iterator[tuple[Any, Tensor]]:
        """Each value of a function of (position, end), and the queries that have it, as booleans [T, 1]."""
        values = [function(int(i), end) for i, end in zip(self.p, self.ends, strict=True)]
        for value in dict.fromkeys(values):
            yield value, torch.tensor([each == value for each in values])[:, None]


def regions(case: Case, setting: Setting) -> list[Region]:
    """The regions of a case; together they hold each pair of tokens, later keys included, with weights that sum up."""
    parameters = dict(case.parameters)
    for entry in parameters.pop("by_layer", ()):
        if setting.layer in entry["layers"]:
            parameters = dict(entry["parameters"])
    activate_beyond = parameters.pop("activate_beyond", 0)
    if parameters.pop("top_k", None):
        parameters["selected"] = unpacked(case.tables["selected_pairs"])
    if parameters.pop("query_scaling", False):
        weight = query_factors(setting.p, activate_beyond, window_of(parameters))
    else:
        weight = torch.ones(1, 1)
    if case.method in ("bands", "lampe", "local_profile"):
        active = setting.p[:, None] >= max(window_of(parameters), activate_beyond)
        weight = weight * torch.where(active, parameters.pop("attention_factor", 1.0) ** 2, 1.0)
    if case.method in FREQUENCY_METHODS:
        return FREQUENCY_METHODS[case.method](case, setting)
    active = (setting.p >= activate_beyond)[:, None]
    found = [
        replace(region, mask=region.mask & active, weight=region.weight * weight)
        for region in METHODS[case.method](setting, **parameters)
    ]
    found.append(Region(~active.expand(-1, len(setting.p)), setting.p, setting.p))
    return [region for region in found if region.mask.any()]


def window_of(parameters: dict[str, Any]) -> int:
    """The position from which a query is active."""
    if "chunk_ends" in parameters:
        return INITIAL_WINDOW
    if "chunk_size" in parameters:
        return int(parameters["chunk_size"] - parameters["local_window"])
    if "regions" in parameters:
        return int(parameters["regions"][0]["from"])
    return int(parameters.get("shift", parameters["local_window"]))


def unpacked(table: dict[str, Any]) -> Tensor:
    """The booleans of a table as a configuration holds them."""
    bits = np.frombuffer(base64.b64decode(table["bits"]), np.uint8)
    booleans = np.unpackbits(bits, count=int(np.prod(table["shape"])), bitorder="little").astype(bool)
    return torch.from_numpy(booleans.reshape(table["shape"]))


def query_factors(p: Tensor, activate_beyond: int, local_window: int) -> Tensor:
    """[T, 1]: the optional scaling of each query."""
    given = {"wanted": True, "activate_beyond": activate_beyond, "local_window": local_window}
    return torch.tensor([query_factor(int(i), INITIAL_WINDOW, **given) for i in p], dtype=p.dtype)[:, None]


def near_and_far(setting: Setting, window: int, a: Tensor, b: Tensor) -> list[Region]:
    """Exact distances below a window, a - b from there on."""
    near = setting.distance < window
    return [Region(near, setting.p, setting.p), Region(~near, a, b)]


# Methods that choose a distance for each pair of tokens


def original(setting: Setting) -> list[Region]:
    return [Region(torch.ones_like(setting.distance, dtype=torch.bool), setting.p, setting.p)]


def self_extend(setting: Setting, *, group_size: int, local_window: int) -> list[Region]:
    group = setting.p // group_size
    return near_and_far(setting, local_window, group + local_window - local_window // group_size, group)


def rerope(setting: Setting, *, local_window: int, leak: float | None = None) -> list[Region]:
    p = setting.p
    if leak is None:
        return near_and_far(setting, local_window, torch.full_like(p, local_window), torch.zeros_like(p))
    return near_and_far(setting, local_window, local_window + (p - local_window) / leak, p / leak)


def local_profile(setting: Setting, *, local_window: int, factors: list[float], joined: bool) -> list[Region]:
    scales = torch.tensor(factors, dtype=setting.p.dtype)
    b = setting.p[:, None] * scales
    return near_and_far(setting, local_window, b + local_window * (1 - scales) if joined else b, b)


def bands(
    setting: Setting,
    *,
    regions: list[dict[str, Any]],
    whole_positions: bool,
    dimension_groups: list[int] | None = None,
) -> list[Region]:
    """A position for each frequency pair in each region; the offset is what the region before has reached."""

    def share(position: Tensor, scale: Tensor) -> Tensor:
        return (position / scale).floor() if whole_positions else position / scale

    sizes = np.diff(dimension_groups or [0, len(setting.inv_freq)])
    found = [Region(setting.distance < regions[0]["from"], setting.p, setting.p)]
    reached = torch.full((len(setting.inv_freq),), regions[0]["from"], dtype=setting.p.dtype)
    for region, after in zip(regions, [*regions[1:], {"from": torch.inf}], strict=True):
        border, end = (torch.tensor(each["from"], dtype=setting.p.dtype) for each in (region, after))
        scale = torch.from_numpy(np.repeat(np.broadcast_to(region["scale_factor"], sizes.shape), sizes))
        offset, b = reached - share(border, scale), share(setting.p[:, None], scale)
        found.append(Region((setting.distance >= border) & (setting.distance < end), b + offset, b))
        reached = share(end, scale) + offset
    return found


def lampe(
    setting: Setting,
    *,
    form: str,
    local_window: int,
    tail: int,
    mapping_length: int,
    full_length: int,
    length_step: int | None = None,
) -> list[Region]:
    """A middle that is compressed, and in the paper's form a tail that counts from the other end."""
    if length_step:
        found = []
        given = {"form": form, "local_window": local_window, "tail": tail, "mapping_length": mapping_length}
        for full, queries in setting.queries_by(
            lambda i, end: max(mapping_length, ceil(end / length_step) * length_step)
        ):
            of_length = lampe(setting, **given, full_length=full)
            found += [replace(region, mask=region.mask & queries) for region in of_length]
        return found
    p, m, length = setting.p, mapping_length, full_length
    if form == "program":
        b = (p * m / length).floor()
        return near_and_far(setting, local_window, b + local_window - local_window * m // length, b)
    rest = local_window + tail
    slope, far = (m - rest) / (length - rest), setting.distance >= length - tail
    near, middle = near_and_far(setting, local_window, p * slope + local_window * (1 - slope), p * slope)
    return [near, replace(middle, mask=middle.mask & ~far), Region(far, p - length + m, p)]


def string(setting: Setting, *, shift: int, local_window: int) -> list[Region]:
    return near_and_far(setting, shift, setting.p - shift + local_window, setting.p)


def jet_long(setting: Setting, *, window: int, local_window: int) -> list[Region]:
    """SelfExtend with a group size that depends on the number of tokens so far."""
    return [
        replace(region, mask=region.mask & queries)
        for group_size, queries in setting.queries_by(lambda i, end: ceil(end / window))
        for region in self_extend(setting, group_size=group_size, local_window=local_window)
    ]


def dpe(
    setting: Setting,
    *,
    local_window: int,
    scale_factors: list[int],
    dimension_groups: list[int],
    selected: Tensor | None = None,
) -> list[Region]:
    """A position for each frequency pair; `selected` [layers, H, P]: the pairs that move, for each head."""
    scales, exact = torch.from_numpy(np.repeat(scale_factors, np.diff(dimension_groups))), setting.p[:, None]
    scaled = exact // scales
    near, far = near_and_far(setting, local_window, scaled + local_window - local_window // scales, scaled)
    if selected is None:
        return [near, far]
    heads = selected[setting.layer]
    of_head = torch.eye(len(heads), dtype=torch.bool)[:, :, None, None]
    return [near] + [
        Region(far.mask & own, torch.where(moves, far.a, exact), torch.where(moves, far.b, exact))
        for own, moves in zip(of_head, heads, strict=True)
    ]


def dca(setting: Setting, *, chunk_size: int, local_window: int, temperature: bool) -> list[Region]:
    """Keys of the query's own chunk, of the chunk before, and of older ones."""
    p, stride = setting.p, chunk_size - local_window
    apart = p[:, None] // stride - p // stride
    weight = chunk_temperature(setting) if temperature else 1.0
    own, before, older = p % stride, (p % stride + stride).clamp(max=chunk_size), torch.full_like(p, chunk_size)
    positions = [(apart <= 0, own), (apart == 1, before), (apart > 1, older)]
    return [Region(mask, a, p % stride, weight) for mask, a in positions]


def chunk_temperature(setting: Setting) -> Tensor:
    """[T, 1]: a factor on the query and on the key, from the number of tokens so far."""
    factors = [(0.05 * max(0.0, log(end / INITIAL_WINDOW)) + 1) ** 2 for end in setting.ends]
    return torch.tensor(factors, dtype=setting.p.dtype)[:, None]


def gali_chunks(
    setting: Setting,
    *,
    chunk_size: int | float,
    chunk_ends: str,
    local_window: int,
    logit_interpolation: bool,
    noise: dict[str, Any],
) -> list[Region]:
    """Other positions for each chunk of queries.

    Raises:
        ValueError: the case has noise, which is no function of positions.
    """
    if noise["distribution"] != "none":
        raise ValueError("a region has no noise")

    def tokens_so_far(i: int, end: int) -> int | None:
        return None if i < INITIAL_WINDOW else gali.chunk_end(i, end, INITIAL_WINDOW, chunk_size, chunk_ends)

    found = []
    for count, queries in setting.queries_by(tokens_so_far):
        mask = queries.expand(-1, len(setting.p))
        if count is None:
            found.append(Region(mask, setting.p, setting.p))
        else:
            found += gali_chunk(setting.p, mask, count, local_window, logit_interpolation)
    return found


def gali_chunk(p: Tensor, mask: Tensor, count: int, local_window: int, logit_interpolation: bool) -> list[Region]:
    """Logits of the queries that see `count` tokens; between whole positions, interpolated between two."""
    table = gali.positions(count, INITIAL_WINDOW, local_window)
    pi = [table[min(int(i), count - 1)] for i in p]  # keys beyond the last query are never seen
    exact, upper, lower = (torch.tensor([float(f(x)) for x in pi], dtype=p.dtype) for f in (lambda x: x, ceil, floor))
    if not logit_interpolation:
        return [Region(mask, exact, exact)]
    share = upper - exact
    return [Region(mask, upper, upper, 1 - share), Region(mask, upper, lower, share)]


METHODS: dict[str, Callable[..., list[Region]]] = {
    "original": original,
    "self_extend": self_extend,
    "rerope": rerope,
    "string": string,
    "local_profile": local_profile,
    "bands": bands,
    "lampe": lampe,
    "jet_long": jet_long,
    "dpe": dpe,
    "dca": dca,
    "gali": gali_chunks,
}


# Methods that choose frequencies: a frequency times c is a position times c


def scaled_frequencies(case: Case, setting: Setting) -> list[Region]:
    scaled = setting.p[:, None] * torch.tensor(case.inv_freq, dtype=setting.p.dtype) / setting.inv_freq
    amplitude = case.parameters.get("attention_factor", 1.0)
    return [replace(region, a=scaled, b=scaled, amplitude=amplitude) for region in original(setting)]


def growing_ntk(case: Case, setting: Setting) -> list[Region]:
    """Frequencies by the number of tokens so far, for an input that comes all at once."""
    theta, head_dim, length = 10000.0, 2 * len(setting.inv_freq), setting.ends[-1]
    grown = dynamic_ntk.frequencies(theta, head_dim, length, initial_window=INITIAL_WINDOW, **case.parameters)
    factors = torch.from_numpy(grown / ntk.frequencies(theta, head_dim, 1.0))  # whatever theta is
    scaled = setting.p[:, None] * factors
    return [replace(region, a=scaled, b=scaled) for region in original(setting)]


FREQUENCY_METHODS: dict[str, Callable[[Case, Setting], list[Region]]] = {
    "dprope": scaled_frequencies,
    "linear": scaled_frequencies,
    "ntk": scaled_frequencies,
    "yarn": scaled_frequencies,
    "profile": scaled_frequencies,
    "dynamic_ntk": growing_ntk,
}
