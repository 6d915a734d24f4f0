"""What the formulas give for a cache is what the stock cache holds, for every type that can be converted."""

import pytest
import torch

from ropext.converter.checkpoint.families import FAMILIES
from ropext.converter.checkpoint.model_cache import cache_in
from ropext.converter.memory.estimate import cache_bytes
from ropext.converter.memory.shape import WITHOUT_SDPA, shape_of
from tests.helpers import zoo

LENGTH = 40


def known(name):
    family = FAMILIES.get(name.partition("+")[0])
    return zoo.available(name) and family is not None and not family.refused


NAMES = [name for name in zoo.ROWS if known(name)]


def bytes_held(cache):
    """Of all that a cache's layers keep."""
    held = [value for layer in cache.layers for name, value in vars(layer).items() if not name.startswith("_")]
    parts = [each for value in held for each in (value.values() if isinstance(value, dict) else [value])]
    parts += getattr(cache, "linear_cache", [])
    return sum(each.nbytes for each in parts if isinstance(each, torch.Tensor))


@pytest.mark.skipif(zoo.V4, reason="transformers 4 keeps expanded keys in latent attention, and no recurrent state")
@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_the_cache_of_a_type(name):
    model = zoo.build(name, dtype=torch.bfloat16)
    cache = cache_in(model(**zoo.inputs(name, LENGTH), use_cache=True))
    shape = shape_of(model.config.to_dict())
    assert cache_bytes(shape, LENGTH, 1, 2.0) == bytes_held(cache)


def test_types_without_a_fused_kernel():
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING

    found = {name for name in NAMES if not MODEL_FOR_CAUSAL_LM_MAPPING[type(zoo.config(name))]._supports_sdpa}
    assert {name.partition("+")[0] for name in found} == WITHOUT_SDPA & {name.partition("+")[0] for name in NAMES}
