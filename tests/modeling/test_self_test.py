"""The self-test: it passes where transformers calls the code as known, and says so where it does not."""

import pytest
import torch
import transformers

from ropext.modeling import rope_ext_model
from tests.helpers import tiny

CASES = ["original", "self_extend", "dpe_top_k", "dca", "gali", "yarn", "dynamic_ntk"]


@pytest.fixture(autouse=True)
def asked_for(monkeypatch):
    monkeypatch.setenv("ROPEXT_SELF_TEST", "1")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", CASES)
def test_passes_on_a_known_transformers(name, dtype):
    model = tiny.converted(name, dtype=dtype)
    assert model(tiny.tokens(9)).logits.isfinite().all()
    assert model.model.rope_ext_checked


@pytest.mark.parametrize("name", CASES)
def test_a_cache_that_loses_keys_is_an_error(name, monkeypatch):
    def forget(self, key, value, *args, **kwargs):
        return key, value

    monkeypatch.setattr(transformers.DynamicCache, "update", forget)
    with pytest.raises(RuntimeError, match=rf"transformers {transformers.__version__}.*ropext upgrade"):
        tiny.converted(name)(tiny.tokens(9))


@pytest.mark.parametrize(("version", "due"), [("5.24.0", False), ("4.55.4", False), ("5.25.0", True), ("6.0.0", True)])
def test_runs_unasked_on_untested_versions_only(version, due, monkeypatch):
    monkeypatch.delenv("ROPEXT_SELF_TEST")
    monkeypatch.setattr("transformers.__version__", version)
    assert rope_ext_model.is_due() is due
