"""What `generate`, a backend or a configuration is refused, and with which words."""

import pytest

from ropext.converter.model_classes import configuration_class, model_class
from tests.helpers import tiny

pytestmark = pytest.mark.usefixtures("no_grad")


@pytest.mark.parametrize("name", ["dpe", "gali", "dprope"])
def test_continuous_batching_is_refused(name):
    model = tiny.converted(name)
    for start in (model.generate_batch, model.init_continuous_batching):
        with pytest.raises(NotImplementedError, match="left-padded batch"):
            start([[5, 6, 7]])


@pytest.mark.parametrize("attn", ["flash_attention_2", "flex_attention"])
def test_backends_that_cannot_run_it_are_refused(attn):
    def run():
        model = tiny.converted("dpe")
        model.set_attn_implementation(attn)
        model.config._attn_implementation = attn  # transformers before 4.56 only warns
        model(tiny.tokens(5))

    with pytest.raises(
        (ValueError, ImportError), match=r"not support|FlashAttention|flash attention|use one of|`kernels` is"
    ):
        run()


def test_a_configuration_without_the_block_is_refused():
    with pytest.raises(ValueError, match="no rope_ext block"):
        model_class("llama", "dpe")(configuration_class("llama")(num_hidden_layers=1, vocab_size=8, hidden_size=32))


@pytest.mark.parametrize(
    ("change", "message"),
    [({"format": 9}, "different versions of ropext"), ({"method": "gali"}, "come from different checkpoints")],
)
def test_a_block_of_other_code_is_refused(change, message):
    config = tiny.converted("dpe").config
    config.rope_ext = config.rope_ext | change
    with pytest.raises(ValueError, match=message):
        model_class("llama", "dpe")(config)
