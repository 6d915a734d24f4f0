"""`torch.export` of a prefill, once for prompts of any length."""

import pytest
import torch

from tests.helpers import tiny

pytestmark = [
    pytest.mark.usefixtures("no_grad"),
    pytest.mark.skipif(not hasattr(torch.compiler, "is_exporting"), reason="this torch does not tell that it exports"),
    pytest.mark.filterwarnings("ignore"),  # torch's own
]


class Prefill(torch.nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, ids):
        return self.model(ids, use_cache=False).logits


@pytest.mark.parametrize("name", ["self_extend", "dpe_top_k", "dca", "yarn"])
def test_one_graph_for_every_length(name):
    model = tiny.converted(name)
    lengths = {"ids": {1: torch.export.Dim("length", min=2, max=4096)}}
    exported = torch.export.export(Prefill(model), (tiny.tokens(90),), dynamic_shapes=lengths, strict=False).module()
    for length in (20, 90, 150):
        ids = tiny.tokens(length)
        torch.testing.assert_close(exported(ids), model(ids).logits, atol=2e-4, rtol=0)
