"""One model in several threads at once, as a server runs it: each gets what it would get alone."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from tests.helpers import tiny


@pytest.mark.parametrize("name", ["self_extend", "gali_grid", "dynamic_ntk"])
def test_two_threads_take_turns_within_each_layer(name):
    model, places = tiny.converted(name), (torch.arange(71)[None], torch.arange(37, 108)[None])
    texts = [tiny.tokens(71, seed) for seed in range(2)]

    @torch.no_grad()
    def read(text, place):
        first = model(text[:, :70], position_ids=place[:, :70], use_cache=True)
        given = {tiny.CACHE: first[tiny.CACHE]}
        return first.logits, model(text[:, 70:], position_ids=place[:, 70:], **given).logits

    alone = [read(*each) for each in zip(texts, places, strict=True)]
    both = threading.Barrier(2, timeout=60)
    for layer in model.model.layers:  # between where a layer begins and where it calls its attention
        layer.self_attn.q_proj.register_forward_hook(lambda *_: (both.wait(), None)[1])
    with ThreadPoolExecutor(2) as threads:
        found = list(threads.map(read, texts, places))
    torch.testing.assert_close(found, alone, atol=1e-5, rtol=0)


@pytest.mark.filterwarnings("ignore:.gradient_checkpointing_enable:FutureWarning")
def test_layers_run_again_by_the_backend_of_today():
    """Autograd has threads of its own on CUDA, where layers that were not kept run again."""
    model, text = tiny.converted("self_extend"), tiny.tokens(70)
    model.gradient_checkpointing_enable()
    model.train()
    with ThreadPoolExecutor(1) as other:
        for backend in ("sdpa", "eager", "sdpa"):
            model.set_attn_implementation(backend)
            gradients = []
            for run in (lambda task: task(), lambda task: other.submit(task).result()):
                model.zero_grad()
                run(model(text, labels=text).loss.backward)
                gradients.append(model.model.layers[0].self_attn.k_proj.weight.grad.clone())
            assert torch.equal(*gradients)
