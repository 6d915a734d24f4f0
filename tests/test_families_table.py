"""The table of families, held to the stock classes of the installed transformers."""

from __future__ import annotations

import json
from typing import Any

import pytest
import transformers
from packaging.version import Version

from ropext.converter.description import describe
from ropext.converter.families import FAMILIES

from .helpers import zoo, zoo_composites
from .helpers.probe import turning_layers

INSTALLED = Version(transformers.__version__)
ONE_ULP = 1.2e-7
"""Relative; powers of torch may differ from the nearest float32 by one bit, their reciprocals by two."""


def is_extendable(name: str) -> bool:
    """Whether the installed transformers has a type whose attention of it can be extended."""
    family = FAMILIES.get(name.partition("+")[0])
    return family is not None and not family.refused and Version(family.since) <= INSTALLED


TEXT = [name for name in zoo.ROWS if is_extendable(name) and zoo.available(name)]
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
    if "hybrid" in name or name == "exaone_moe":
        pytest.skip("refused by its configuration")
    assert_explained(zoo.build(name))


@pytest.mark.parametrize("name", COMPOSITES)
def test_description_of_the_text_model_inside(name):
    assert_explained(zoo_composites.build(name))
