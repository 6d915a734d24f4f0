"""What `generate`, a backend or a configuration is refused, and with which words."""

import pytest

from tests import tiny

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

    with pytest.raises((ValueError, ImportError), match=r"not support|FlashAttention|flash attention|use one of"):
        run()


def test_a_configuration_without_the_block_is_refused():
    from ropext.modeling.modeling_llama_ext import LlamaRopeExtConfig, LlamaRopeExtForCausalLM

    with pytest.raises(ValueError, match="no rope_ext block"):
        LlamaRopeExtForCausalLM(LlamaRopeExtConfig(num_hidden_layers=1, vocab_size=8, hidden_size=32))


@pytest.mark.parametrize(
    ("change", "message"),
    [({"format": 9}, "different versions of ropext"), ({"method": "yarn2"}, "this code has dca")],
)
def test_a_block_of_another_version_is_refused(change, message):
    from ropext.modeling.rope_ext_methods import build_method

    config = tiny.converted("dpe").config
    config.rope_ext = config.rope_ext | change
    with pytest.raises(ValueError, match=message):
        build_method(config)
