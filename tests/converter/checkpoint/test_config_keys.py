"""The table of keys that are kept, held to what the installed transformers knows."""

import json

import pytest
import transformers

from ropext.converter.checkpoint.config_keys import (
    known_generation_keys,
    known_keys,
    unknown_keys,
    without_unknown,
)
from ropext.converter.checkpoint.facts import without_private
from ropext.converter.checkpoint.families import FAMILIES
from tools.config_keys import merged

SUPPORTED = sorted(name for name, row in FAMILIES.items() if not row.refused and name in transformers.CONFIG_MAPPING)
ELSEWHERE = (
    *("auto_map", "custom_pipelines", "transformers_weights", "experts_implementation", "fusion_config"),
    *("configuration_files", "name_or_path", "trust_remote_code", "kernel_config", "task_specific_params"),
)
"""Keys by which code, weights or settings come from elsewhere."""


def test_the_table_has_all_that_the_installed_version_knows():
    assert merged()[1] == 0, "run python -m tools.config_keys"


@pytest.mark.parametrize("family", SUPPORTED)
def test_nothing_of_elsewhere_is_known(family):
    assert known_keys(family).isdisjoint(ELSEWHERE)


@pytest.mark.parametrize("family", SUPPORTED)
def test_a_default_configuration_loses_nothing(family):
    config = json.loads(json.dumps(transformers.CONFIG_MAPPING[family]().to_dict(), default=str))
    assert list(unknown_keys(without_private(config)[0])) == []


@pytest.mark.parametrize("kind", ["clip_vision_model", "a_vision_model_of_tomorrow", None])
@pytest.mark.parametrize("key", ELSEWHERE[:-1])
def test_what_sees_comes_from_nowhere_else(kind, key):
    vision = {"hidden_size": 8, **({"model_type": kind} if kind else {})}
    config = {"model_type": "llava", "vision_config": {**vision, key: "evil/repo"}}
    assert list(unknown_keys(config, converted=True)) == [f"vision_config.{key}"]
    assert without_unknown(config)[0] == {"model_type": "llava", "vision_config": vision}


def test_generation_knows_no_code():
    assert known_generation_keys().isdisjoint(("custom_generate", "trust_remote_code", "auto_map"))


def test_what_is_unknown_goes_at_both_levels():
    config = {"model_type": "gemma3", "x": 1, "text_config": {"model_type": "gemma3_text", "y": 1, "hidden_size": 8}}
    kept, dropped = without_unknown(config)
    assert dropped == ["x", "text_config.y"]
    assert kept == {"model_type": "gemma3", "text_config": {"model_type": "gemma3_text", "hidden_size": 8}}
