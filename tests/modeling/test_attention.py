"""The attention primitives by themselves."""

import pytest
import torch

from ropext.modeling import rope_ext_attention as attention
from tests.helpers import tiny

pytestmark = pytest.mark.usefixtures("no_grad")


@pytest.mark.parametrize("grouped", [True, False])
@pytest.mark.parametrize("threads", [1, 2, 3])
def test_a_step_never_repeats_keys_where_the_kernel_lacks_groups(grouped, threads, monkeypatch):
    """One token on three key heads, whatever the number of threads that they are shared out among."""
    query, key, value = torch.randn(1, 9, 1, 16), torch.randn(1, 3, 40, 16), torch.randn(1, 3, 40, 16)
    logits = attention.grouped_logits(query, key) * 0.3
    expected = attention.weighted_values(logits.softmax(-1), value)
    monkeypatch.setattr(attention, "_GROUPED_HEADS", grouped and attention._GROUPED_HEADS)
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    monkeypatch.setattr(torch.Tensor, "repeat_interleave", None)
    out, lse = attention.flash_attention(query, key, value, causal=False, scale=0.3)
    torch.testing.assert_close(out, expected)
    torch.testing.assert_close(lse, logits.logsumexp(-1))


@pytest.mark.parametrize("rows", [1, 2])
@pytest.mark.parametrize("length", [40, 41, 43])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_a_long_step_reads_the_keys_of_a_head_in_pieces(rows, length, dtype, monkeypatch):
    """A cut of a longer cache, so that no piece is contiguous with the next head's."""
    query = torch.randn(rows, 9, 1, 16).to(dtype)
    key, value = (torch.randn(rows, 3, 50, 16).to(dtype)[:, :, 3 : 3 + length] for _ in range(2))
    logits = attention.grouped_logits(query, key).float() * 0.3
    monkeypatch.setattr(attention, "LONG", 40)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 8)
    with torch.profiler.profile(record_shapes=True) as profile:
        out, lse = attention.flash_attention(query, key, value, causal=False, scale=0.3)
    pieces = {1: 5, 2: 4}[rows]
    kernels = [each.input_shapes for each in profile.events() if "flash_attention_for_cpu" in each.name]
    assert kernels[0][1] == [3 * rows, pieces, length // pieces, 16]
    tolerance = 2e-2 if dtype == torch.bfloat16 else 1e-5
    expected = attention.weighted_values(logits.softmax(-1), value.float())
    torch.testing.assert_close(out.float(), expected, atol=tolerance, rtol=0)
    torch.testing.assert_close(lse.float(), logits.logsumexp(-1), atol=tolerance, rtol=0)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_merged_parts_are_attention_over_all_keys(dtype):
    query, key, value = (torch.randn(1, 2, n, 8).to(dtype) for n in (3, 12, 12))
    parts, logits = [], attention.grouped_logits(query, key).float()
    for columns in (slice(0, 5), slice(5, 6), slice(6, 12)):
        lse = logits[..., columns].logsumexp(-1)  # float32, whatever the type of the output
        weights = logits[..., columns].softmax(-1).to(dtype)
        parts.append((attention.weighted_values(weights, value[:, :, columns]), lse))
    out, lse = attention.merge(parts)
    assert out.dtype == dtype
    expected = logits.softmax(-1) @ value.float()
    torch.testing.assert_close(out.float(), expected, atol=2e-2 if dtype == torch.bfloat16 else 1e-5, rtol=0)
    torch.testing.assert_close(lse, logits.logsumexp(-1))


def test_logits_of_float16_come_of_products_within_its_range():
    """Logits of 25,000 at 16 dimensions are a quarter of their products, which float16 does not reach."""
    model, ids, seen = tiny.converted("self_extend", attn="eager"), tiny.tokens(60), []
    attachment = model.model.rope_ext_attachment
    attachment.observer = lambda method, tokens: seen.append(float(method.logits(tokens).abs().max()))
    model(ids)
    for layer in model.model.layers:
        for projection in (layer.self_attn.q_proj, layer.self_attn.k_proj):
            projection.weight *= (25000 / max(seen)) ** 0.5
    seen.clear()
    model(ids)
    assert 4 * max(seen) > 70000
    attachment.observer = None
    assert model.half()(ids).logits.isfinite().all()


@pytest.mark.parametrize("scale", [64**-0.5, 128**-0.5, 1.0, 2.0])
def test_moving_a_power_of_two_to_the_queries_changes_no_digit(scale):
    query = torch.randn(1, 2, 3, 16).half()
    moved, rest = attention.in_range(query, scale)
    assert torch.equal(moved.double() * rest, query.double() * scale)
    assert 1 <= rest <= 2
    assert attention.in_range(query.bfloat16(), scale)[1] == scale
