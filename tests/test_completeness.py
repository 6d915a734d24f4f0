"""Every method has its files, every family its classes, and both halves speak of the same block."""

from pathlib import Path

import pytest

import ropext.modeling
import ropext.presets
import ropext.schemas
from ropext.converter import config, shipped
from ropext.converter.methods import METHODS
from ropext.converter.presets import list_presets
from ropext.modeling import rope_ext_config, rope_ext_methods

ROOT = Path(__file__).parent.parent


def folder(package):
    return Path(package.__file__).parent


@pytest.mark.parametrize("method", sorted({*METHODS, *rope_ext_methods.METHODS}))
def test_a_method_is_whole(method):
    assert method in METHODS, f"schemas/method_{method}.schema.json is missing"
    assert method in rope_ext_methods.METHODS, f"{method} has no line in METHODS of modeling/rope_ext_methods.py"
    for file in (
        folder(ropext.modeling) / f"rope_ext_{method}.py",
        folder(ropext.schemas) / f"method_{method}.schema.json",
        ROOT / "tests" / "reference" / f"{method}.py",
        ROOT / "docs" / "methods" / f"{method}.md",
    ):
        assert file.is_file(), f"{file.relative_to(file.parents[2])} is missing"
    assert any(preset.method == method for preset in list_presets()), f"no preset of {method} is shipped"


def test_a_family_has_its_classes():
    for family in shipped.families():
        assert {"AutoConfig", "AutoModel", "AutoModelForCausalLM"} <= set(shipped.auto_map(family))


def test_both_halves_agree_on_the_block():
    assert config.GUARD == rope_ext_config.GUARD
    assert config.FORMAT == rope_ext_methods.FORMAT
