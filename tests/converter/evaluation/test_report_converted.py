"""A converted model that was measured by itself stands beside its base, as a preset does."""

import pytest

from ropext.converter.evaluation.report.results import BASE, read_results
from tests.helpers.measured import perplexity, write

TRAINED = {"trained_length": 4096}


def converted(base="tiny", preset="tiny-dpe"):
    return {"source": "out", "converted": {"base": base, "preset": preset}, **TRAINED}


def measured(file, preset=None, nll=2000.0, **settings):
    return write(file, "ppl", [perplexity(preset, 4096, seed, nll + seed) for seed in range(4)], **settings)


@pytest.fixture
def results(tmp_path):
    return tmp_path / "results"


def presets(results):
    experiments, left_out = read_results([results])
    assert left_out == []
    return [(each.source, each.presets) for each in experiments]


@pytest.mark.parametrize("names", [("a", "b"), ("b", "a")], ids=["base-first", "converted-first"])
def test_it_is_compared_as_a_preset_is(run, results, names):
    base, other = names
    measured(results / f"{base}.jsonl", **TRAINED)
    measured(results / f"{other}.jsonl", nll=1900.0, **converted())
    assert presets(results) == [("tiny", [BASE, "tiny-dpe"])]
    together = run("report", results).stdout
    measured(results / f"{other}.jsonl", preset="tiny-dpe", nll=1900.0, **TRAINED)
    assert run("report", results).stdout == together
    assert "Perplexity over the base's" in together


def test_without_its_base_it_stands_alone(results):
    measured(results / "a.jsonl", **converted())
    assert presets(results) == [("out", [BASE])]


def test_without_their_base_those_of_one_base_stand_together(run, results):
    measured(results / "a.jsonl", **converted(preset="tiny-yarn"))
    measured(results / "b.jsonl", nll=1900.0, **{**converted(), "source": "other", "trained_length": 2048})
    assert presets(results) == [("tiny", ["tiny-yarn", "tiny-dpe"])]
    text = run("report", results).stdout
    assert "Perplexity over the tiny-yarn's, same texts" in text
    assert "| dpe | 0.905 (0.905 to 0.905) |" in text


@pytest.mark.parametrize(
    "change",
    [{"base": "other"}, {"base": None}, {"settings": {"seed": 1}}, {"settings": {"dtype": "bfloat16"}}],
    ids=str,
)
def test_only_of_its_own_base_and_asked_the_same(results, change):
    measured(results / "a.jsonl", **TRAINED)
    measured(results / "b.jsonl", **{**converted(change.get("base", "tiny")), **change.get("settings", {})})
    assert presets(results) == [("tiny", [BASE]), ("out", [BASE])]


def test_names_stay_apart(results):
    measured(results / "a.jsonl", **TRAINED)
    measured(results / "b.jsonl", preset="tiny-dpe", **TRAINED)
    measured(results / "c.jsonl", **converted())
    measured(results / "d.jsonl", **{**converted(), "source": "tiny-dpe"})
    (experiment,) = read_results([results])[0]
    assert experiment.presets == [BASE, "tiny-dpe", "out", "tiny-dpe (converted)"]
    assert experiment.notes == ()


def test_damaged_settings_are_no_conversion(results):
    measured(results / "a.jsonl", **TRAINED)
    measured(results / "b.jsonl", source="out", converted=["x"], **TRAINED)
    assert presets(results) == [("tiny", [BASE]), ("out", [BASE])]
