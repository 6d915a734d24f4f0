"""Which method is recommended for a model and a length."""

from dataclasses import replace

import pytest

from ropext.converter.methods import registry
from ropext.converter.methods.registry import FREQUENCY_METHODS
from ropext.converter.methods.schemas import METHODS
from ropext.converter.presets.fit import check_fit
from ropext.converter.presets.load import load_preset
from ropext.converter.presets.recommend import recommend
from tests.helpers.presets import TINY, frequencies

SMOLLM2 = replace(TINY, head_dim=64, trained_length=8192, rope_theta=100000.0)
LLAMA3 = replace(TINY, head_dim=128, trained_length=8192, rope_theta=500000.0)


def order(facts, target, **options):
    return [
        each.method for each in recommend(facts, frequencies(facts), target, **options) if each.parameters is not None
    ]


def test_exact_nearby_before_tables_and_by_what_was_measured():
    assert order(SMOLLM2, 16384) == [
        *("rerope", "self_extend", "dpe", "jet_long", "dca", "gali", "bands", "lampe", "local_profile"),
        *("dynamic_ntk", "yarn", "dprope", "ntk", "linear", "profile"),
    ]


def test_what_does_not_apply_comes_last_with_its_reason():
    found = recommend(SMOLLM2, frequencies(SMOLLM2), 32768)
    assert sorted(each.method for each in found) == sorted(set(METHODS) - {"original"})
    refused = {each.method: each.why for each in found[-2:]}
    assert refused.keys() == {"dpe", "string"}
    assert "none are published for this one" in refused["dpe"]
    assert "and not 32768" in refused["string"]


def test_stock_keys_take_tables_alone_and_those_for_every_runtime_first():
    found = recommend(SMOLLM2, frequencies(SMOLLM2), 16384, native=True)
    assert order(SMOLLM2, 16384, native=True) == ["yarn", "dprope", "ntk", "linear", "profile", "dynamic_ntk"]
    refused = [each for each in found if each.parameters is None]
    assert refused == found[len(FREQUENCY_METHODS) :]
    assert {each.method for each in refused} == set(METHODS) - set(FREQUENCY_METHODS) - {"original"}
    assert all("stock keys" in each.why for each in refused)


def test_a_scaled_base_takes_what_goes_on_top():
    scaled = replace(SMOLLM2, rope_type="llama3")
    assert "dynamic_ntk" not in order(scaled, 32768)
    assert {"yarn", "dprope", "linear", "ntk", "rerope"} <= set(order(scaled, 32768))


@pytest.mark.parametrize("target", [16384, 65536])
def test_shipped_presets_fit_the_model_and_reach_the_target(target):
    found = recommend(LLAMA3, frequencies(LLAMA3), target)
    named = [load_preset(name) for each in found for name in each.presets]
    assert {"llama3-8b-dpe", "llama3-8b-dpe-readme"} <= {preset.name for preset in named}
    assert ("llama3-8b-yarn-8k-16k" in {preset.name for preset in named}) == (target == 16384)
    assert all(preset.target_window >= target and not check_fit(preset, LLAMA3) for preset in named)


def test_the_nearest_target_stands_first_among_presets():
    (yarn,) = (each for each in recommend(LLAMA3, frequencies(LLAMA3), 10000) if each.method == "yarn")
    assert yarn.presets == ("llama3-8b-yarn-16k", "llama3-8b-yarn-8k-16k", "llama3-8b-yarn-8k-32k")


def test_a_smaller_window_takes_no_preset_that_trusts_more():
    (yarn,) = (each for each in recommend(LLAMA3, frequencies(LLAMA3), 10000, 4096) if each.method == "yarn")
    assert yarn.presets == ("llama3-8b-yarn-16k",)


def test_what_was_not_measured_stands_behind_what_was(monkeypatch):
    rerope = replace(registry.method("rerope"), measured=None)
    monkeypatch.setattr("ropext.converter.methods.rerope.METHOD", rerope)
    found = [each.method for each in recommend(SMOLLM2, frequencies(SMOLLM2), 16384)]
    assert found.index("gali") < found.index("rerope") < found.index("dynamic_ntk")
