"""What a converted model is put to: each use fails where the method differs from its oracle or its base."""

from collections.abc import Callable
from importlib import import_module
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import transformers
from packaging.version import Version
from torch import Tensor
from torch._dynamo.utils import counters
from transformers import CompileConfig

from tests.helpers import families, tiny
from tests.helpers.everywhere import BACKENDS, LENGTH, TOLERANCE, TRANSFORMERS, Subject, close, fed
from tests.helpers.tiny import generate, left_padded
from tests.reference.rope import stock_logits


def naive(s: Subject) -> None:
    ids = tiny.tokens(LENGTH)
    expected = stock_logits(families.precise(s.family), ids[0], s.oracle()).float()
    for attn in BACKENDS:
        close(s.model(attn)(ids).logits[0], expected)


def cut(s: Subject, pieces: Callable[[int], list[int]]) -> None:
    """The same logits as at once; where they depend on the pieces, the same by both backends."""
    ids = tiny.tokens(s.length)
    whole = s.model()(ids, use_cache=False).logits
    by_backend = [fed(s.model(attn), ids, pieces(s.length)) for attn in BACKENDS]
    for logits in by_backend:
        close(logits, whole)
    if not s.case.feeding:
        ids = tiny.tokens(LENGTH)
        close(*(fed(s.model(attn), ids, pieces(LENGTH)) for attn in BACKENDS))


def chunked(s: Subject) -> None:
    cut(s, lambda length: [7, length - 30, 1, 1, 21])


def token_by_token(s: Subject) -> None:
    cut(s, lambda length: [length - 16] + [1] * 16)


def padded(s: Subject) -> None:
    """Each row as if alone, through the prefill and three steps; padded on the right too."""
    rows = [tiny.tokens(length, seed=length) for length in (LENGTH, 66, 9)]
    ids, mask = left_padded(*rows)
    right_ids, right_mask = (
        torch.stack([row.roll(-n) for row, n in zip(both, (0, 10, 67), strict=True)]) for both in (ids, mask)
    )
    for attn in BACKENDS:
        model = s.model(attn)
        left = fed(model, ids, [LENGTH - 3, 1, 1, 1], mask)
        right = fed(model, right_ids, [LENGTH], right_mask)
        for row, from_left, from_right in zip(rows, left, right, strict=True):
            length = row.shape[1]
            close(from_left[-length:], fed(model, row, [length - 3, 1, 1, 1])[0])
            close(from_right[:length], model(row).logits[0])


def beams(s: Subject) -> None:
    rows = [tiny.tokens(length, seed=length) for length in (LENGTH, 62)]
    batch = generate(s.model(), *left_padded(*rows), num_beams=2)
    for row, together in zip(rows, batch, strict=True):
        assert torch.equal(generate(s.model(), row, num_beams=2)[0], together)


def generation(s: Subject) -> None:
    """Sampled tokens do not depend on the cache, nor on the chunks in which the prompt is read."""
    model, ids, tokens = s.model(), tiny.tokens(s.length - 10), []
    for how in ({}, {"use_cache": False}, {"prefill_chunk_size": 19, tiny.CACHE: transformers.DynamicCache()}):
        torch.manual_seed(0)
        tokens.append(generate(model, ids, do_sample=True, **how))
    assert torch.equal(tokens[0], tokens[1])
    assert torch.equal(tokens[0], tokens[2])


def assisted(s: Subject) -> None:
    ids = tiny.tokens(s.length - 10)
    assert torch.equal(generate(s.model(), ids), generate(s.model(), ids, assistant_model=s.base()))


def static_cache(s: Subject) -> None:
    ids, mask = left_padded(tiny.tokens(LENGTH), tiny.tokens(62, seed=1))
    how = {"cache_implementation": "static", "disable_compile": True}
    if refusal := static_refusal(s):
        with pytest.raises(ValueError, match=refusal):
            generate(s.model(), ids, mask, **how)
    else:
        assert torch.equal(generate(s.model(), ids, mask), generate(s.model(), ids, mask, **how))


def static_refusal(s: Subject) -> str | None:
    """What is said where there is no static cache."""
    if Version("4.57") > TRANSFORMERS and not s.base()._can_compile_fullgraph:
        return "does not support `cache_implementation='static'`"
    if Version("5.0") > TRANSFORMERS:  # no room for two rotations of a key
        cache = s.model()(tiny.tokens(3), use_cache=True)[tiny.CACHE]
        if cache.layers[0].keys.shape[-1] != cache.layers[0].values.shape[-1]:
            return "the static cache of transformers 4"
    return None


def offloaded_cache(s: Subject) -> None:
    ids, model = tiny.tokens(LENGTH).cuda(), s.fresh().cuda()
    assert torch.equal(generate(model, ids), generate(model, ids, cache_implementation="offloaded"))


def quantized_cache(s: Subject) -> None:
    """Keys and values in four bits cost about what they cost the base."""
    # Its extension in Python, or it would spend two minutes on compiling the other.
    extension = import_module("optimum.quanto.library.extensions.cpp").ext
    extension._lib = SimpleNamespace(unpack=unpack)
    ids = torch.cat([tiny.tokens(LENGTH, seed=seed) for seed in range(8)])
    settings = {"backend": "quanto", "nbits": 4, "q_group_size": 16, "residual_length": 4}
    errors = []
    for model in (s.model(), s.base()):
        first, second = (
            generate_logits(model, ids, **how)
            for how in ({}, {"cache_implementation": "quantized", "cache_config": settings})
        )
        assert torch.equal(first[0], second[0])
        errors.append((first[1] - second[1]).abs().mean())
    assert 0 < errors[0] < 3 * errors[1]


def unpack(packed: Tensor, bits: int) -> Tensor:
    """Its values of a few bits, those in the lowest bits first."""
    return torch.cat([(packed >> low) & (2**bits - 1) for low in range(0, 8, bits)])


def generate_logits(model: Any, ids: Tensor, **how: Any) -> tuple[Tensor, ...]:
    """Of the prompt's last token and of the first new one."""
    how |= {"max_new_tokens": 2, "do_sample": False, "pad_token_id": 0}
    out = model.generate(
        ids, attention_mask=torch.ones_like(ids), output_logits=True, return_dict_in_generate=True, **how
    )
    logits: tuple[Tensor, ...] = out.logits
    return logits


def compiled_step(s: Subject, backend: str = "aot_eager") -> None:
    """Each decode step of `generate` with a static cache is one and the same graph."""
    if static_refusal(s):
        return
    experts = s.family in families.MIXTURES  # stock: a loop over those that were chosen, at which a graph breaks
    ids, mask = left_padded(tiny.tokens(LENGTH), tiny.tokens(62, seed=1))
    settings = CompileConfig(backend=backend, fullgraph=not experts, mode=None, dynamic=False)
    settings._compile_all_devices = True
    counters.clear()
    new = generate(s.fresh(), ids, mask, cache_implementation="static", compile_config=settings)
    assert experts or counters["stats"]["unique_graphs"] == 1
    assert torch.equal(generate(s.model(), ids, mask), new)
    torch._dynamo.reset()


def compiled(s: Subject) -> None:
    """A prefill and a decode step with a dynamic cache."""
    ids, pieces = tiny.tokens(LENGTH), [LENGTH - 1, 1]
    expected = fed(s.model(), ids, pieces)
    close(fed(torch.compile(s.fresh(), backend="aot_eager"), ids, pieces), expected)
    torch._dynamo.reset()


@torch.enable_grad()
def training(s: Subject) -> None:
    """Gradients are those of the dense formula, with and without checkpointing; a step lowers the loss."""
    ids, gradients = tiny.tokens(LENGTH), []
    for attn, checkpointing in (("eager", False), ("sdpa", False), ("sdpa", True)):
        model = s.fresh(attn).train()
        model.config.clip_qkv = None  # OLMo's; its gradient jumps at the border
        if checkpointing:
            name = "activation_checkpointing_enable"  # of old another
            getattr(model, name, model.gradient_checkpointing_enable)()
        loss = model(ids, labels=ids).loss
        loss.backward()
        gradients.append({name: p.grad for name, p in model.named_parameters()})
    for other in gradients[1:]:
        for name, gradient in gradients[0].items():
            torch.testing.assert_close(other[name], gradient, atol=1e-4, rtol=1e-3)
    torch.optim.SGD(model.parameters(), lr=1e-3).step()
    assert model(ids, labels=ids).loss < loss


def round_trip(s: Subject) -> None:
    ids, model = tiny.tokens(LENGTH), s.model()
    model.save_pretrained(s.folder)
    shipped = families.shipped_class(s.family, "AutoModelForCausalLM", s.case.method)
    assert torch.equal(shipped.from_pretrained(s.folder)(ids).logits, model(ids).logits)


def placed(s: Subject) -> None:
    """Where accelerate puts the layers, on disk too, changes nothing."""
    ids, pieces, model = tiny.tokens(LENGTH), [LENGTH - 2, 1, 1], s.model()
    model.save_pretrained(s.folder)
    expected = fed(model, ids, pieces)
    parts = {name for name, _ in model.model.named_children()} - {"layers"}
    on_disk: dict[str, Any] = {f"model.{part}": "cpu" for part in parts} | {"lm_head": "cpu"}
    on_disk |= {"model.layers.0": "cpu", "model.layers.1": "disk", "model.layers.2": "disk"}
    shipped = families.shipped_class(s.family, "AutoModelForCausalLM", s.case.method)
    # Transformers 4 loses stock GLM-4.5's router from the disk.
    lost = s.family == "glm4_moe" and Version("5.0") > TRANSFORMERS
    for device_map in ("auto",) if lost else ("auto", on_disk):
        loaded = shipped.from_pretrained(s.folder, device_map=device_map, offload_folder=s.folder / "offload")
        close(fed(loaded, ids.to(loaded.device), pieces).cpu(), expected)
    assert lost or all(weight.device.type == "meta" for weight in loaded.model.layers[2].parameters())


def half_precision(s: Subject) -> None:
    """The fast path may err as much as the dense formula in the same type, and half as much again."""
    ids = tiny.tokens(LENGTH, rows=2)
    truth = s.model("eager")(ids).logits
    for dtype in (torch.bfloat16, torch.float16):
        errors = [(s.model(attn, dtype)(ids).logits.float() - truth).abs() for attn in BACKENDS]
        # Rounding sends single tokens of a mixture to another expert, in one formula or the other.
        naive, fast = (each.median() if s.family in families.MIXTURES else each.mean() for each in errors)
        assert fast <= 1.5 * naive + 1e-3


def unmoved(s: Subject) -> None:
    """Bit-equal to the base as long as nothing moves, and not beyond."""
    for attn in BACKENDS:
        model, base = s.model(attn), s.base(attn)
        methods = model.model.rope_ext_attachment.methods
        length = max(n for n in range(1, 129) if all(method.is_base(n) for method in methods))
        for n in (1, length - 1, length):
            ids = tiny.tokens(n, rows=2)
            assert torch.equal(model(ids).logits, base(ids).logits)
        if s.case.method == "original":
            bit_equal(model, base)
        else:
            ids = tiny.tokens(length + 20)
            assert not torch.allclose(model(ids).logits[:, -1], base(ids).logits[:, -1], **TOLERANCE)


def not_activated(s: Subject) -> None:
    """Bit-equal to the base up to `activate_beyond` tokens, from a cache too."""
    for attn in BACKENDS:
        bit_equal(s.fresh(attn, activate_beyond=LENGTH), s.base(attn))


def bit_equal(model: Any, base: Any) -> None:
    """At once, in pieces, padded."""
    ids = tiny.tokens(LENGTH, rows=2)
    mask = torch.ones_like(ids)
    mask[1, :20] = 0
    for pieces, given in (([LENGTH], None), ([30, LENGTH - 32, 1, 1], None), ([LENGTH - 2, 1, 1], mask)):
        assert torch.equal(fed(model, ids, pieces, given), fed(base, ids, pieces, given))


USES: dict[str, Callable[[Subject], None]] = {
    "naive": naive,
    "chunked": chunked,
    "token_by_token": token_by_token,
    "padded": padded,
    "beams": beams,
    "generation": generation,
    "assisted": assisted,
    "static_cache": static_cache,
    "quantized_cache": quantized_cache,
    "compiled_step": compiled_step,
    "compiled": compiled,
    "training": training,
    "round_trip": round_trip,
    "placed": placed,
    "half_precision": half_precision,
    "unmoved": unmoved,
    "not_activated": not_activated,
}
if torch.cuda.is_available():  # without its streams transformers refuses
    USES["offloaded_cache"] = offloaded_cache
