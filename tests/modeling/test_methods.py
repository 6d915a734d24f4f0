"""The shipped methods against the authors' outputs, the naive oracles and each other."""

import json
from dataclasses import replace

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch.utils._python_dispatch import TorchDispatchMode

from ropext.converter.methods.registry import FREQUENCY_METHODS
from ropext.modeling import rope_ext_attention, rope_ext_dca
from ropext.modeling.rope_ext_gali import Gali
from tests.helpers import tiny
from tests.helpers.oracle import oracle
from tests.reference.rope import llama_logits

pytestmark = pytest.mark.usefixtures("no_grad")
TOLERANCE = 2e-4  # logits of the tiny model; an independent float32 program reaches 5e-5
BACKENDS = ["eager", "sdpa"]
METHODS_WITH_ATTENTION = [name for name, case in tiny.CASES.items() if case.method not in FREQUENCY_METHODS]


def golden(name):
    path = tiny.DATA / f"{name}.safetensors"
    with safe_open(path, "pt") as file:
        spec = json.loads(file.metadata()["spec"])
    return load_file(path), spec


def golden_dpe(name):
    tensors, spec = golden(name)
    tables = {}
    if spec["topk"]:
        chosen = tensors["norms"].topk(spec["topk"], -1).indices
        selected = torch.zeros_like(tensors["norms"], dtype=torch.bool).scatter(-1, chosen, True)
        tables["selected_pairs"] = tiny.packed(selected.numpy())
    parameters = {
        "local_window": spec["local_window_size"],
        "scale_factors": spec["scale_factors"],
        "dimension_groups": spec["dimension_groups_range"],
    }
    return tensors, tiny.Case("dpe", parameters, tables)


def decode(model, ids, prefill):
    """Logits of the tokens after `prefill`, one forward each."""
    cache = model(ids[:, :prefill], use_cache=True)[tiny.CACHE]
    rows = []
    for i in range(prefill, ids.shape[1]):
        rows.append(model(ids[:, i : i + 1], use_cache=True, **{tiny.CACHE: cache}).logits[0, -1])
    return torch.stack(rows)


@pytest.mark.parametrize("attn", BACKENDS)
@pytest.mark.parametrize("name", ["dpe-llama", "dpe-llama-top_k"])
def test_dpe_equals_the_authors_program(name, attn):
    tensors, case = golden_dpe(name)
    model, ids = tiny.converted(case, attn), tensors["input_ids"]
    torch.testing.assert_close(model(ids).logits[0], tensors["logits"], atol=TOLERANCE, rtol=0)
    torch.testing.assert_close(decode(model, ids[:, :199], 189), tensors["decode_logits"], atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize("attn", BACKENDS)
def test_gali_equals_the_authors_program(attn):
    tensors, _ = golden("gali-llama")
    model, ids = tiny.converted("gali", attn), tensors["sequences"]
    prefill = tensors["input_ids"].shape[1]
    torch.testing.assert_close(model(ids[:, :prefill]).logits[0], tensors["logits"][:prefill], atol=TOLERANCE, rtol=0)
    decoded = decode(model, ids[:, :-1], prefill)
    torch.testing.assert_close(decoded, tensors["logits"][prefill:], atol=TOLERANCE, rtol=0)
    generated = model.generate(tensors["input_ids"], max_new_tokens=8, do_sample=False, pad_token_id=0)
    assert torch.equal(generated, ids)


@pytest.mark.parametrize("attn", BACKENDS)
def test_self_extend_equals_the_authors_program(attn):
    tensors, spec = golden("self_extend-llama")
    case = tiny.Case("self_extend", {"group_size": spec["group_size"], "local_window": spec["window_size"]})
    model, ids = tiny.converted(case, attn), tensors["input_ids"]
    torch.testing.assert_close(model(ids).logits[0], tensors["logits"], atol=TOLERANCE, rtol=0)
    decoded = decode(model, ids[:, :199], 189)
    torch.testing.assert_close(decoded, tensors["decode_logits"], atol=TOLERANCE, rtol=0)


def merge_in_bfloat16(parts):
    """As the authors of DCA merge regions: their weights rounded to bfloat16."""
    outs, lses = zip(*parts, strict=True)
    weights = torch.stack(lses).softmax(0).to(torch.bfloat16).float()
    return sum(out * weight[..., None] for out, weight in zip(outs, weights, strict=True)), lses[0]


@pytest.mark.parametrize(
    ("merge", "tolerance"),
    [(rope_ext_attention.merge, 0.1), (merge_in_bfloat16, 0.01)],
    ids=["merged_exactly", "merged_as_they_do"],
)
def test_dca_equals_the_authors_program_but_for_its_rounding(merge, tolerance, monkeypatch):
    # A weight on the border between two bfloat16 numbers falls to either side, so the second is no 2e-4.
    monkeypatch.setattr(rope_ext_dca, "merge", merge)
    tensors, spec = golden("dca-llama")
    parameters = {"chunk_size": spec["chunk_size"], "local_window": spec["local_window"], "temperature": True}
    logits = tiny.converted(tiny.Case("dca", parameters))(tensors["input_ids"]).logits[0]
    torch.testing.assert_close(logits, tensors["logits"], atol=tolerance, rtol=0)
    first_chunk = slice(0, spec["chunk_size"] - spec["local_window"])
    torch.testing.assert_close(logits[first_chunk], tensors["logits"][first_chunk], atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize("attn", BACKENDS)
@pytest.mark.parametrize("name", ["dpe-llama", "dpe-llama-top_k", "gali-llama"])
def test_authors_logits_in_a_left_padded_batch(name, attn):
    tensors, case = golden_dpe(name) if name.startswith("dpe") else (golden("gali-llama")[0], tiny.CASES["gali"])
    model, ids = tiny.converted(case, attn), tensors["input_ids"]
    short = ids[:, :70]
    padding = ids.shape[1] - short.shape[1]
    batch = torch.cat((ids, torch.nn.functional.pad(short, (padding, 0))))
    mask = torch.ones_like(batch)
    mask[1, :padding] = 0
    logits = model(batch, attention_mask=mask).logits
    length = ids.shape[1]
    torch.testing.assert_close(logits[0], tensors["logits"][:length], atol=TOLERANCE, rtol=0)
    alone = model(short).logits[0]
    torch.testing.assert_close(logits[1, padding:], alone, atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize("name", [n for n in METHODS_WITH_ATTENTION if n != "gali_noise"])
def test_equals_the_naive_oracle(name):
    ids = tiny.tokens(121)
    expected = llama_logits(tiny.base(dtype=torch.float64), ids[0], oracle(name, 121)).float()
    for attn in BACKENDS:
        torch.testing.assert_close(tiny.converted(name, attn)(ids).logits[0], expected, atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize("name", tiny.CASES)
def test_dense_and_flash_agree(name):
    ids = tiny.tokens(150)
    dense, flash = (tiny.converted(name, attn)(ids).logits for attn in BACKENDS)
    torch.testing.assert_close(dense, flash, atol=TOLERANCE, rtol=0)


class LargestTensor(TorchDispatchMode):
    """Remembers how many elements the largest tensor had that any operation returned."""

    def __init__(self):
        super().__init__()
        self.elements = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, (tuple, list)) else [out]:
            if isinstance(tensor, torch.Tensor):
                self.elements = max(self.elements, tensor.untyped_storage().nbytes() // tensor.element_size())
        return out


@pytest.mark.parametrize("name", tiny.CASES)
def test_no_tensor_grows_with_the_square_of_the_length(name):
    length = 1024
    model, ids = tiny.converted(name), tiny.tokens(length, rows=2)
    mask = torch.ones_like(ids)
    with LargestTensor() as largest:
        out = model(ids, attention_mask=mask, use_cache=True, logits_to_keep=1)
        grown = torch.cat((mask, mask[:, :1].clamp(min=1)), 1)
        model(ids[:, :1], attention_mask=grown, **{tiny.CACHE: out[tiny.CACHE]})
    assert largest.elements < length * length


def test_eager_returns_attentions():
    for name in METHODS_WITH_ATTENTION:
        ids = tiny.tokens(90)
        attentions = tiny.converted(name, "eager")(ids, output_attentions=True).attentions
        assert len(attentions) == 3
        for weights in attentions:
            assert weights.shape == (1, 4, 90, 90)
            torch.testing.assert_close(weights.sum(-1), torch.ones(1, 4, 90))
            assert not weights.triu(1).any()


def test_noise_is_normal_seeded_and_independent_of_chunking():
    from ropext.modeling.rope_ext_noise import gaussian_noise, uniform_noise

    index = torch.arange(400)[None]
    for draw in (gaussian_noise, uniform_noise):
        noise = draw((1, 2), 4, index, index)
        assert noise.shape == (1, 4, 400, 400)
        assert abs(noise.mean()) < 0.01
        assert abs(noise.std() - 1) < 0.01
        assert torch.equal(draw((1, 2), 4, index[:, 100:130], index[:, 50:]), noise[:, :, 100:130, 50:])
        for other in (draw((2, 2), 4, index, index), draw((1, 3), 4, index, index)):
            assert abs((noise * other).mean()) < 0.01
        assert abs((noise[:, 0] * noise[:, 1]).mean()) < 0.02
        assert abs((noise[..., 1:] * noise[..., :-1]).mean()) < 0.01


def test_noise_changes_interpolated_logits_only():
    ids = tiny.tokens(100)
    quiet, noisy = (tiny.converted(name)(ids).logits for name in ("gali_grid", "gali_noise"))
    torch.testing.assert_close(quiet[:, :64], noisy[:, :64], atol=TOLERANCE, rtol=0)
    assert (quiet[:, 64:] - noisy[:, 64:]).abs().max() > 1e-3


def test_with_noise_too_keys_are_moved_once_for_each_run(monkeypatch):
    moved, move = [], Gali._moved
    monkeypatch.setattr(Gali, "_moved", lambda method, *how: moved.append(how[0].query.shape[2]) or move(method, *how))
    case = replace(tiny.CASES["gali_noise"], parameters=tiny.CASES["gali_noise"].parameters | {"chunk_size": 100})
    model = tiny.converted(case)
    model(tiny.tokens(200))
    assert moved == model.config.num_hidden_layers * [100, 36]  # not for each block of 64 queries


@pytest.mark.parametrize("attn", BACKENDS)
@pytest.mark.parametrize("name", ["dpe", "gali_grid", "dca", "jet_long"])
def test_padding_between_tokens_leaves_a_gap(name, attn):
    """A key of padding is not seen, and the others stand where the model says: as a row without it at those places."""
    model, ids = tiny.converted(name, attn), tiny.tokens(90)
    kept = torch.cat((torch.arange(10), torch.arange(12, 90)))
    mask = torch.zeros_like(ids)
    mask[0, kept] = 1
    expected = model(ids[:, kept], position_ids=kept[None]).logits
    torch.testing.assert_close(model(ids, attention_mask=mask).logits[:, kept], expected, atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize("name", ["dpe", "gali_grid", "dca"])
def test_decoding_after_padding_on_the_right(name):
    model, ids = tiny.converted(name), tiny.tokens(80, rows=2)
    mask = torch.ones_like(ids)
    mask[1, 75:] = 0
    cache = model(ids, attention_mask=mask, use_cache=True)[tiny.CACHE]
    mask = torch.cat((mask, mask[:, :1]), 1)
    step = model(ids[:, :1], attention_mask=mask, **{tiny.CACHE: cache}).logits
    whole, positions = torch.cat((ids, ids[:, :1]), 1), torch.arange(81)[None]
    seen = mask[1].nonzero()[:, 0]
    expected = model(whole[1:, seen], position_ids=positions[:, seen]).logits[:, -1]
    torch.testing.assert_close(step[0], model(whole[:1]).logits[0, -1:], atol=TOLERANCE, rtol=0)
    torch.testing.assert_close(step[1], expected, atol=TOLERANCE, rtol=0)


DOCUMENTS = torch.cat([torch.arange(n) for n in (80, 30, 70)])[None]


@pytest.mark.parametrize("attn", BACKENDS)
@pytest.mark.parametrize("name", [n for n in tiny.CASES if n != "dynamic_ntk"])
def test_packed_documents_do_not_see_each_other(name, attn):
    model, ids = tiny.converted(name, attn), tiny.tokens(180)
    apart = torch.cat([model(part).logits for part in ids.split([80, 30, 70], dim=1)], dim=1)
    packed = model(ids, position_ids=DOCUMENTS, use_cache=False).logits
    torch.testing.assert_close(packed, apart, atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize("name", METHODS_WITH_ATTENTION)
def test_positions_that_begin_later_or_leave_a_gap(name):
    """The kernels agree with the dense form by positions, at once and one token at a time."""
    ids = tiny.tokens(100)
    later, gap = torch.arange(100)[None] + 5, torch.cat((torch.arange(60), torch.arange(75, 115)))[None]
    for positions in (later, gap):
        results = []
        for attn in BACKENDS:
            model = tiny.converted(name, attn)
            out = model(ids[:, :95], position_ids=positions[:, :95], use_cache=True)
            logits, cache = [out.logits], out[tiny.CACHE]
            for i in range(95, 100):
                step = model(ids[:, i : i + 1], position_ids=positions[:, i : i + 1], **{tiny.CACHE: cache})
                logits.append(step.logits)
            results.append(torch.cat(logits, 1))
        torch.testing.assert_close(*results, atol=TOLERANCE, rtol=0)


def test_a_mask_of_another_kind_is_refused():
    ids = tiny.tokens(30)
    mask = torch.ones(30, 30, dtype=torch.bool).tril()
    mask[20:, 5:10] = False
    with pytest.raises(ValueError, match="causality, padding, packed documents and images only"):
        tiny.converted("dpe")(ids, attention_mask=mask[None, None])


@pytest.mark.parametrize("name", ["self_extend", "dpe", "rerope_leaky", "dca", "gali_grid", "string"])
def test_a_model_cast_to_16_bits_with_its_tables(name):
    """`.to(dtype)` rounds the model's own frequencies, by which it then rotates; far distances stay exact."""
    ids = tiny.tokens(200)
    for dtype in (torch.bfloat16, torch.float16):
        fast, dense = (tiny.converted(name, attn, dtype)(ids).logits.float() for attn in ("sdpa", "eager"))
        truth = tiny.converted(name, "eager", dtype).float()(ids).logits
        assert (fast - truth).abs().mean() <= 1.5 * (dense - truth).abs().mean() + 1e-3
        assert (dense - truth).abs().mean() < 0.2 * truth.abs().mean()
