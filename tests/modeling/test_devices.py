"""Models on one GPU and on two, which a CPU pretends: what they give, how often they wait, what a kernel takes."""

import pytest
import torch
from transformers import DynamicCache

from ropext.modeling.rope_ext_attention import flash_attention
from tests.helpers import tiny
from tests.helpers.pretended import Pretended, pretended

pytestmark = pytest.mark.usefixtures("no_grad")
CASES = ["dpe_top_k", "gali", "dca_temperature", "bands_groups", "dynamic_ntk"]
OTHERS = ["gali_grid", "jet_long", "lampe_step", "local_profile", "rerope_leaky", "self_extend_by_layer", "string"]
OTHERS += ["yarn"]
METHODS = CASES + [pytest.param(name, marks=pytest.mark.slow) for name in OTHERS]
FREQUENCIES = "dynamic_ntk", "yarn"
GPU = "cuda:0"
PIECES = (0, 86), (86, 87), (87, 88), (88, 90)


def rows():
    """A row; two with padding. Ids and mask of each."""
    ids, mask = tiny.left_padded(tiny.tokens(90), tiny.tokens(60, seed=1))
    return (ids[:1], mask[:1]), (ids, mask)


def fed(model, ids, mask):
    """Logits of real tokens, given as a prefill and some steps."""
    cache, parts = DynamicCache(), []
    for start, stop in PIECES:
        given = {"attention_mask": mask[:, :stop], tiny.CACHE: cache}
        parts.append(model(ids[:, start:stop], **given).logits)
    return torch.cat(parts, 1).cpu()[mask.bool().cpu()].float()


def error(logits, truth):
    """The mean difference."""
    return float((logits - truth).abs().mean())


@pytest.mark.parametrize("name", METHODS)
def test_a_gpu_gives_what_a_cpu_gives(name):
    types = torch.float32, torch.float16
    truths, plains = ([fed(tiny.converted(name, dtype=dtype), *each) for each in rows()] for dtype in types)
    for dtype in types:
        with pretended() as devices:
            model = tiny.converted(name, dtype=dtype).to(GPU)
            found = [fed(model, ids.to(GPU), mask.to(GPU)) for ids, mask in rows()]
        for each, truth, plain in zip(found, truths, plains, strict=True):
            assert error(each, truth) < (1.5 * error(plain, truth) if dtype == torch.float16 else 1e-5)
        assert bool(devices.kernels) == (dtype == torch.float16 and name not in FREQUENCIES)


def spread(model):
    """Put the layers on two devices and move what they are given, as accelerate does."""

    def move(module, args, kwargs):
        def moved(x):
            if isinstance(x, tuple):
                return tuple(map(moved, x))
            return x.to(module.device_of_layer) if isinstance(x, torch.Tensor) else x

        return moved(args), {name: moved(each) for name, each in kwargs.items()}

    for layer, device in zip((*model.model.layers, model.model.norm), ("cuda:1", GPU, "cuda:1", GPU), strict=True):
        layer.device_of_layer = torch.device(device)
        layer.to(device).register_forward_pre_hook(move, with_kwargs=True)
    model.model.embed_tokens.to(GPU)
    model.model.rotary_emb.to(GPU)
    model.lm_head.to(GPU)
    return model


@pytest.mark.parametrize("name", [name for name in CASES if name not in FREQUENCIES])
def test_layers_on_two_gpus(name):
    expected = [fed(tiny.converted(name), *each) for each in rows()]
    with pretended():
        model = spread(tiny.converted(name))
        found = [fed(model, ids.to(GPU), mask.to(GPU)) for ids, mask in rows()]
    for each, truth in zip(found, expected, strict=True):
        torch.testing.assert_close(each, truth, atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", CASES + OTHERS)
def test_a_step_waits_once_and_copies_nothing_from_the_host(name):
    with pretended() as devices:
        model, ids, cache = tiny.converted(name).to(GPU), tiny.tokens(90).to(GPU), DynamicCache()
        waits = []
        for start, stop in PIECES:
            devices.waits.clear()
            model(ids[:, start:stop], **{tiny.CACHE: cache})
            waits.append(list(devices.waits))
    assert len(waits[1]) == len(waits[2]) == (name not in FREQUENCIES), waits


@pytest.mark.parametrize(
    ("width", "dtype", "capability", "kernel"),
    [(64, "float16", 8, True), (20, "bfloat16", 9, True), (264, "float16", 9, False), (64, "float16", 7, False)],
)
@pytest.mark.parametrize("causal", [True, False])
def test_kernels_are_given_what_they_take(width, dtype, capability, kernel, causal):
    generator = torch.Generator().manual_seed(0)
    shapes = (4, 7), (2, 9), (2, 9)
    tensors = [torch.randn(2, *shape, width, generator=generator).to(getattr(torch, dtype)) for shape in shapes]
    expected = flash_attention(*(x.float() for x in tensors), causal=causal, scale=width**-0.5)
    with pretended(capability) as devices:
        found = flash_attention(*(x.to(GPU) for x in tensors), causal=causal, scale=width**-0.5)
        assert all(isinstance(x, Pretended) for x in found)
        found = [x.cpu() for x in found]
    assert bool(devices.kernels) == kernel
    for each, truth in zip(found, expected, strict=True):
        torch.testing.assert_close(each.float(), truth, atol=0.03, rtol=0.01)
