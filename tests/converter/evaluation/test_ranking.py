"""Who is best, who is compared with whom, and the sentence that says so."""

import pytest

from ropext.converter.evaluation.report.ranking import (
    best,
    headline,
    left_out,
    main_metric,
    ranked,
    short_names,
    unlike,
)
from ropext.converter.evaluation.report.results import read_results
from ropext.converter.evaluation.report.tables import summary
from tests.helpers.measured import asked, perplexity, write


def one(file):
    (experiment,), _ = read_results([file])
    return experiment


def passkeys(tmp_path, right, lengths=(4096, 16384), **settings):
    """As many right answers of four as it says by preset and length."""
    values = [
        asked(preset, length, seed, [(0.5, -1.0, seed < count)])
        for preset, counts in right.items()
        for length, count in zip(lengths, counts, strict=True)
        for seed in range(4)
    ]
    return one(write(tmp_path / "passkey.jsonl", "passkey", values, trained_length=4096, **settings))


def test_the_reference_stands_first_and_the_best_after_it(tmp_path):
    experiment = passkeys(tmp_path, {"tiny-a": (4, 0), None: (4, 1), "tiny-b": (2, 3), "tiny-c": (0, 2)})
    assert ranked(experiment) == ["base", "tiny-b", "tiny-c", "tiny-a"]
    assert best(main_metric(experiment), experiment, 4096) == {"base", "tiny-a"}
    assert best(main_metric(experiment), experiment, 16384) == {"tiny-b"}
    assert [sorted(table.best) for table in summary(experiment)] == [[(0, 1), (1, 2), (3, 1)], []]
    assert left_out(experiment) == "tiny-"
    assert headline(experiment) == (
        "At 16k tokens, tiny-b does best of 3: 75 % right; base: 25 % right; difference: not resolved (n = 4; p = 0.5)."
    )


@pytest.mark.parametrize(
    ("source", "names", "short"),
    [
        ("SmolLM2-135M-Instruct", ["smollm2-135m-dpe-512", "smollm2-135m-yarn", "mine"], ["dpe-512", "yarn", "mine"]),
        ("gemma-3-270m", ["gemma3-270m-yarn"], ["yarn"]),
        ("other", ["of-mine-a", "of-mine-b"], ["a", "b"]),
        ("other", ["of-mine-a"], ["of-mine-a"]),
        ("tiny", ["tiny-a", "a"], ["tiny-a", "a"]),
    ],
    ids=["most", "spelt otherwise", "alike", "alone", "not unique"],
)
def test_short_names_are_without_the_models(tmp_path, source, names, short):
    experiment = passkeys(tmp_path, {None: (4, 1), **dict.fromkeys(names, (4, 4))}, source=source)
    assert list(short_names(experiment).values()) == ["base", *short]


def test_right_answers_are_counted_over_all_lengths_beyond_the_trained_one(tmp_path):
    experiment = passkeys(tmp_path, {None: (4, 0, 0), "p": (0, 4, 3)}, (4096, 8192, 16384))
    assert headline(experiment) == "Beyond 4k tokens, p: 88 % right; base: 0 % right; difference: +88 (p = 0.016)."


def test_low_perplexity_is_best(tmp_path):
    values = [perplexity(preset, 4096, 0, nll) for preset, nll in ((None, 2000.0), ("a", 2100.0), ("b", 1900.0))]
    experiment = one(write(tmp_path / "ppl.jsonl", "ppl", values))
    assert ranked(experiment) == ["base", "b", "a"]
    assert best(main_metric(experiment), experiment, 4096) == {"b"}
    assert headline(experiment) == "At 4k tokens, b does best of 2: 6.686; base: 7.389; ratio: 0.905 (n = 1)."


def test_the_best_of_several_may_be_behind_the_base(tmp_path):
    values = [perplexity(preset, 4096, 0, nll) for preset, nll in ((None, 1900.0), ("a", 2100.0), ("b", 2000.0))]
    experiment = one(write(tmp_path / "ppl.jsonl", "ppl", values))
    assert headline(experiment).startswith(
        "At 4k tokens, b does best of 2, behind base: 7.389; base: 6.686; ratio: 1.1"
    )


def test_nobody_is_best_where_all_are_alike_or_alone(tmp_path):
    experiment = passkeys(tmp_path, {None: (4, 4), "p": (4, 4)})
    assert best(main_metric(experiment), experiment, 4096) == set()
    alone = passkeys(tmp_path, {None: (4, 4)})
    assert (headline(alone), len(summary(alone)), left_out(alone)) == ("", 1, "")


@pytest.mark.parametrize(
    ("change", "note"),
    [
        ({}, []),
        ({"asked": "b"}, ["p was not asked what base was, at 4k tokens: they are not compared there."]),
        ({"tokens": 9}, ["p was not asked what base was, at 4k tokens: they are not compared there."]),
        ({"length": 8192}, ["base was not measured at 8k tokens, where p was."]),
    ],
    ids=str,
)
def test_what_was_not_asked_alike_is_said_and_not_compared(tmp_path, change, note):
    base, other = perplexity(None, 4096, 0, 2000.0), perplexity("p", 4096, 0, 1900.0) | change
    if "asked" in change:
        base |= {"asked": "a"}
    experiment = one(write(tmp_path / "ppl.jsonl", "ppl", [base, other]))
    assert unlike(experiment) == note
    (differences,) = [table.rows for table in summary(experiment)[1:]]
    assert differences[0][1] == ("" if note else "0.905 (n = 1)")
