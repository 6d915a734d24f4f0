"""Position maps and their pictures: `ropext presets show NAME --plot`."""

import re
from importlib import import_module

import numpy as np
import pytest

from ropext.converter.evaluation.report import position_map
from ropext.converter.presets.load import load_preset, make_preset
from tests.helpers import tiny

LAST = 199
"""Distance from the last token to the first."""


def preset_of(case):
    """A preset of a tiny case, for its model."""
    parameters = {key: value for key, value in tiny.CASES[case].parameters.items() if key != "top_k"}
    data = {
        "name": "tiny", "description": "Tiny.", "base_model": "tiny", "method": tiny.CASES[case].method,
        "initial_window": tiny.INITIAL_WINDOW, "target_window": LAST + 1, "parameters": parameters,
        "requires": {"model_type": "llama", "head_dim": 16, "rope_theta": 10000, "rope_type": "default"},
    }  # fmt: skip
    return make_preset(data)


def reference(preset, pairs, low):
    """What each pair sees, by the oracle written from the paper, at a frequency so low that no angle is half a turn."""
    module = import_module(f"tests.reference.{preset.method}")
    wanted = module.pair_logit.__code__.co_varnames[
        : module.pair_logit.__code__.co_argcount + module.pair_logit.__code__.co_kwonlyargcount
    ]
    given = {key: value for key, value in preset.parameters.items() if key in wanted}
    if "initial_window" in wanted:
        given["initial_window"] = preset.initial_window
    length = preset.target_window
    args = [np.full(pairs, low), *([length] if "length" in wanted else [])]
    logit = module.pair_logit(*args, **given)
    eye = np.eye(2 * pairs)
    query, ones = np.concatenate((eye[:pairs], eye[pairs:])), np.tile(np.repeat((1.0, 0.0), pairs), (2 * pairs, 1))

    def distance(far):
        cosine, sine = np.split(logit(0, query, ones, length - 1, length - 1 - far), 2)
        return np.arctan2(-sine, cosine) / low

    return distance


FAR = (
    "original self_extend self_extend_uneven rerope rerope_leaky string jet_long dca dca_temperature dpe dpe_uneven "
    "gali gali_positions bands bands_groups"
)


@pytest.mark.parametrize("case", FAR.split())
def test_position_maps_are_those_of_the_papers(case):
    preset = preset_of(case)
    found = position_map.position_map(position_map.target_of(preset))
    assert sum(len(group.pairs) for group in found.groups) == 8
    expected = reference(preset, 8, 1e-5)
    for far in (0, 1, 9, 15, 16, 17, 20, 21, 47, 48, 63, 64, 100, 180, 198, LAST):
        distances = expected(far)
        for group in found.groups:
            assert group.seen[far] == pytest.approx(distances[list(group.pairs)], abs=0.05), (far, group.name)


@pytest.mark.parametrize(
    ("case", "factor"), [("linear", 4), ("yarn", 4), ("ntk", 4), ("dynamic_ntk", 9.5), ("dprope", 3.125)]
)
def test_position_maps_of_frequency_methods(case, factor):
    found = position_map.position_map(position_map.target_of(preset_of(case)))
    (slowest,) = [group for group in found.groups if 7 in group.pairs]
    assert slowest.seen[LAST] == pytest.approx(LAST / factor, rel=1e-3)
    if case not in ("linear", "dprope"):  # the others keep the highest frequency
        assert found.groups[0].seen[LAST] == pytest.approx(LAST)


def test_shipped_presets_have_pictures(run, tmp_path, matplotlib):
    run("presets", "show", "smollm2-135m-dprope", "--plot", "a.svg")
    svg = (tmp_path / "a.svg").read_text()
    for text in ("distance that attention sees, tokens", "angle, degrees", "trained (8k)", "extrapolated", "chosen"):
        assert f">{text}<" in svg
    assert ">Pairs 0 to 19 turn full circle within the trained length:<" in svg
    result = run("presets", "show", "smollm2-135m-dpe", "--plot", "b.svg", "--length", "4k")
    assert (result.stdout, result.stderr) == ("", "wrote b.svg\n")
    assert ">pairs 0–3, 8–11<" in (tmp_path / "b.svg").read_text()
    assert "turn full circle" not in (tmp_path / "b.svg").read_text()  # no pair sees beyond the trained length


def test_pairs_that_meet_unknown_angles_are_named(run, tmp_path, matplotlib):
    run("presets", "show", "llama3-8b-dpe", "--plot", "a.svg")
    svg = (tmp_path / "a.svg").read_text()
    assert ">Pairs 0 to 34 turn full circle within the trained length:<" in svg
    assert ">every angle of theirs is known, at any distance. Pairs 56–63<" in svg


def test_presets_without_a_model(run, tmp_path, tiny_llama):
    text = load_preset("smollm2-135m-ntk").text
    (tmp_path / "p.yaml").write_text(re.sub("^requires.*$", "", text, flags=re.MULTILINE))
    message = run("presets", "show", "p.yaml", "--plot", "x.png", status=2).stderr
    assert "does not say what head_dim, rope_theta, rope_type of its model are; name the model by --model" in message
    message = run("presets", "show", "p.yaml", "--plot", "x.png", "--model", tiny_llama, status=2).stderr
    assert "was trained to 64 tokens" in message
