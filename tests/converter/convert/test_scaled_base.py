"""A base whose RoPE is scaled already keeps its scaling, under the method's."""

import numpy as np
import pytest
import torch
from transformers import LlamaForCausalLM

from ropext.converter.convert.api import convert_checkpoint
from ropext.converter.errors import RopextError
from ropext.converter.presets.load import load_preset
from tests.helpers import tiny
from tests.helpers.checkpoints import LLAMA3, edit_config
from tests.reference import dpe
from tests.reference.rope import llama_logits

pytestmark = pytest.mark.usefixtures("no_grad")


@pytest.mark.parametrize("scaling", [LLAMA3, {"rope_type": "linear", "factor": 2.0}], ids=["llama3", "linear"])
def test_dpe_composes_with_it(scaling, tiny_llama, tiny_preset):
    edit_config(tiny_llama, rope_scaling=scaling)
    result = convert_checkpoint(load_preset(str(tiny_preset)), str(tiny_llama), tiny_llama.parent / "converted")
    model, block = tiny.from_folder(result.output)
    base = LlamaForCausalLM.from_pretrained(tiny_llama).eval()
    short, ids = tiny.tokens(16), tiny.tokens(90)
    assert torch.equal(model(short).logits, base(short).logits)
    pair_logit = dpe.pair_logit(
        np.array(block["inv_freq"]), initial_window=block["initial_window"], **block["parameters"]
    )
    expected = llama_logits(base.double(), ids[0], pair_logit).float()
    torch.testing.assert_close(model(ids).logits[0], expected, atol=2e-4, rtol=0)


def test_a_scaling_that_depends_on_the_length_is_refused(tiny_llama, tiny_preset):
    edit_config(tiny_llama, rope_scaling={"rope_type": "dynamic", "factor": 2.0})
    with pytest.raises(RopextError, match="dynamic"):
        convert_checkpoint(load_preset(str(tiny_preset)), str(tiny_llama), tiny_llama.parent / "converted")
    assert not (tiny_llama.parent / "converted").exists()
