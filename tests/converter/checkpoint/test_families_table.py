"""The table of families, held to the stock classes of the installed transformers."""

from __future__ import annotations

import json
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import transformers
from packaging.version import Version
from transformers import CONFIG_MAPPING, AutoModelForCausalLM, AutoModelForImageTextToText
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from ropext.converter.checkpoint.description import describe, text_model
from ropext.converter.checkpoint.families import FAMILIES, supported
from ropext.converter.checkpoint.family import Sizes
from ropext.converter.errors import RopextError
from tests.helpers import zoo, zoo_composites
from tests.helpers.probe import turning_layers

INSTALLED = Version(transformers.__version__)
NO_POSITIONS = "no rotary positions, and the others see a sliding window only"
ONE_ULP = 1.2e-7
"""Relative; powers of torch may differ from the nearest float32 by one bit, their reciprocals by two."""


def is_extendable(name: str) -> bool:
    """Whether the installed transformers has a type whose attention of it can be extended."""
    family = FAMILIES.get(name.partition("+")[0])
    return family is not None and not family.refused and Version(family.since) <= INSTALLED


TEXT = [name for name in zoo.ROWS if is_extendable(name) and zoo.available(name)]
NOPE = [
    name for name in zoo.ROWS if name in FAMILIES and NO_POSITIONS in FAMILIES[name].refused and zoo.available(name)
]
COMPOSITES = [name for name in zoo_composites.TEXT if is_extendable(name) and zoo_composites.available(name)]


def written(config: Any) -> dict[str, Any]:
    """The `config.json` that a configuration is saved as."""
    return json.loads(config.to_json_string())


def assert_explained(model: Any) -> None:
    """Hold the description of a configuration to what a probe finds in the model."""
    found = describe(written(model.config))
    seen = turning_layers(model, found.norms_after, sliding=found.window is not None)
    assert tuple(sorted(seen)) == found.layers
    for turns in seen.values():
        assert (turns.layout, turns.first, turns.sign) == (found.layout, found.first, found.sign)
        assert turns.head_dim == found.head_dim
        assert found.inv_freq == pytest.approx(turns.inv_freq, rel=2 * ONE_ULP, abs=0)


@pytest.mark.parametrize("name", TEXT)
def test_description_is_what_a_probe_finds(name):
    if name in REFUSED:
        with pytest.raises(RopextError, match=REFUSED[name]):
            describe(written(zoo.config(name)))
    else:
        assert_explained(zoo.build(name))


REFUSED = {
    "exaone4+hybrid": "its layers with full attention have no rotary positions",
    "exaone_moe": "its layers with full attention have no rotary positions",
}
"""Of the tiny models, those whose configuration makes them impossible."""


@pytest.mark.parametrize("name", COMPOSITES)
def test_description_of_the_text_model_inside(name):
    assert_explained(zoo_composites.build(name))


OTHERS = {
    "llava_onevision": {
        "text_config": {"model_type": "qwen2", **zoo.COMMON},
        "vision_config": {**zoo_composites.SIGLIP, "model_type": "siglip_vision_model", "vision_use_head": False},
        "image_grid_pinpoints": [[16, 16]],
    },
    "qwen2_vl": {
        "text_config": {"model_type": "qwen2_vl_text", **zoo.COMMON, **zoo.rope(mrope_section=[2, 3, 3])},
        "vision_config": {"depth": 1, "embed_dim": 32, "hidden_size": 64, "num_heads": 2, "patch_size": 4},
    },
    "phi4_multimodal": {
        **zoo.COMMON,
        **zoo.rope(partial_rotary_factor=0.75),
        "vision_config": {**zoo_composites.SMALL, "num_hidden_layers": 1, "crop_size": 16, "image_size": 16},
        "audio_config": {**zoo_composites.SMALL, "num_blocks": 1, "nemo_conv_channels": 32, "ext_pw_out_channel": 32},
    },
}
"""Tiny models of rows that the zoo does not have."""


@pytest.mark.parametrize("name", [name for name in OTHERS if is_extendable(name)])
def test_description_of_models_beside_the_zoo(name):
    config = CONFIG_MAPPING[name](**OTHERS[name])
    auto = AutoModelForCausalLM if name == "phi4_multimodal" else AutoModelForImageTextToText
    model = auto.from_config(config, attn_implementation="eager").eval()
    zoo.fill(model)
    assert_explained(model)


def test_every_supported_row_is_compared():
    built = {name.partition("+")[0] for name in [*zoo.ROWS, *zoo_composites.TEXT, *OTHERS]}
    assert set(supported()) <= built


@pytest.mark.parametrize("name", NOPE)
def test_layers_that_are_refused_for_want_of_rotary_positions_have_none(name):
    assert turning_layers(zoo.build(name)) == {}


# Every type, and what its configuration class means by missing keys


@pytest.mark.skipif(zoo.V4, reason="the table is that of transformers 5")
def test_every_rotary_type_has_a_row():
    missing = {name for name in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES if name not in FAMILIES and is_rotary(name)}
    assert missing == set()


def is_rotary(model_type: str) -> bool:
    """Whether the modelling code of a type turns queries and keys."""
    folder = Path(import_module(CONFIG_MAPPING[model_type].__module__).__file__ or "").parent
    return any("rotary" in file.read_text().lower() for file in folder.glob("modeling_*.py"))


OWN_DEFAULTS = [
    name
    for name, family in FAMILIES.items()
    if is_extendable(name) and family.sizes and not family.inside and name in CONFIG_MAPPING
]


@pytest.mark.parametrize("name", OWN_DEFAULTS)
def test_missing_keys_mean_what_the_class_means(name):
    family = FAMILIES[name]
    full = written(CONFIG_MAPPING[name]())
    minimal = {"model_type": name} | {key: full[key] for key in NEEDED.get(name, ()) if key in full}
    if family.theta is None and not family.rope:
        minimal["rope_theta"] = 12_345.0
        full = written(CONFIG_MAPPING[name].from_dict(dict(minimal)))
    text = text_model(minimal)
    written_sizes = text_model(full)
    for key in Sizes._fields:
        if key not in ("num_hidden_layers", "num_key_value_heads"):
            assert text.size(key) == written_sizes.size(key)
    assert text.key_value_heads() == written_sizes.key_value_heads()
    assert described(minimal) == described(full)


def described(config: dict[str, Any]) -> Any:
    """The description without what tells the spelling, or why there is none."""
    try:
        return replace(describe(config), rope=None)
    except RopextError as error:
        return str(error)


NEEDED = {
    "bamba": ["attn_layer_indices"],
    "cohere_compass_text": ["rope_parameters"],
}
"""What a family does not have by default, though it cannot be without."""
