"""Which methods vLLM can serve, and by which positions, where vLLM itself is not installed too."""

import subprocess
import sys
from types import SimpleNamespace

import pytest

pytest.importorskip("torch")

import torch

from ropext.serving.vllm.method import Refused, method_of
from ropext.serving.vllm.rotary import ChunkRotary, FarRotary
from tests.helpers import tiny

REFUSED = {
    **dict.fromkeys(("dpe_top_k", "dpe_by_layer"), "each head has its own choice"),
    "jet_long": "where a far key stands depends on the length",
    "jet_long_activate": "where a far key stands depends on the length",
    "dynamic_ntk": "its frequencies depend on the length",
    **dict.fromkeys(("bands", "bands_activate", "bands_groups", "lampe", "lampe_step"), "more than one region"),
    **{case: "its temperature depends on the length" for case in tiny.CASES if case.startswith("dca_temperature")},
    "dca_activate": "it takes exact keys too",
    **{case: "not made of a near band" for case in tiny.CASES if case.startswith("gali")},
}
NAMES = "self_extend", "rerope", "string", "dpe", "local_profile", "lampe"
BAND = [case for case in tiny.CASES if case.startswith(NAMES) and case not in REFUSED]


@pytest.mark.parametrize("case", REFUSED)
def test_what_a_paged_cache_cannot_hold_is_refused(case):
    with pytest.raises(Refused, match=f"cannot serve the method {tiny.CASES[case].method}: .*{REFUSED[case]}"):
        method_of(tiny.block(tiny.CASES[case]))


@pytest.mark.parametrize("case", [case for case in tiny.CASES if case not in REFUSED])
def test_all_others_are_served(case):
    assert method_of(tiny.block(tiny.CASES[case]))


def test_image_text_models_are_refused():
    block = tiny.block(tiny.CASES["dpe"])
    with pytest.raises(Refused, match="image-text"):
        method_of(block | {"base": block["base"] | {"place": "text_config"}})


class Rotary(torch.nn.Module):
    """As vLLM's: a table by position, cosines and sines."""

    rotary_dim, is_neox_style = 16, True

    def __init__(self, length, inv_freq=tiny.INV_FREQ):
        super().__init__()
        angles = torch.outer(torch.arange(length).float(), torch.tensor(inv_freq))
        self.cos_sin_cache = torch.cat((angles.cos(), angles.sin()), -1)

    def forward(self, positions, query, key):
        return tuple(turned(x, self.cos_sin_cache[positions]) for x in (query, key))


def turned(x, table):
    cos, sin = table[:, None].chunk(2, -1)
    first, second = x.view(len(x), -1, 16).chunk(2, -1)
    return torch.cat((first * cos - second * sin, second * cos + first * sin), -1).flatten(1)


@pytest.fixture
def sixteen_bits():
    """As while vLLM builds a model."""
    torch.set_default_dtype(torch.bfloat16)
    yield
    torch.set_default_dtype(torch.float32)


def test_tables_are_as_exact_in_sixteen_bits(request):
    block = tiny.block(tiny.CASES["local_profile_activate"])
    exact = FarRotary(Rotary(64), block, method_of(block), 16, 64)
    request.getfixturevalue("sixteen_bits")
    again = FarRotary(Rotary(64), block, method_of(block), 16, 64)
    for name, table in exact.named_buffers():
        assert table.dtype == torch.float32
        assert torch.equal(table, again.get_buffer(name))


@pytest.mark.parametrize("length", [300, 100])
@pytest.mark.parametrize("case", BAND)
def test_both_rotations_of_a_head(case, length, no_grad):
    """Exact and far, also where the base's table is too short."""
    block = tiny.block(tiny.CASES[case])
    method = method_of(block)
    positions = torch.tensor([0, 1, 30, 99, 250])
    query, key = torch.randn(5, 4 * 16), torch.randn(5, 2 * 16)
    found = FarRotary(Rotary(length), block, method, 16, 256)(positions, query, key)
    maps = method.far_query_positions, method.far_key_positions
    for given, both, move in zip((query, key), found, maps, strict=True):
        exact, far = both.view(5, -1, 32).chunk(2, -1)
        places = move(positions[None], None)[0].double()
        places = places[:, None] if places.dim() == 1 else places
        angles = places * torch.tensor(tiny.INV_FREQ).double()
        scale = torch.ones(5)
        if given is query and method.scales_queries:
            scale = method.query_scale(positions[None])[0, 0, :, 0]
        for part, angle in ((exact, positions[:, None] * torch.tensor(tiny.INV_FREQ)), (far, angles)):
            want = turned(given, torch.cat((angle.cos(), angle.sin()), -1).float())
            assert torch.allclose(part.flatten(1), want * scale[:, None], atol=2e-5)


@pytest.mark.parametrize("query_scaling", [False, True])
def test_a_head_at_its_place_in_its_chunk(query_scaling, no_grad):
    block = tiny.block(tiny.CASES["dca"])
    block["parameters"] |= {"query_scaling": query_scaling}
    method = method_of(block)
    positions = torch.tensor([0, 1, 31, 32, 250])
    query, key = torch.randn(5, 4 * 16), torch.randn(5, 2 * 16)
    found = ChunkRotary(Rotary(20), block, method, 16, 256)(positions, query, key)
    angle = (positions % 32)[:, None] * torch.tensor(tiny.INV_FREQ)
    scale = method.query_scale(positions[None])[0, 0, :, 0] if query_scaling else torch.ones(5)
    assert (scale[-1] > 1) == query_scaling
    for given, turned_on, factor in zip((query, key), found, (scale, torch.ones(5)), strict=True):
        want = turned(given, torch.cat((angle.cos(), angle.sin()), -1)) * factor[:, None]
        assert torch.allclose(turned_on, want, atol=2e-5)


@pytest.mark.parametrize("rotary", [FarRotary, ChunkRotary])
def test_other_frequencies_than_described_are_refused(rotary):
    block = tiny.block(tiny.CASES["dca" if rotary is ChunkRotary else "dpe"])
    with pytest.raises(Refused, match="other frequencies"):
        rotary(Rotary(64, [w / 2 for w in tiny.INV_FREQ]), block, method_of(block), 16, 64)


def test_unknown_tables_are_refused():
    block = tiny.block(tiny.CASES["dpe"])
    with pytest.raises(Refused, match="rotates this model by SimpleNamespace"):
        FarRotary(SimpleNamespace(rotary_dim=16), block, method_of(block), 16, 64)


def test_the_plugin_imports_nothing_heavy():
    code = "import sys, ropext.serving.vllm; sys.exit(bool({'torch', 'transformers', 'vllm'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
