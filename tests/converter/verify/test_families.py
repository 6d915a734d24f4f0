"""`ropext verify` on every family, and on bases of every kind."""

import shutil
import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from ropext.converter import model_code
from ropext.converter.convert.api import convert_checkpoint
from ropext.converter.convert.native import UnsupportedSpelling
from ropext.converter.presets.load import load_preset
from ropext.converter.verify import model as verify_model
from ropext.converter.verify import parts as verify_parts
from ropext.converter.verify.checks import verify
from tests.converter.convert import test_quantized
from tests.helpers import families, zoo, zoo_composites
from tests.helpers.checkpoints import LLAMA3, edit_config
from tests.helpers.saved import saved
from tests.helpers.verified import NATIVE, converted, record_anew, require_good, texts
from tests.modeling.test_loading import preset_file


@pytest.mark.parametrize("family", families.FAMILIES)
def test_family(family, bases, tmp_path):
    for name in ("dpe", "gali"):
        found = require_good(converted(bases(family), tmp_path, name))
        assert found["reference"].startswith("2 of 3 layers, float32: ")
        assert "bit for bit" in found["base"]
    require_good(converted(bases(family), tmp_path, "dprope"), "base")
    exported = 0
    for name in NATIVE:
        try:
            folder = converted(bases(family), tmp_path, name, native=True)
        except UnsupportedSpelling:
            continue
        exported += 1
        require_good(folder, *(["base"] if name != "dynamic_ntk" else []))
    assert exported == (3 if family in ("olmo", "olmo2", "phi3") else len(NATIVE))


@pytest.fixture(scope="module")
def others(tmp_path_factory):
    """A function that returns a folder of one of the many other types; not to be changed."""
    place = tmp_path_factory.mktemp("others")

    def make(name, table=zoo):
        return saved(name, place, table)

    return make


def with_method(base, place, method, parameters, *, native=False):
    preset = load_preset(str(preset_file(place, f"tiny-{method}", method, parameters)))
    return convert_checkpoint(preset, str(base), place / f"{method}-{native}", native=native).output


SELF_EXTEND = ("self_extend", {"group_size": 6, "local_window": 16})


@pytest.mark.parametrize(
    ("name", "layers"),
    [
        ("gemma3_text", 4),  # every other layer slides
        ("gemma2", 4),  # the same, and bounds its logits, which torch's kernels do not
        ("gpt_oss", 4),  # the same, with sinks
        ("smollm3", 2),  # the last layer has no rotary positions
        ("olmo_hybrid", 4),  # every other layer is recurrent; transformers renames and joins its weights
        ("falcon_h1", 2),  # has a number that JSON does not have
        ("deepseek_v3", 2),
        ("gpt_neox", 2),  # transformers renames its head
        ("sarvam_moe", 2),  # transformers splits a tensor of three
        ("minimax_m2", 2),  # counts the dimensions that are turned
    ],
)
def test_other_types(name, layers, others, tmp_path):
    found = require_good(with_method(others(name), tmp_path, *SELF_EXTEND))
    assert found["reference"].startswith(f"{layers} of 4 layers, float32: ")
    require_good(with_method(others(name), tmp_path, "linear", {}), "base")
    if name not in ("gemma3_text", "deepseek_v3"):
        require_good(with_method(others(name), tmp_path, "linear", {}, native=True), "base")


def test_part_of_a_model_whose_layers_share_a_table(others, tmp_path):
    found = require_good(with_method(others("gemma3n_text"), tmp_path, *SELF_EXTEND), "reference", "base")
    assert found["reference"].startswith("its embeddings of each layer lie in one table")


def test_a_text_model_inside_another_is_not_run(others, tmp_path):
    folder = with_method(others("llava", zoo_composites), tmp_path, *SELF_EXTEND)
    found = require_good(folder, "headers", "reference", "base")
    assert found["headers"] == "no model of type 'llava' is run: only text models are, not those with one inside"


def test_a_cache_that_transformers_itself_reads_otherwise(others, tmp_path):
    """MiniMax's recurrence, as transformers 5.24 has it."""
    folder, real = with_method(others("llama"), tmp_path, *SELF_EXTEND), verify_model._stepped
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(verify_model, "_stepped", lambda *given: (real(*given)[0] * 1.5, real(*given)[1]))
        found = require_good(folder, "reference")
    assert "itself reads tokens of the base after a cache otherwise than without one, by 0.5" in found["reference"]


@pytest.mark.parametrize("family", families.MIXTURES)
def test_experts_are_counted(family, bases, tmp_path):
    folder = converted(bases(family), tmp_path, "dpe")
    tensors = load_file(folder / "model.safetensors")
    names = [name for name in tensors if "layers.2." in name and "experts" in name]
    spoilt = {name: tensor for name, tensor in tensors.items() if name != names[-1]}
    (folder / "model.safetensors").unlink()
    save_file(spoilt, folder / "model.safetensors", {"format": "pt"})
    record_anew(folder)
    assert texts(verify(str(folder)))["headers"].startswith("the experts of layer 2 have ")


HEADS = [(family, auto) for family in ("gemma", "mixtral", "qwen3") for auto in model_code.auto_map(family)]


@pytest.mark.parametrize(("family", "auto"), [(family, auto) for family, auto in HEADS if auto != "AutoConfig"])
def test_head(family, auto, bases, tmp_path):
    require_good(converted(bases(family, auto), tmp_path, "dpe"))
    require_good(converted(bases(family, auto), tmp_path, "ntk", native=True), "base")


@pytest.mark.parametrize(
    ("family", "changes"),
    [
        ("llama", {"tie_word_embeddings": True}),
        ("phi3", {"partial_rotary_factor": 1.0}),
        ("mistral", {"sliding_window": 64, "max_position_embeddings": 512}),
        ("qwen2", {"use_sliding_window": True, "sliding_window": 24, "max_window_layers": 1}),
    ],
)
def test_base_of_another_kind(family, changes, bases, tmp_path):
    found = require_good(converted(bases(family, **changes), tmp_path, "dpe"))
    assert "made-up" not in found["reference"]


@pytest.mark.parametrize(("name", "native"), [("dpe", False), ("gali", False), ("dprope", False), ("dprope", True)])
def test_base_that_is_scaled(name, native, tiny_llama, tmp_path):
    edit_config(tiny_llama, rope_scaling=LLAMA3)
    require_good(converted(tiny_llama, tmp_path, name, native=native), *(["base"] if name == "dprope" else []))


def test_weights_without_the_prefix_of_their_model(bases, tmp_path):
    """As embedding models are published: the class of a language model, the names of its inner part."""
    base = Path(shutil.copytree(bases("qwen3", tie_word_embeddings=True), tmp_path / "base"))
    tensors = {name.removeprefix("model."): value for name, value in load_file(base / "model.safetensors").items()}
    save_file(tensors, base / "model.safetensors", {"format": "pt"})
    require_good(converted(base, tmp_path, "dpe"))


@pytest.mark.parametrize("kind", test_quantized.KINDS, ids=lambda kind: kind.__name__)
def test_quantized_base(kind, tiny_llama, tmp_path, monkeypatch):
    for package in ("bitsandbytes", "torchao", "compressed_tensors", "gptqmodel", "awq", "optimum"):
        monkeypatch.setitem(sys.modules, package, None)  # importing it fails
    test_quantized.replace_matrices(tiny_llama, kind)
    for name, native in (("dpe", False), ("yarn", True)):
        folder = converted(tiny_llama, tmp_path, name, native=native)
        found = require_good(folder, *(["base"] if native else []))
        assert "2 of 3 layers, made-up weights in the place of quantized ones" in found["reference"]
    tensors = load_file(folder / "model.safetensors")
    gone = [key for key in tensors if "layers.1.self_attn.q_proj" in key]
    (folder / "model.safetensors").unlink()
    save_file({key: value for key, value in tensors.items() if key not in gone}, folder / "model.safetensors")
    record_anew(folder)
    assert texts(verify(str(folder)))["headers"] == "model.layers.1.self_attn.q_proj.weight is missing"


def test_layer_that_is_too_large(made, monkeypatch):
    monkeypatch.setattr(verify_parts, "MOST_BYTES", 1000)
    found = verify(str(made("dpe")))
    assert found.verdict == "incomplete"
    assert texts(found)["reference"] == texts(found)["base"]
    assert texts(found)["base"].startswith("one layer takes ")
