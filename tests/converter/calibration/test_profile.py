"""`ropext calibrate profile`: a shape, its numbers, and the divisors of groups of frequency pairs."""

import json
import math
import re
from dataclasses import replace

import pytest
from click.testing import CliRunner

from ropext.converter.calibration.profile import Profile, Search
from ropext.converter.calibration.run import Wish, valid
from ropext.converter.checkpoint.wanted import want
from ropext.converter.cli import live
from ropext.converter.cli.app import main
from ropext.converter.convert.api import convert_checkpoint
from ropext.converter.presets.load import load_preset
from ropext.converter.verify.checks import verify
from tests.helpers.asked import with_tokenizer
from tests.helpers.scores import scores_of


@pytest.mark.parametrize(("method", "groups"), [("profile", 2), ("local_profile", 0)])
def test_a_profile_is_found_by_shape_number_and_group(method, groups, tiny_llama, tmp_path, monkeypatch):
    monkeypatch.setattr(live, "_PATIENCE", 0.0)
    file = tmp_path / "found.yaml"
    asked = ("--target", 128, "--lengths", 1000, "--samples", 1, "--questions", 1)
    words = ("calibrate", method, with_tokenizer(tiny_llama), *asked, "--groups", groups, "--output", file)
    result = CliRunner().invoke(main, list(map(str, words)))
    assert result.exit_code == 0, result.output
    preset = load_preset(str(file))
    assert (preset.parameters["shape"] == "list") == bool(groups)
    assert len(preset.parameters.get("divisors", ())) == (8 if groups else 0)
    assert ("local_window" in preset.parameters) == (method == "local_profile")
    assert preset.calibration["for"] == "balanced"
    assert "need not be best" not in result.stderr
    assert re.search(rf"{method}: texts read, at most about \d+ in \d+ (s|min)", result.stderr)
    if method == "profile":
        moved = [json.loads(line)["key"] for line in file.with_suffix(".jsonl").read_text().splitlines()[1:]]
        assert len({key for key in moved if '"list"' in key}) > 1
        native = convert_checkpoint(preset, str(tiny_llama), tmp_path / "native", native=True).output
        config = json.loads((native / "config.json").read_text())
        assert config["rope_scaling"]["long_factor"] == pytest.approx(preset.parameters["divisors"], rel=1e-6)
        assert config["rope_scaling"]["attention_factor"] == preset.parameters["attention_factor"]
        assert verify(str(native)).verdict == "good"


def hidden_shape(profile):
    """How far a profile is from one that nobody begins with."""
    return -sum(abs(math.log(mine / its)) for mine, its in zip(profile.divisors, [1.0] * 4 + [3.0] * 4, strict=True))


def divisors(profile):
    return (1.5,) * 8 if profile.shape == "tail" else (1.0,) * 8


def test_a_search_of_profiles_goes_by_its_scores():
    def value(candidate):
        if candidate.divisors:
            return hidden_shape(candidate)
        shape = 20 if candidate.shape != "tail" else 10
        return -shape - abs(candidate.beta_fast - 64) / 64 - 5 * abs(math.log(candidate.attention_factor / 1.1789))

    scores, asked = scores_of(value, noise=0.01)
    search = Search(2.0, None, 2, scores, 3, divisors, lambda profile: True)
    found = search.find()
    assert found.shape == "list"
    assert found.attention_factor == pytest.approx(1.0693 * 1.05**2, rel=1e-3)  # two steps from where YaRN's is
    assert hidden_shape(found) > -1.2  # from -4.4: no finer than a step of 1.25
    assert len({candidate for candidate, _ in asked}) < 3 * search.expected()
    beyond = replace(search, window=512).starts()
    assert {(each.local_window, each.attention_factor) for each in beyond} == {(512, 1.0)}


def test_a_step_to_what_is_no_valid_preset_is_not_taken():
    def value(candidate):
        return -candidate.beta_fast - candidate.scaling_factor if not candidate.divisors else 0.0

    scores, asked = scores_of(value, noise=0.01)
    found = Search(2.0, None, 0, scores, 3, divisors, lambda profile: profile.beta_fast > 2 <= profile.scaling_factor)
    assert found.find().beta_fast == 4.0
    assert all(candidate.beta_fast > 2 <= candidate.scaling_factor for candidate, _ in asked)


def test_bounds_that_cross_and_windows_that_are_too_long_do_not_fit(tiny_llama, tmp_path):
    known = want(str(tiny_llama), 256, None)
    wish = Wish("tiny", tmp_path / "x.yaml", known.facts, known.inv_freq, 64, 256, {}, lambda *_: None)
    for changed, fitting in [
        ({}, True),
        ({"beta_fast": 1.0}, False),
        ({"scaling_factor": 2.0}, False),
        ({"local_window": 64}, False),
        ({"local_window": 0}, False),
    ]:
        profile = replace(Profile("tail", 4.0, 32.0, 1.0, local_window=16), **changed)
        assert valid(wish, "local_profile", profile) == fitting, changed
