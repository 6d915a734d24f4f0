"""What a configuration says of RoPE, place by place, and which tables that means."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ropext.converter.checkpoint.rope import SCHEMES, attention_factor, scaled_inv_freq
from ropext.converter.errors import RopextError

from .table import EVERY, Table

__all__ = ["KNOWN", "Claim", "Entry", "claims_of", "entries_of", "replaced"]

Path = tuple[str, ...]

_DICTIONARIES = ("rope_scaling", "rope_parameters")
_LAYER_TYPES = ("full_attention", "sliding_attention", "chunked_attention", "linear_attention")
_OUTSIDE = ("rope_theta", "rotary_emb_base")

KNOWN = {
    "linear": ("factor",),
    "dynamic": ("factor", "alpha", "original_max_position_embeddings"),
    "yarn": (
        *("factor", "original_max_position_embeddings", "beta_fast", "beta_slow", "attention_factor", "attn_factor"),
        *("mscale", "mscale_all_dim", "truncate", "extrapolation_factor"),
    ),
    "longrope": ("short_factor", "long_factor", "factor", "attention_factor", "original_max_position_embeddings"),
    "llama3": ("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"),
    "proportional": ("factor", "partial_rotary_factor"),
    "default": (),
}
"""The keys of each scaling, as transformers and the runtimes name them."""

ANYWHERE = (
    *("rope_theta", "rope_type", "type", "partial_rotary_factor", "mrope_section", "mrope_interleaved"),
    *("llama_4_scaling_beta", "max_position_embeddings", "finetuned"),
)
"""Keys that stand in any of the dictionaries, beside those of the scaling."""


@dataclass(frozen=True)
class Claim:
    """A scaling that a configuration asks for.

    Attributes:
        path: the keys that lead to its dictionary.
        layer_type: the layers that it is for; `EVERY`: those with full attention.
        scaling: the dictionary, with `rope_type`.
        theta: RoPE's base beside it or in it; None where neither says it.
    """

    path: Path
    layer_type: str
    scaling: Mapping[str, Any]
    theta: float | None

    @property
    def name(self) -> str:
        """The dotted name of its place."""
        return ".".join(self.path)

    @property
    def kind(self) -> str:
        """The `rope_type`."""
        return str(self.scaling["rope_type"])

    def meant(self, pairs: int) -> Table | None:
        """Return the table that it means; None where the numbers do not say it.

        Args:
            pairs: frequency pairs of a head.
        """
        return self._table(pairs, "short_factor")

    def beyond(self, pairs: int) -> Table | None:
        """Return the table that it means for long prompts; None where that is the same, or the numbers do not say it.

        Args:
            pairs: frequency pairs of a head.
        """
        return self._table(pairs, "long_factor") if self.switches else None

    @property
    def switches(self) -> bool:
        """Whether long prompts are to be turned by another table."""
        return self.kind == "longrope" and self.scaling.get("short_factor") != self.scaling.get("long_factor")

    def _table(self, pairs: int, factors: str) -> Table | None:
        if self.theta is None or self.kind not in SCHEMES:
            return None
        scaling = self.scaling
        if self.switches:
            scaling = {**scaling, "short_factor": scaling.get(factors), "long_factor": scaling.get(factors)}
        try:
            frequencies = scaled_inv_freq(self.theta, 2 * pairs, scaling, self.name)
            return Table(tuple(frequencies), attention_factor(scaling, self.name))
        except RopextError:
            return None


@dataclass(frozen=True)
class Entry:
    """One key of RoPE's.

    Attributes:
        path: the keys that lead to it, itself the last.
        value: what it says.
        kind: the `rope_type` of the dictionary that holds it; empty outside of one.
    """

    path: Path
    value: Any
    kind: str

    @property
    def name(self) -> str:
        """The dotted name."""
        return ".".join(self.path)

    @property
    def layer_type(self) -> str:
        """The type of layer whose dictionary holds it; `EVERY` where it is for all."""
        return next((key for key in self.path[:-1] if key in _LAYER_TYPES), EVERY)

    @property
    def known(self) -> bool:
        """Whether a key of this name means something there."""
        return not self.kind or self.path[-1] in (*ANYWHERE, *KNOWN.get(self.kind, (self.path[-1],)))


def claims_of(config: Mapping[str, Any]) -> list[Claim]:
    """List the scalings that a configuration asks for, at any place where people write them.

    Args:
        config: a `config.json`.
    """
    found = []
    for path, scaling in _dictionaries(config):
        kind = _kind(scaling)
        if kind not in ("default", "mrope"):
            layer_type = path[-1] if path[-1] in _LAYER_TYPES else EVERY
            found.append(Claim(path, layer_type, {**scaling, "rope_type": kind}, _theta(config, path, scaling)))
    return found


def _kind(scaling: Mapping[str, Any]) -> str:
    written = scaling.get("rope_type", scaling.get("type"))
    return "longrope" if written == "su" else str(written or "default")


def _theta(config: Mapping[str, Any], path: Path, scaling: Mapping[str, Any]) -> float | None:
    """Return the base that is meant for a dictionary: its own, that beside it, or that of the text model."""
    parts = dict(_parts(config))
    above = ("text_config",) if path[0] == "text_config" else ()
    places = [scaling, parts.pop(above), *parts.values()]
    for place in [each for part in places for each in (part, *map(part.get, _DICTIONARIES))]:
        value = place.get("rope_theta", place.get("rotary_emb_base")) if isinstance(place, Mapping) else None
        if isinstance(value, int | float) and value > 0:
            return float(value)
    return None


def entries_of(config: Mapping[str, Any]) -> list[Entry]:
    """List every key of RoPE's that a configuration holds, at any place.

    Args:
        config: a `config.json`.
    """
    found = []
    for path, each in _dictionaries(config):
        found += [Entry((*path, key), value, _kind(each)) for key, value in each.items()]
    for path, part in _parts(config):
        found += [Entry((*path, key), part[key], "") for key in _OUTSIDE if part.get(key) is not None]
    return found


def _parts(config: Mapping[str, Any]) -> Iterator[tuple[Path, Mapping[str, Any]]]:
    yield (), config
    if isinstance(config.get("text_config"), Mapping):
        yield ("text_config",), config["text_config"]


def _dictionaries(config: Mapping[str, Any]) -> Iterator[tuple[Path, Mapping[str, Any]]]:
    for path, part in _parts(config):
        for key in _DICTIONARIES:
            found = part.get(key)
            if not isinstance(found, Mapping):
                continue
            typed = {name: each for name, each in found.items() if name in _LAYER_TYPES and isinstance(each, Mapping)}
            yield from (((*path, key, name), each) for name, each in typed.items())
            if not typed and found:
                yield (*path, key), found


def replaced(config: Mapping[str, Any], path: Path, value: Any) -> dict[str, Any]:
    """Return a configuration with another value at one place.

    Args:
        config: a `config.json`.
        path: the keys that lead there.
        value: what to put there.
    """
    key, *rest = path
    return {**config, key: replaced(config[key], tuple(rest), value) if rest else value}
