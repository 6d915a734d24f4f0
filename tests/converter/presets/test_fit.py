"""Whether a preset fits a model."""

from dataclasses import replace

import pytest

from ropext.converter.presets.fit import check_fit
from tests.helpers.presets import TINY, example


def test_fits():
    assert check_fit(example("dpe"), TINY) == []


@pytest.mark.parametrize(
    ("preset", "change", "message"),
    [
        (
            "dpe",
            {"model_type": "qwen2"},
            ":11: requires.model_type: is llama, but tiny has qwen2; `ropext inspect",
        ),
        ("dpe", {"rope_theta": 5e5}, "requires.rope_theta: is 10000, but tiny has 500000.0"),
        ("dpe", {"head_dim": 32}, "requires.head_dim: is 16, but tiny has 32"),
        (
            "dpe",
            {"trained_length": 32},
            ":4: initial_window: is 64, but tiny was trained to 32 tokens; set it to at",
        ),
        ("dpe-selected", {"num_attention_heads": 8}, "scores is [3, 4, 8]; tiny needs [3, 8, 8]"),
    ],
)
def test_does_not_fit(preset, change, message):
    problems = check_fit(example(preset), replace(TINY, **change))
    assert len(problems) == 1
    assert message in str(problems[0])


def test_sizes_are_held_against_the_model_when_nothing_is_required():
    wide = replace(TINY, head_dim=32)
    dpe = replace(example("dpe"), requires={})
    dprope = replace(example("dprope-solved"), requires={})
    assert "ends at 8; end it at head_dim/2 = 16" in str(*check_fit(dpe, wide))
    assert "has 8 factors; give one for each of 16 pairs" in str(*check_fit(dprope, wide))
