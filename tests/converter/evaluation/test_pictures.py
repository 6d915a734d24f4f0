"""What pictures of results show: marks, short names, and what lies far from the rest."""

import re

import pytest

from ropext.converter.evaluation.report.drawing import save
from ropext.converter.evaluation.report.pictures import pictures
from ropext.converter.evaluation.report.results import read_results
from tests.helpers.measured import asked, perplexity, write

pytest.importorskip("matplotlib")

LENGTHS = (4096, 8192, 16384)


def drawn(file, *kinds, measure="exact"):
    """A picture, and every text in it."""
    (experiment,), _ = read_results([file])
    ((_, picture),) = pictures([experiment], kinds, measure)
    save([picture], file.with_suffix(".svg"))
    svg = file.with_suffix(".svg").read_text()
    return picture, svg, re.findall(r">([^<>\n]+)</text>", svg)


def passkeys(tmp_path, samples, presets=(None, "tiny-dpe", "tiny-yarn")):
    """The base finds it up to 4k only, knowing less and less; the others everywhere."""
    values = [
        asked(preset, length, seed, [(0.5, -1.0 - 0.1 * bool(preset) if near else -40.0, near)])
        for preset in presets
        for length in LENGTHS
        for seed in range(samples)
        for near in [bool(preset) or length == 4096]
    ]
    return write(tmp_path / "passkey.jsonl", "passkey", values, trained_length=4096)


def test_one_question_is_a_mark(tmp_path):
    picture, _, texts = drawn(passkeys(tmp_path, 1), "heatmap")
    assert (texts.count("✓"), texts.count("✗")) == (7, 2)
    assert "Passkey, tiny: ✓ found, ✗ missed; n = 1 in a cell" in texts
    assert {"base", "dpe", "yarn"} <= {*texts}
    assert not any("tiny-" in text for text in texts)
    assert "100" not in texts  # there is no scale of percents
    assert picture.caption.startswith("1 question in a cell.")


def test_several_questions_are_counted(tmp_path):
    _, _, texts = drawn(passkeys(tmp_path, 3), "heatmap")
    assert (texts.count("3/3"), texts.count("0/3")) == (7, 2)
    assert "right answers, percent" in texts


def test_what_is_far_below_does_not_hide_what_differs(tmp_path):
    levels = {None: (-1.0, -40.0, -40.0), "a": (-1.5,) * 3, "b": (-2.2,) * 3, "c": (-3.0,) * 3}
    values = [
        asked(preset, length, 0, [(0.5, level, False)])
        for preset, of in levels.items()
        for length, level in zip(LENGTHS, of, strict=True)
    ]
    file = write(tmp_path / "passkey.jsonl", "passkey", values)
    picture, svg, texts = drawn(file, "heatmap", measure="log-probability")
    grids = [re.search(f'<g id="QuadMesh_{number}">(.*?)</g>', svg, re.DOTALL)[1] for number in range(1, 5)]
    colours = [set(re.findall("fill: (#[0-9a-f]{6})", grid)) for grid in grids]
    assert [len(each) for each in colours] == [2, 1, 1, 1]
    assert len(set.union(*colours)) == 5
    assert texts.count("−40.0") == 2
    assert "values below the scale have its lightest colour" in picture.caption


def test_a_base_that_falls_leaves_the_others_their_room(tmp_path):
    _, svg, texts = drawn(passkeys(tmp_path, 1), "score", measure="log-probability")
    assert texts.count("▼ −40.00") == 2
    assert "−10" not in texts
    assert ">trained to here<" in svg


@pytest.mark.parametrize("task", ["ppl", "passkey"])
def test_many_models_are_rows_of_dots_the_best_above(tmp_path, task):
    presets = [f"tiny-{name}" for name in "abcdefgh"]
    values = [
        perplexity(preset, length, 0, 2000.0 + (5 * presets.index(preset) if preset else 900))
        for preset in (None, *reversed(presets))
        for length in LENGTHS
    ]
    file = write(tmp_path / "ppl.jsonl", "ppl", values) if task == "ppl" else passkeys(tmp_path, 2, (None, *presets))
    picture, _, texts = drawn(file, "perplexity" if task == "ppl" else "score")
    assert picture.alt.startswith("Dots.")
    rows = [text for text in texts if text in ("base", *"abcdefgh")]
    assert rows == [*"abcdefgh", "base"]
    if task == "ppl":
        assert "perplexity, as a multiple of the base's" in texts
        assert texts.count("1.000") >= len(LENGTHS)  # the base's own
        assert "Below 1 is better than the base." in picture.caption


def test_a_length_without_a_finite_number_has_an_empty_panel(tmp_path):
    values = [perplexity(p, n, 0, 1e12 if n == 16384 else 2000.0) for p in ("a", "b") for n in LENGTHS]
    _, _, texts = drawn(write(tmp_path / "ppl.jsonl", "ppl", values), "perplexity")
    assert "16k tokens" in texts
    assert texts.count("7.389") == 4


def test_pictures_turn_dark_where_the_page_is(tmp_path):
    _, svg, _ = drawn(passkeys(tmp_path, 1), "heatmap")
    assert svg.count("prefers-color-scheme: dark") == 1
