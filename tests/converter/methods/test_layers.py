"""Parameters that some layers have of their own."""

from dataclasses import replace

import pytest
import torch
from transformers import AutoModelForCausalLM

from ropext.converter.checkpoint.facts import read_facts
from ropext.converter.convert.api import convert
from ropext.converter.errors import InvalidPreset
from ropext.converter.methods.layers import by_layer, layers_beyond
from ropext.converter.presets.load import make_preset
from tests.helpers import tiny

PRESET = {
    "name": "tiny",
    "description": "A tiny model to 200 tokens",
    "base_model": "tiny",
    "initial_window": 64,
    "target_window": 200,
}


def preset(method, parameters, *entries):
    parameters = parameters | ({"by_layer": list(entries)} if entries else {})
    return make_preset(PRESET | {"method": method, "parameters": parameters})


def of_layers(made):
    return [(layers, parameters) for _, layers, parameters in by_layer(made.method, made.parameters)]


def test_what_is_left_out_is_as_in_the_other_layers():
    noise = {"std": 0.5, "distribution": "gaussian"}
    made = preset(
        "gali", {"chunk_size": 24, "local_window": 8, "noise": noise}, {"layers": [2, 3], "noise": {"std": 2}}
    )
    ((layers, parameters),) = of_layers(made)
    assert layers == [2, 3]
    assert parameters["noise"] == made.parameters["noise"] | {"std": 2}
    assert parameters["chunk_size"] == 24


def test_a_curve_goes_through_its_ends_and_towards_the_points_between():
    made = preset("rerope", {"local_window": 16}, {"layers": [1, 5], "local_window": [8, 40, 16], "leak": [2, 4]})
    found = {layer: parameters for layers, parameters in of_layers(made) for layer in layers}
    assert [found[layer]["leak"] for layer in range(1, 6)] == [2, 2.5, 3, 3.5, 4]
    t = torch.linspace(0, 1, 5, dtype=torch.float64)
    expected = (1 - t) ** 2 * 8 + 2 * t * (1 - t) * 40 + t**2 * 16
    assert [found[layer]["local_window"] for layer in range(1, 6)] == [round(each) for each in expected.tolist()]


@pytest.mark.parametrize(
    ("entries", "place", "says"),
    [
        ([{"layers": [3, 1], "group_size": 5}], "by_layer[0].layers", "write the first layer first"),
        ([{"layers": [0, 2], "group_size": 5}, {"layers": [2, 3], "group_size": 6}], "by_layer[1].layers", "layer 2"),
        ([{"layers": [0, 1 << 40], "group_size": 5}], "by_layer[0].layers", "at most 1024"),
        ([{"layers": [0, 1]}], "by_layer[0]", "2 keys at least"),
        ([{"group_size": 5}], "by_layer[0].layers", "is missing"),
        ([{"layers": [0], "group_size": 5}], "by_layer[0].layers", "at least 2 items"),
        ([{"layers": [0, 1], "group_size": "5"}], "by_layer[0].group_size", "a whole number or a list"),
        ([{"layers": [0, 1], "group_size": [5, 6, 7, 8, 9]}], "by_layer[0].group_size", "at most 4 items"),
        ([{"layers": [0, 1], "group_size": [5, 0]}], "by_layer[0].group_size[1]", "at least 1"),
        ([{"layers": [0, 1], "top_k": 5}], "by_layer[0].top_k", "unknown key"),
        ([{"layers": [0, 1], "group_size": 2}], "by_layer[0].group_size", "reaches"),
        ([{"layers": [0, 1], "local_window": [16, 64]}], "by_layer[0].local_window", "under initial_window"),
    ],
)
def test_what_cannot_be_is_said_at_its_place(entries, place, says):
    with pytest.raises(InvalidPreset) as error:
        preset("self_extend", {"group_size": 4, "local_window": 16}, *entries)
    assert f"parameters.{place}: " in str(error.value)
    assert says in str(error.value)


def test_layers_that_the_model_has_not(tiny_llama, tmp_path):
    made = preset("rerope", {"local_window": 16}, {"layers": [2, 3], "local_window": 8})
    with pytest.raises(InvalidPreset, match=r"by_layer\[0\]\.layers: goes to layer 3, but the last of .* is 2"):
        convert(tiny_llama, preset=made, output=tmp_path / "out")


def test_layers_that_no_method_acts_on(tiny_llama):
    """An entry may reach over layers that slide, but not hold these alone."""
    hybrid = replace(read_facts(str(tiny_llama)), layers=(1,))
    (fault,) = layers_beyond({"by_layer": [{"layers": [0, 1]}, {"layers": [2, 2]}]}, hybrid)
    assert fault.path == ("parameters", "by_layer", 1, "layers")
    assert "is [2, 2], but methods act on these layers of" in fault.message
    assert fault.message.endswith("alone: 1")


@pytest.mark.usefixtures("module_cache", "no_grad")
def test_a_converted_model_reads_each_layer_by_its_own(tiny_llama, tmp_path):
    ids = tiny.tokens(76)

    def logits(name, *entries):
        convert(tiny_llama, preset=preset("rerope", {"local_window": 16}, *entries), output=tmp_path / name)
        return AutoModelForCausalLM.from_pretrained(tmp_path / name, trust_remote_code=True)(ids).logits

    plain = logits("plain")
    assert torch.equal(logits("same", {"layers": [0, 1], "local_window": 16}), plain)
    one, other = logits("one", {"layers": [0, 0], "local_window": 30}), logits("other", {"layers": [1, 1], "leak": 4})
    assert len({tuple(each[0, -1].tolist()) for each in (plain, one, other)}) == 3
