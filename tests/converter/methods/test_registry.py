"""A method is found by the name of its file, and says what every method has to."""

import json
from pathlib import Path
from statistics import fmean

import pytest

from ropext.converter.methods import registry
from ropext.converter.methods.base import Settings, Wish
from ropext.converter.methods.schemas import METHODS
from tests.helpers.presets import TINY, frequencies

RESULTS = Path(__file__).parents[3] / "docs/results/smollm2/compare/SmolLM2-135M-Instruct"


@pytest.mark.parametrize("name", ["base", "registry", "schemas", "yarm", "../yarn", ""])
def test_what_is_no_method_is_not_imported(name):
    with pytest.raises(KeyError):
        registry.method(name)


def test_kinds_of_methods():
    assert {"dprope", "dynamic_ntk", "yarn"} <= set(registry.FREQUENCY_METHODS)
    assert set(registry.FREQUENCY_METHODS) - set(registry.FIXED_FREQUENCIES) == {"dynamic_ntk"}
    assert {"rerope", "yarn"} <= set(registry.SEARCHED) <= set(METHODS) - {"dpe", "dprope", "original"}


@pytest.mark.parametrize("name", sorted(set(METHODS) - {"original"}))
def test_a_suggestion_says_what_and_why(name):
    found = registry.suggest(name, Wish(TINY, frequencies(TINY), 64, 256))
    assert found.method == name
    assert found.why
    assert found.source
    assert found.reason.endswith(".")


def measured():
    """Mean log-probability of the right answers beyond the trained length, over both tasks, by preset."""
    found = {}
    for task in ("niah", "passkey"):
        for line in (RESULTS / f"{task}.jsonl").read_text().splitlines()[1:]:
            reading = json.loads(line)["value"]
            if reading["length"] > 8192:
                cell = found.setdefault(reading["preset"], {}).setdefault((task, reading["length"]), [])
                cell += [each["log_probability"] for each in reading["answers"]]
    return {preset: fmean(map(fmean, cells.values())) for preset, cells in found.items() if len(cells) == 4}


@pytest.mark.parametrize("name", METHODS)
def test_what_was_measured_is_what_the_results_say(name):
    assert registry.method(name).measured == pytest.approx(measured().get(f"smollm2-135m-{name}"), abs=0.006)


@pytest.mark.parametrize(("name", "fewest"), [("yarn", 65), ("rerope", 65), ("dpe", 64), ("string", 64), (None, 64)])
def test_a_target_is_beyond_the_initial_window_but_where_published_for_it_too(name, fewest):
    def wrong(target):
        return [fault for fault in registry.faults(name, Settings({}, 64, target)) if fault.path == ("target_window",)]

    assert not wrong(fewest)
    assert wrong(fewest - 1)


def test_a_base_that_is_scaled_is_refused_with_what_goes():
    (fault,) = registry.base_faults("dynamic_ntk", "llama3")
    assert fault.message.endswith("; dprope, linear, ntk, profile and yarn go on top of such a scaling")
    assert not list(registry.base_faults("linear", "llama3"))
