"""Where the tokens of one forward stand: columns, positions, padding.

A *column* is an index into the cache. A *stock position* is what the model rotated a token by. A *position* is a
token's index in its own row or document, which the methods go by. Masks come from columns, rotations from positions.

Shape letters: A axes, B batch, T queries, L keys, P frequency pairs.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from itertools import pairwise
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from .rope_ext_masks import last_row, numbered_runs, read_mask
from .rope_ext_model import OTHER_VERSION
from .rope_ext_notes import EVICTED, NOTES, Notes, rows_of

T = TypeVar("T")


class Forward:
    """One forward of the decoder, shared by all its layers.

    Attributes:
        stock: [B or 1, T] stock positions of the new tokens.
        axes: [A, B or 1, T], where a token has a position on each of several axes; else None.
        given: the tensor that these were made of.
        past: columns before the first new token; None until the first layer has told.
        cache: the cache, if there is one.
        notes: of the cache.
        last: the largest of the positions; not known in a compiled graph.
        follows: whether the new tokens follow those before and each other.
        alike: whether they stand at the same positions in all rows.
        tail: of the layer that ran last, the keys that the cache holds, the exact ones of its end and their start.
        kept: what layers have left in the cache, and how often that had been written to.
    """

    def __init__(self, positions: Tensor) -> None:
        self.stock = positions[0] if positions.dim() == 3 else positions
        self.axes = positions if positions.dim() == 3 else None
        self.given = positions
        self.past: int | Tensor | None = None
        self.cache: Any = None
        self.notes = Notes()
        self.last: int | None = None
        self.follows = self.alike = True
        self.tail: tuple[Tensor, Tensor, int] | None = None
        self.kept: dict[int, tuple[Tensor, int]] = {}
        self._geometry: Geometry | None = None

    def enter(self, cache: Any, layer: int) -> None:
        """Note where the new tokens stand in the cache; once, before the first layer adds its keys.

        Raises:
            ValueError: the cache has lost columns that the new tokens do not replace.
        """
        if self.past is not None:
            return
        self.cache = cache
        past: int | Tensor = 0 if cache is None else cache.get_seq_length(layer)
        if torch.compiler.is_compiling():
            # Some static caches return the tensor that they count in.
            self.past = past.clone() if isinstance(past, Tensor) else past
            return
        past = self.past = int(past)
        found: Notes | None = getattr(cache, NOTES, None)
        if found is None or past == 0:
            found = Notes(unknown=past > 0)
            if cache is not None:
                setattr(cache, NOTES, found)
        self.notes = found
        if self.axes is not None:
            rows = 1 if found.origin is None else found.origin.shape[0]
            found.add_axes(self.axes, past, max(self.axes.shape[1], rows))
        self.last, self.follows, self.alike = found.add(self.stock, past)
        if past < found.columns and not self.follows and self.axes is None:  # cropped, they would follow
            raise ValueError(EVICTED)
        if self.axes is not None and found.axes is not None:
            self.last = int(self.axes.amax())

    def geometry(self, mask: Tensor | None, batch: int, count: int, length: int, *, flash: bool) -> Geometry:
        """Return where the queries and keys of a layer stand; the same for all layers but those with fewer queries.

        Args:
            mask: as transformers gives it to an attention function.
            batch: rows, B.
            count: queries, T.
            length: columns of the keys that the layer was given.
            flash: the mask is one for the package flash-attn.

        Raises:
            ValueError: the mask is more than causality, padding, packing and blocks of an image.
        """
        found = self._geometry
        if found is None or found.stock.shape != (batch, count):
            found = self._geometry = self._locate(mask, batch, count, length, flash=flash)
        return found

    def _locate(self, mask: Tensor | None, batch: int, count: int, length: int, *, flash: bool) -> Geometry:
        if self.cache is None and length > self.stock.shape[1]:  # a cache of a kind that is not known: one that grows
            self.past = length - self.stock.shape[1]
            self.last, self.follows, self.alike = self.notes.add(self.stock, self.past)
        past = self.past
        assert past is not None
        filled = length if isinstance(past, Tensor) else past + self.stock.shape[1]
        if filled > length:
            raise ValueError(f"ropext: a layer was given {length} keys, and {filled} were expected; {OTHER_VERSION}")
        stock = self.stock.expand(batch, -1)[:, -count:]
        mask = None if mask is None else mask.to(stock.device)  # a model may lie on several
        if torch.compiler.is_compiling():
            if getattr(getattr(self.cache, NOTES, None), "axes", None) is not None:
                raise RuntimeError("ropext: images are not supported in a compiled forward")
            used = None if self.cache is None else filled
            seen = None if mask is None else last_row(mask, used).expand(batch, -1)
            return Geometry(stock, past, filled, valid=seen)
        columns = filled - count + torch.arange(count, device=stock.device)
        valid, explicit = read_mask(mask, stock, columns, filled)
        valid = None if valid is None else valid.expand(batch, filled)
        origin, keys = self._keys(batch, filled, valid)
        geometry = Geometry(stock, filled - count, filled, valid=valid, explicit=explicit, origin=origin, keys=keys)
        if self.notes.positions is None and self.notes.axes is None and self.last is not None:
            geometry.known(self.last + 1 - filled, alike=self.alike)
        if self.notes.axes is not None:
            keys_axes = torch.stack([rows_of(axis, batch) for axis in self.notes.axes])
            geometry.axes = keys_axes[..., filled - count :], keys_axes
        if filled == count:
            # A mask without padding that is more than causality keeps documents apart, unless an image sees ahead.
            apart = explicit is not None and not bool((explicit & ~geometry.runs()).any())
            geometry.packed = apart or (mask is None and flash and batch == 1 and not self.follows)
        return geometry

    def _keys(self, batch: int, filled: int, valid: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Return [B, 1] the stock position of column 0, and [B, L] those of all where they do not follow columns."""
        notes = self.notes
        if notes.positions is None:
            assert notes.origin is not None
            return rows_of(notes.origin, batch), None
        keys = rows_of(notes.positions, batch)
        columns = torch.arange(filled, device=keys.device)
        last = columns.expand(batch, -1) if valid is None else columns * valid
        last = last.amax(-1, keepdim=True)
        origin = keys.gather(1, last) - last
        if self.stock.shape[1] > 1:
            off = keys - columns != origin
            notes.straight = not bool((off if valid is None else off & valid).any())
        else:
            notes.straight = notes.straight and self.follows
        return origin, None if notes.straight else keys


Segment = tuple[int, slice, slice, "Geometry"]
"""A row, its queries and columns that stand by themselves, and where they stand."""


class Geometry:
    """Where the queries and keys of a forward stand.

    Attributes:
        axes: [A, B, T] and [A, B, L] stock positions of queries and keys on each axis, where some token's differ.
        stock: [B, T] stock positions of the queries.
        query_positions: [B, T] positions of the queries.
        past: columns before the first query: a number, or in a compiled graph a tensor.
        length: columns, L.
        valid: [B, L] booleans, False at padding; None when there is none.
        explicit: [B, T, L] booleans, a mask of packed documents or images; else None.
        origin: [B, 1] stock position of column 0.
        packed: the mask keeps runs of positions apart.
        alike: whether all rows begin at one position; None: the device is asked.
    """

    def __init__(
        self,
        stock: Tensor,
        past: int | Tensor,
        length: int,
        *,
        valid: Tensor | None = None,
        explicit: Tensor | None = None,
        origin: Tensor | None = None,
        keys: Tensor | None = None,
        shift: Tensor | int | None = None,
    ) -> None:
        self.stock, self.past, self.length = stock, past, length
        self.axes: tuple[Tensor, Tensor] | None = None
        self.valid, self.explicit, self.packed = valid, explicit, False
        self.origin = stock[:, -1:] - (past + stock.shape[1] - 1) if origin is None else origin
        self._keys = keys
        self._so_far: Tensor | None = None
        self.alike: bool | None = None
        self.shift = self._find_shift() if shift is None else shift
        self.query_positions = stock - self.shift
        self._memo: dict[Any, Any] = {}

    def _find_shift(self) -> Tensor | int:
        """[B, 1]: stock position of each row's first token, if the model counted columns, padding included."""
        if self.valid is None or self._keys is not None:
            return 0
        first = self.valid.long().argmax(-1, keepdim=True)
        return torch.where(self.origin == 0, first, 0)

    def known(self, first: int, *, alike: bool) -> None:
        """Say what need not be asked of the device: whether rows are alike, and where column 0 of such rows stands."""
        self.alike = alike
        if alike and self.valid is None:
            self.memo("first", lambda: first)

    def again(self) -> Geometry:
        """Return the same places for another method: tables are made anew, but the device is not asked again."""
        known = {"valid": self.valid, "explicit": self.explicit, "origin": self.origin, "keys": self._keys}
        again = Geometry(self.stock, self.past, self.length, **known, shift=self.shift)
        again.packed, again.axes, again.alike = self.packed, self.axes, self.alike
        again._memo |= {key: self._memo[key] for key in ("first", "one_call") if key in self._memo}
        return again

    def memo(self, key: object, make: Callable[[], T]) -> T:
        """What `make()` returns, made by the first layer that asks and kept for the others."""
        if isinstance(key, tuple) and torch.compiler.is_compiling():
            return make()  # lengths of an exported graph are symbols
        if key not in self._memo:
            self._memo[key] = make()
        found: T = self._memo[key]
        return found

    @property
    def straight(self) -> bool:
        """Whether positions follow from columns."""
        return self._keys is None

    @property
    def static(self) -> bool:
        """Whether how many columns are filled is known to the device alone."""
        return isinstance(self.past, Tensor)

    @property
    def query_columns(self) -> Tensor:
        """[T] columns of the queries."""
        return torch.arange(self.stock.shape[1], device=self.stock.device) + self.past

    @property
    def key_stock(self) -> Tensor:
        """[B, L] stock positions of the keys."""
        if self._keys is not None:
            return self._keys
        return self.memo("key_stock", lambda: self._columns() + self.origin)

    def _columns(self) -> Tensor:
        return torch.arange(self.length, device=self.stock.device)

    @property
    def key_positions(self) -> Tensor:
        """[B, L] positions of the keys; below 0 at left padding."""
        return self.memo("key_positions", lambda: self.key_stock - self.shift)

    @property
    def tokens_so_far(self) -> Tensor:
        """[B, 1]: tokens of each row up to the end of this forward, N."""
        if self._so_far is not None:
            return self._so_far

        def count() -> Tensor:
            positions = self.query_positions
            if self.valid is not None and positions.shape[1] > 1:
                positions = positions.masked_fill(~self.valid[:, self.query_columns], 0)
            return positions.amax(-1, keepdim=True) + 1

        return self.memo("tokens_so_far", count)

    @property
    def first_position(self) -> int:
        """Position of column 0 of rows that stand alike; in a compiled graph they are taken to begin at 0."""
        if torch.compiler.is_compiling():
            return 0
        return self.memo("first", lambda: int((self.origin - self.shift)[0]))

    @property
    def allowed(self) -> Tensor:
        """[B or 1, T, L] booleans: what each query sees."""
        if self.explicit is not None:
            return self.explicit

        def make() -> Tensor:
            if self.packed:
                return self.runs()
            causal = (self._columns() <= self.query_columns[:, None])[None]
            return causal if self.valid is None else causal & self.valid[:, None]

        return self.memo("allowed", make)

    def runs(self) -> Tensor:
        """[B, T, T] booleans: earlier tokens of the same run of positions."""
        columns, runs = torch.arange(self.stock.shape[1], device=self.stock.device), numbered_runs(self.stock)
        return (columns <= columns[:, None]) & (runs[:, :, None] == runs[:, None])

    @property
    def one_call(self) -> bool:
        """Whether one causal attention serves all rows: no padding, positions that follow columns, rows alike."""

        def find() -> bool:
            known = self.valid, self.explicit, self._keys, self.axes
            plain = all(each is None for each in known) and not self.packed
            if torch.compiler.is_compiling() or not plain or self.origin.shape[0] == 1:
                return plain
            return bool((self.origin == self.origin[0]).all()) if self.alike is None else self.alike

        return self.memo("one_call", find)

    def segments(self) -> list[Segment] | None:
        """Each row's stretch of tokens that stands by itself; None where the rows cannot be taken apart so."""
        return self.memo("segments", self._split)

    def _split(self) -> list[Segment] | None:
        if self.packed:
            starts = [[0, *((row.diff() != 1).nonzero()[:, 0] + 1).tolist(), len(row)] for row in self.stock]
            return [self._segment(row, a, b) for row, ends in enumerate(starts) for a, b in pairwise(ends)]
        if not self.straight or self.explicit is not None or self.axes is not None:
            return None
        segments = []
        valid = torch.ones_like(self.key_stock, dtype=torch.bool) if self.valid is None else self.valid
        for row, real in enumerate(valid.cpu()):
            columns = real.nonzero()[:, 0].tolist()
            if columns and columns[-1] + 1 - columns[0] != len(columns):
                return None  # padding between tokens
            if columns and columns[-1] >= int(self.past):
                segments.append(self._segment(row, columns[0], columns[-1] + 1))
        return segments

    def _segment(self, row: int, low: int, high: int) -> Segment:
        past = int(self.past)
        queries, columns = slice(max(low - past, 0), high - past), slice(low, high)
        stock, shift = self.stock[row : row + 1, queries], self.shift
        shift = shift[row : row + 1] if isinstance(shift, Tensor) else shift
        return row, queries, columns, Geometry(stock, max(past - low, 0), high - low, shift=shift)

    def part(self, start: int, stop: int) -> Geometry:
        """The queries at indices `start` to `stop`, and the columns that they see."""
        length = int(self.length if self.explicit is not None else self.past + stop)
        valid = None if self.valid is None else self.valid[:, :length]
        keys = None if self._keys is None else self._keys[:, :length]
        where = self.stock[:, start:stop], self.past + start, length
        part = Geometry(*where, valid=valid, origin=self.origin, keys=keys, shift=self.shift)
        part.explicit = None if self.explicit is None else self.explicit[:, start:stop]
        part._so_far = self.tokens_so_far
        if self.axes is not None:
            part.axes = self.axes[0][..., start:stop], self.axes[1][..., :length]
        return part


class Now:
    """Where the forward of one thread stands.

    Attributes:
        backend: the user's own `attn_implementation`, of the forward that runs or of the last one.
        latest: the forward that runs, None between two.
        asked: the layers that have asked for an attention function in it.
        layer: the layer that runs; None between two forwards.
        forward: that of this layer; another than the latest while a layer runs again for its gradient.
        stock: whether this layer is the base's.
    """

    def __init__(self, backend: str) -> None:
        self.backend = backend
        self.latest: Forward | None = None
        self.asked: set[int] = set()
        self.layer: int | None = None
        self.forward: Forward | None = None
        self.stock = False


_OTHERS = threading.local()


def now_in_thread(owner: Any, main: Now) -> Now:
    """Where the forward of this thread stands, of an owner; `main` is that of the main thread."""
    if threading.current_thread() is threading.main_thread():
        return main
    known: WeakKeyDictionary[Any, Now] = vars(_OTHERS).setdefault("known", WeakKeyDictionary())
    return known.setdefault(owner, Now(main.backend))
