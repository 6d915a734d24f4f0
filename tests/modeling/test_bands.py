"""Bands: the methods that are cases of them, and many regions at once."""

import pytest
import torch

from ropext.modeling import rope_ext_band
from tests.helpers import tiny

FRACTIONAL = {"whole_positions": False}
SAME = {
    "self_extend": {"regions": [{"from": 16, "scale_factor": 4}]},
    "self_extend_uneven": {"regions": [{"from": 13, "scale_factor": 5}], "query_scaling": True},
    "dpe": {"regions": [{"from": 16, "scale_factor": [2, 8, 4, 16]}], "dimension_groups": [0, 2, 4, 6, 8]},
    "dpe_activate": {
        "regions": [{"from": 16, "scale_factor": [2, 8, 4, 16]}],
        "dimension_groups": [0, 2, 4, 6, 8],
        "activate_beyond": 40,
    },
    "jet_long": {"regions": [{"from": 16, "scale_factor": 4}]},  # ceil(150 / 48)
    "rerope_leaky": {"regions": [{"from": 20, "scale_factor": 3.5}], "query_scaling": True, **FRACTIONAL},
    "lampe": {"regions": [{"from": 12, "scale_factor": 58 / 18}, {"from": 70, "scale_factor": 1}], **FRACTIONAL},
    "lampe_program": {"regions": [{"from": 12, "scale_factor": 2}], "attention_factor": 1.069},
}


@pytest.mark.parametrize("name", SAME)
def test_other_methods_are_bands(name, no_grad):
    """Bit for bit where positions are whole."""
    bands = tiny.converted(tiny.Case("bands", {"whole_positions": True, **SAME[name]}))
    other, ids = tiny.converted(name), tiny.tokens(150)
    tolerance = {"atol": 2e-5, "rtol": 0} if "whole_positions" in SAME[name] else {"atol": 0, "rtol": 0}
    torch.testing.assert_close(bands(ids).logits, other(ids).logits, **tolerance)
    if name != "jet_long":  # whose group grows
        assert torch.equal(tiny.generate(bands, ids), tiny.generate(other, ids))


@pytest.mark.parametrize("whole", [True, False])
def test_a_region_cut_in_two_stays_the_same(whole, no_grad):
    ids = tiny.tokens(150)
    one, two, four = (
        tiny.converted(
            tiny.Case(
                "bands",
                {"regions": [{"from": each, "scale_factor": 3} for each in borders], "whole_positions": whole},
            )
        )(ids).logits
        for borders in ([11], [11, 60], [11, 12, 15, 100])
    )
    torch.testing.assert_close(two, one, atol=5e-5, rtol=0)
    torch.testing.assert_close(four, one, atol=5e-5, rtol=0)


def test_narrow_and_wide_regions_of_a_long_text(no_grad):
    """As the dense form, in one forward, in two, and token by token."""
    borders = {200: 2, 230: 3.5, 600: 7, 1000: 1}
    regions = [{"from": border, "scale_factor": scale} for border, scale in borders.items()]
    case = tiny.Case("bands", {"regions": regions, "whole_positions": True})
    dense, model, ids = tiny.converted(case, "eager"), tiny.converted(case), tiny.tokens(1205)
    expected = dense(ids).logits
    torch.testing.assert_close(model(ids).logits, expected, atol=1e-4, rtol=0)
    cache, found = None, []
    for begin, end in [(0, 700), (700, 1200), *((i, i + 1) for i in range(1200, 1205))]:
        out = model(ids[:, begin:end], use_cache=True, **{tiny.CACHE: cache})
        cache = out[tiny.CACHE]
        found.append(out.logits)
    torch.testing.assert_close(torch.cat(found, 1), expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", ["self_extend", "dpe_top_k"])
def test_a_window_wider_than_a_chunk_of_queries(name, no_grad, monkeypatch):
    """A rectangle lies between the two triangles of the band."""
    monkeypatch.setattr(rope_ext_band, "CHUNK", 16)
    case = tiny.CASES[name]
    wide = tiny.Case(case.method, {**case.parameters, "local_window": 40}, case.tables)
    model, dense, ids = tiny.converted(wide), tiny.converted(wide, "eager"), tiny.tokens(150)
    torch.testing.assert_close(model(ids).logits, dense(ids).logits, atol=1e-4, rtol=0)
