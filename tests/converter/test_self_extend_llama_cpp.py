"""The program of docs/self_extend_llama_cpp.md, with a stand-in of llama.cpp's cache that keeps positions alone."""

import re
import sys
import types
from pathlib import Path

import numpy as np
import pytest

PAGE = Path(__file__).parents[2] / "docs" / "self_extend_llama_cpp.md"


class Cells:
    """Positions of the keys, and what each query saw."""

    def __init__(self):
        self.positions, self.seen = [], []

    def add(self, memory, sequence, first, end, delta):
        self.positions = [at + delta if first <= at < end else at for at in self.positions]

    def decode(self, context, batch):
        for index in range(batch.n_tokens):
            self.positions.append(batch.pos[index])
            self.seen.append([batch.pos[index] - at for at in self.positions])
        return 0


def batch_of(size, embedding, sequences):
    kept = {name: [0] * size for name in ("token", "pos", "n_seq_id", "logits")}
    return types.SimpleNamespace(n_tokens=0, seq_id=[[0] for _ in range(size)], **kept)


@pytest.fixture
def program(monkeypatch):
    cells = Cells()
    stand_in = types.SimpleNamespace(
        llama_get_memory=lambda context: None,
        llama_memory_can_shift=lambda memory: True,
        llama_memory_seq_add=cells.add,
        llama_batch_init=batch_of,
        llama_batch_free=lambda batch: None,
        llama_decode=cells.decode,
        llama_get_logits_ith=lambda context, index: np.ctypeslib.as_ctypes(np.arange(8, dtype=np.float32)),
    )
    monkeypatch.setitem(sys.modules, "llama_cpp", stand_in)
    names = {}
    exec(re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)[0], names)
    names["np"] = types.SimpleNamespace(ctypeslib=types.SimpleNamespace(as_array=lambda array, shape: np.array(array)))
    llm = types.SimpleNamespace(_ctx=types.SimpleNamespace(ctx=None), n_vocab=lambda: 8)
    return lambda **settings: (names["SelfExtend"](llm, **settings), cells)


@pytest.mark.parametrize(("group", "window", "block"), [(4, 16, 8), (3, 10, 12), (2, 32, 32)])
def test_queries_see_keys_where_self_extend_has_them(program, group, window, block):
    sequence, cells = program(group=group, window=window, block=block)
    sequence.read(list(range(150)))
    assert list(sequence.generate([7], 30)) == [7] * 30
    for query, distances in enumerate(cells.seen):
        least = max(0, query - window - block + 1)
        matching = [
            grouped
            for grouped in range(0, query + 1, block)
            if distances == self_extend(query, query - grouped, group) and (grouped >= least)
        ]
        assert matching
        assert matching[0] == 0 or query - matching[0] >= window
    assert max(max(distances) for distances in cells.seen) < 180 // group + window + block


def self_extend(query, window, group):
    """The distance to each key so far: exact within the window, and beyond it in groups, at the window's edge."""
    return [
        query - key if query - key <= window else query // group - key // group + window - window // group
        for key in range(query + 1)
    ]


def test_a_block_is_whole_groups(program):
    with pytest.raises(ValueError, match="multiple of group"):
        program(group=4, block=6)
