"""`--set`: single values changed, and what follows from them."""

import numpy as np
import pytest
from safetensors.numpy import save_file

from ropext.converter.errors import InvalidPreset, UsageError
from ropext.converter.methods.self_extend import group_size
from ropext.converter.presets.fit import check_fit
from ropext.converter.presets.load import load_preset
from tests.helpers.presets import EXAMPLES, TINY, example


@pytest.mark.parametrize(
    ("override", "key", "value"),
    [
        ("local_window=32", "local_window", 32),
        ("parameters.local_window=32", "local_window", 32),
        ("activate_beyond = 0x40", "activate_beyond", 64),
        ("scale_factors=[1, 2, 3, 4]", "scale_factors", [1, 2, 3, 4]),
    ],
)
def test_set_a_parameter(override, key, value):
    preset = example("dpe", override)
    assert preset.parameters[key] == value
    assert preset.overrides == (override,)


def test_set_in_depth_and_at_the_top():
    preset = example("gali", "noise.std=1e-1", "parameters.noise.seed=3", "target_window=128", "name=mine")
    assert (preset.parameters["noise"]["std"], preset.parameters["noise"]["seed"]) == (0.1, 3)
    assert (preset.target_window, preset.name) == (128, "mine")


def test_set_another_method():
    preset = example("dprope", "method=gali", "parameters={chunk_size: 8, local_window: 4}", "chunk_ends=grid")
    assert (preset.method, preset.parameters["chunk_ends"]) == ("gali", "grid")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("local_window", "write it as KEY=VALUE"),
        ("=3", "write it as KEY=VALUE"),
        (
            "local_windw=3",
            "--set local_windw: unknown key; did you mean 'local_window'? The keys here: name,",
        ),
        ("chunk_size=3", "--set chunk_size: unknown key"),
        ("local_window=[3", "--set local_window:1: is not valid YAML"),
        ("local_window=!!python/none x", "the tag tag:yaml.org,2002:python/none is not allowed"),
        ("local_window.x=3", "nothing can be set inside 16"),
    ],
)
def test_an_override_that_makes_no_sense(override, message):
    with pytest.raises(UsageError) as caught:
        example("dpe", override)
    assert message in str(caught.value)


def test_problems_of_overrides_are_named_by_them():
    with pytest.raises(InvalidPreset) as caught:
        example("dpe", "local_window=0", "target_window=2", "scale_factors=[1]", "requires.head_dim=32")
    assert str(caught.value).splitlines() == [
        "--set local_window: parameters.local_window: must be at least 1, not 0",
        "--set scale_factors: parameters.scale_factors: has 1 factors for 4 groups; give 4",
        "--set target_window: target_window: is 2; it must be at least initial_window (64)",
        f"{EXAMPLES}/valid/dpe.yaml:10: parameters.dimension_groups: ends at 8; end it at head_dim/2 = 16",
    ]


def test_scores_named_on_the_command_line_lie_where_it_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save_file({"scores": np.ones((3, 4, 8), np.float32)}, "mine.safetensors")
    preset = example("dpe", "top_k=2", "dimension_scores=mine.safetensors")
    assert check_fit(preset, TINY) == []


def test_a_target_that_is_set_brings_its_group_size():
    name = "smollm2-135m-self_extend"
    assert load_preset(name).parameters["group_size"] == 5
    further = load_preset(name, ["target_window=65536"])
    assert further.parameters["group_size"] == group_size(8192, 65536, 512) == 19
    assert further.overrides == ("target_window=65536", "group_size=19")
    assert load_preset(name, ["target_window=65536", "group_size=30"]).parameters["group_size"] == 30
    assert load_preset(name, ["local_window=1024", "target_window=65536"]).parameters["group_size"] == 21
