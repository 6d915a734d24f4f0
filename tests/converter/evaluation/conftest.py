"""Fixtures of the tests that measure and report."""

import pytest

from tests.helpers import leval_files
from tests.helpers.measured import LENGTHS, answered, needles, perplexity, write


@pytest.fixture
def data(tmp_path):
    """L-Eval's files."""
    folder = tmp_path / "data"
    folder.mkdir()
    for task, documents in leval_files.LINES.items():
        leval_files.write(folder / f"{task}.jsonl", documents)
    return folder


@pytest.fixture
def results(tmp_path):
    """A folder with every task."""
    folder = tmp_path / "results"
    write(folder / "tiny" / "niah.jsonl", "niah", needles(), needles=2)
    write(folder / "tiny" / "passkey.jsonl", "passkey", needles((None, "tiny-dpe", "tiny-yarn"), 2))
    nll = [(None, 4096, 2500.0), (None, 16384, 6000.0), ("tiny-dpe", 4096, 2500.0), ("tiny-dpe", 16384, 2600.0)]
    values = [perplexity(preset, length, seed, each + 10 * seed) for preset, length, each in nll for seed in range(2)]
    write(folder / "tiny" / "ppl.jsonl", "ppl", values)
    values = [
        answered(preset, length, seed, task, float(length == 4096 or (preset is not None and task == "vt")))
        for preset in (None, "tiny-dpe")
        for length in LENGTHS
        for task in ("vt", "cwe")
        for seed in range(2)
    ]
    write(folder / "tiny" / "ruler.jsonl", "ruler", values)
    return folder
