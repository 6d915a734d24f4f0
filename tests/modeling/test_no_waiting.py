"""A forward waits for its device once, to learn where its tokens stand, however many layers the model has."""

import pytest
import torch
from transformers import DynamicCache, StaticCache

from tests.helpers import tiny

pytestmark = pytest.mark.usefixtures("no_grad")
METHODS = ["dca", "dca_activate", "dpe", "dpe_activate", "dpe_top_k", "rerope", "self_extend", "self_extend_uneven"]
METHODS += ["string", "gali", "gali_grid", "jet_long"]
WAITS = ("item", "tolist", "__bool__", "__int__", "__index__", "nonzero", "cpu")


@pytest.fixture
def waits(monkeypatch):
    """Counts what makes the host wait for an accelerator; tables of numbers on the host do not."""
    counted = []

    def counting(name, original):
        def call(self, *args, **kwargs):
            counted.append(name)
            return original(self, *args, **kwargs)

        return call

    for name in WAITS:
        monkeypatch.setattr(torch.Tensor, name, counting(name, getattr(torch.Tensor, name)))
    return counted


def stepped(model, cache, mask, waits):
    """Waits of the second of two decoding steps, without those of transformers' own mask."""
    for end in (101, 102):
        waits.clear()
        step = {"attention_mask": mask[:, :end], tiny.CACHE: cache, "position_ids": torch.full((2, 1), end - 1)}
        model(tiny.tokens(1, rows=2), **step)
    return list(waits)


@pytest.mark.parametrize("name", METHODS)
def test_a_step_waits_as_often_as_a_few_numbers_take(name, waits):
    model, ids, mask = tiny.converted(name), tiny.tokens(100, rows=2), torch.ones(2, 102, dtype=torch.long)
    base = tiny.base()
    counts = []
    for each in (base, model):
        cache = each(ids, attention_mask=mask[:, :100], **{tiny.CACHE: DynamicCache()})[tiny.CACHE]
        counts.append(len(stepped(each, cache, mask, waits)))
    numbers_of_the_host = 4 if name.startswith(("gali", "jet_long")) else 0  # group sizes, on tensors of the host
    assert counts[1] - counts[0] <= 1 + 3 * numbers_of_the_host


@pytest.mark.parametrize("name", ["dpe", "self_extend"])
def test_a_static_cache(name, waits):
    model, ids = tiny.converted(name), tiny.tokens(100)
    how = {"max_batch_size": 1, "device": ids.device, "dtype": torch.float32}  # which old versions ask for
    cache = StaticCache(config=model.config, max_cache_len=110, **how)
    model(ids, **{tiny.CACHE: cache})
    waits.clear()
    model(ids[:, :1], **{tiny.CACHE: cache})
    assert len(waits) <= 8
