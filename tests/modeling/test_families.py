"""Every family: its heads, its loading, its adapters, and the bases that are refused."""

import json
import subprocess
import warnings

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from transformers import CONFIG_MAPPING, AutoModelForCausalLM

from ropext.converter import model_code
from ropext.converter.checkpoint.facts import facts_of
from ropext.converter.checkpoint.families import supported
from ropext.converter.convert.api import convert_checkpoint
from ropext.converter.errors import RopextError
from ropext.converter.methods.registry import FREQUENCY_METHODS
from ropext.converter.presets.load import load_preset
from ropext.modeling.rope_ext_dpe import Dpe
from ropext.modeling.rope_ext_model import decoder_of
from tests.helpers import families, tiny
from tests.helpers.checkpoints import edit_config
from tests.modeling.test_loading import preset_file, run_alone, write_preset
from tests.reference import dpe
from tests.reference.rope import stock_logits

TOLERANCE = {"atol": 2e-4, "rtol": 0}
HEADS = [
    (family, auto)
    for family in families.FAMILIES
    for auto in model_code.auto_map(family)
    if auto not in ("AutoConfig", "AutoModel", "AutoModelForCausalLM") and families.has_stock_class(family, auto)
]
forward_only = pytest.mark.usefixtures("no_grad")


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """The models are so small that threads only wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def test_families_are_rows_of_the_table():
    assert set(families.FAMILIES) <= set(supported())


@forward_only
@pytest.mark.parametrize(("family", "auto"), HEADS)
def test_stock_heads(family, auto):
    config = families.configuration(family, "dpe")
    torch.manual_seed(0)
    model = families.shipped_class(family, auto, "dpe")(config).eval()
    stock = families.stock_class(family, auto)(families.base(family).config).eval()
    stock.load_state_dict(model.state_dict())
    assert isinstance(decoder_of(model).rope_ext_attachment.method, Dpe)
    ids = tiny.tokens(16, rows=2)
    assert torch.equal(model(ids)[0], stock(ids)[0])
    ids = tiny.tokens(90)
    assert not torch.allclose(model(ids)[0], stock(ids)[0], atol=1e-6)


@pytest.mark.filterwarnings("ignore::FutureWarning")  # of the name of the checkpointing function
@pytest.mark.parametrize("family", families.MIXTURES)
def test_a_mixture_routes_and_trains_as_the_stock_model(family):
    """The router's logits and its loss where nothing moves; the same gradients with and without checkpointing."""
    model, base = families.converted(family, "dpe"), families.base(family)
    ids = tiny.tokens(model.model.rope_ext_attachment.method.start, rows=2)
    if family != "glm4_moe":  # has no loss of the router's
        ours, stock = (each(ids, labels=ids, output_router_logits=True) for each in (model, base))
        assert len(ours.router_logits) == len(stock.router_logits) > 0
        assert all(map(torch.equal, ours.router_logits, stock.router_logits))
        assert torch.equal(ours.aux_loss, stock.aux_loss)
        assert torch.equal(ours.loss, stock.loss)
    ids, gradients = tiny.tokens(90), []
    for checkpointing in (False, True):
        model.zero_grad()
        if checkpointing:
            model.gradient_checkpointing_enable({"use_reentrant": False})
        model.train()(ids, labels=ids, use_cache=False).loss.backward()
        gradients.append({name: each.grad.clone() for name, each in model.named_parameters() if each.grad is not None})
    assert any("experts" in name for name in gradients[0])
    torch.testing.assert_close(*gradients)


@pytest.fixture
def bases(tmp_path):
    """A folder of a stock model for each family."""
    for family in families.FAMILIES:
        model = families.base(family)
        model.generation_config.eos_token_id = 2
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model.save_pretrained(tmp_path / "bases" / family)
    return tmp_path / "bases"


@forward_only
def test_a_stranger_loads_every_family(bases, tmp_path):
    ids, expected = tiny.tokens(90), {}
    for name in ("dpe", "gali", "dprope"):
        preset = load_preset(str(write_preset(tmp_path, name)))
        for family in families.FAMILIES:
            convert_checkpoint(preset, str(bases / family), tmp_path / "converted" / f"{family}-{name}")
            expected[f"{family}-{name}"] = families.converted(family, name)(ids).logits[0]
    save_file({"input_ids": ids, **expected}, tmp_path / "expected.safetensors")
    folders = tmp_path / "converted"
    printed = run_alone("loaded_families.py", folders, tmp_path, cwd=tmp_path, start=subprocess.Popen)
    assert len(printed.splitlines()) == len(expected)


@pytest.mark.parametrize(
    ("family", "change", "window"),
    [
        ("mistral", {"sliding_window": 32}, 32),
        ("mistral", {"sliding_window": None}, 4096),  # edit_config removes the key: the family's default
        ("phi3", {"sliding_window": 40}, 40),
        ("qwen2", {"use_sliding_window": False, "sliding_window": 24, "layer_types": None}, None),
        ("qwen3_moe", {"use_sliding_window": True, "sliding_window": 24}, 24),
        ("qwen3_moe", {"use_sliding_window": False, "sliding_window": 24}, None),
        ("starcoder2", {"sliding_window": 32}, 32),
        ("llama", {}, None),
    ],
)
def test_a_sliding_window_of_all_layers_is_turned_off_and_said(family, change, window, bases, tmp_path):
    edit_config(bases / family, **change)
    preset = load_preset(str(write_preset(tmp_path, "dpe")))
    result = convert_checkpoint(preset, str(bases / family), tmp_path / "converted")
    notes = [note for note in result.plan.notes if "sliding_window" in note]
    assert notes == (
        [f"sliding_window of {window} tokens is turned off: every layer sees every token"] if window else []
    )
    written = json.loads((result.output / "config.json").read_text())
    config = families.shipped_class(family, "AutoConfig")(**written)
    assert getattr(config, "sliding_window", None) is None
    assert set(getattr(config, "layer_types", None) or []) <= {"full_attention"}


@pytest.mark.parametrize(
    ("family", "change"),
    [
        ("qwen2", {"use_sliding_window": True, "sliding_window": 24, "max_window_layers": 1, "layer_types": None}),
        (
            "qwen3",
            {
                "use_sliding_window": True,
                "sliding_window": 24,
                "layer_types": ["full_attention", *["sliding_attention"] * 2],
            },
        ),
    ],
)
def test_a_sliding_window_of_some_layers_stays(family, change, bases, tmp_path):
    edit_config(bases / family, **change)
    preset = load_preset(str(write_preset(tmp_path, "dpe")))
    result = convert_checkpoint(preset, str(bases / family), tmp_path / "converted")
    assert "1 of 3 layers have full attention with RoPE; the others stay" in result.plan.notes
    written = json.loads((result.output / "config.json").read_text())
    assert written["rope_ext"]["pairs"]["layers"] == [0]
    config = families.shipped_class(family, "AutoConfig")(**written)
    assert config.sliding_window == 24
    assert config.layer_types == ["full_attention", *["sliding_attention"] * 2]


@pytest.mark.parametrize(
    ("config", "why"),
    [
        ({"model_type": "falcon"}, "its attention is code of its own"),
        ({"model_type": "gptj"}, "a table that ends at the trained length"),
        ({"model_type": "cohere2"}, "its layers with full attention have no rotary positions"),
        ({"model_type": "deepseek_v32"}, "an indexer .* chooses which keys each query sees"),
        ({"model_type": "llama4", "text_config": {}}, "no rotary positions, and the others read chunks"),
        ({"model_type": "mamba2"}, "it has no rotary positions"),
    ],
)
def test_a_family_that_cannot_be_done_is_refused_with_the_reason(config, why):
    with pytest.raises(RopextError, match=f"tiny: config.json: model_type '{config['model_type']}' cannot .*{why}"):
        facts_of(config, "tiny")


def test_phi3_with_longrope_is_refused(bases, tmp_path):
    preset = load_preset(str(write_preset(tmp_path, "dpe")))
    factors = {"type": "longrope", "short_factor": [1.0] * 8, "long_factor": [2.0] * 8}
    edit_config(bases / "phi3", rope_scaling=factors, rope_parameters=None)
    with pytest.raises(RopextError, match="longrope"):
        convert_checkpoint(preset, str(bases / "phi3"), tmp_path / "converted")
    assert not (tmp_path / "converted").exists()


# A part of each head


def spelled(folder, spelling, factor):
    """The folder's configuration as transformers 4 or 5 alone would write it."""
    old = {"rope_theta": 10000.0, "rope_scaling": None, "rope_parameters": None, "partial_rotary_factor": factor}
    parameters = {"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": factor}
    new = dict.fromkeys(old) | {"rope_parameters": parameters}
    edit_config(folder, **(old if spelling == "4" else new))


@pytest.fixture
def partial_bases(tmp_path):
    """Stock models of which RoPE turns 12 of 16 and 16 of 40 dimensions, by family."""
    found = {}
    for family, factor in (("phi3", 0.75), ("phi", 0.4)):
        arguments = families.arguments(family) | {"partial_rotary_factor": factor}
        model = AutoModelForCausalLM.from_config(CONFIG_MAPPING[family](**arguments), attn_implementation="eager")
        found[family] = families.finished(model, family, torch.float64)
        found[family].save_pretrained(tmp_path / family)
    return found


@forward_only
@pytest.mark.parametrize("spelling", ["4", "5"])
@pytest.mark.parametrize(("family", "factor", "pairs"), [("phi3", 0.75, 6), ("phi", 0.4, 8)])
def test_a_part_of_each_head_in_either_spelling(family, factor, pairs, spelling, partial_bases, tmp_path):
    spelled(tmp_path / family, spelling, factor)
    parameters = {"local_window": 16, "scale_factors": [2, 8], "dimension_groups": [0, 2, pairs]}
    preset = load_preset(str(preset_file(tmp_path, "tiny-dpe", "dpe", parameters)))
    output = convert_checkpoint(preset, str(tmp_path / family), tmp_path / "converted").output
    written = json.loads((output / "config.json").read_text())
    assert written["partial_rotary_factor"] == written["rope_parameters"]["partial_rotary_factor"] == factor
    inv_freq = np.array(written["rope_ext"]["inv_freq"])
    np.testing.assert_allclose(inv_freq, 10000.0 ** (-np.arange(pairs) / pairs), rtol=1e-6)

    base, ids = partial_bases[family], tiny.tokens(80)
    expected = stock_logits(base, ids[0], dpe.pair_logit(inv_freq, initial_window=64, **parameters))
    for folder in (output, tmp_path / "saved"):
        config = families.shipped_class(family, "AutoConfig").from_pretrained(folder)
        model = families.shipped_class(family, "AutoModelForCausalLM", "dpe").from_pretrained(folder, config=config)
        model = model.eval().double()
        torch.testing.assert_close(model(ids).logits[0], expected, **TOLERANCE)
        torch.testing.assert_close(model(ids[:, :16]).logits, base(ids[:, :16]).logits, **TOLERANCE)
        model.save_pretrained(tmp_path / "saved")


@forward_only
@pytest.mark.parametrize("spelling", ["4", "5"])
@pytest.mark.parametrize(
    ("family", "factor", "method"),
    [("phi3", 0.75, "ntk"), *(("phi", 0.4, method) for method in FREQUENCY_METHODS)],
)
def test_a_native_export_turns_the_same_part(family, factor, method, spelling, partial_bases, tmp_path):
    spelled(tmp_path / family, spelling, factor)
    preset = load_preset(str(preset_file(tmp_path, f"tiny-{method}", method, {})))
    config_class, model_class = (
        families.shipped_class(family, auto, method) for auto in ("AutoConfig", "AutoModelForCausalLM")
    )
    remote = convert_checkpoint(preset, str(tmp_path / family), tmp_path / "remote").output
    native = convert_checkpoint(preset, str(tmp_path / family), tmp_path / "native", native=True).output
    stock = AutoModelForCausalLM.from_pretrained(native).eval().float()
    model = model_class.from_pretrained(remote, config=config_class.from_pretrained(remote)).eval().float()
    for length in (40, 200):
        ids = tiny.tokens(length)
        torch.testing.assert_close(stock(ids).logits, model(ids).logits, **TOLERANCE)
        assert torch.isfinite(stock(ids).logits).all()


@pytest.mark.filterwarnings("ignore::FutureWarning")  # PEFT's, of names in transformers
def test_an_adapter_of_the_stock_model_fits_the_converted_one(bases, tmp_path):
    peft = pytest.importorskip("peft")
    preset, ids = load_preset(str(write_preset(tmp_path, "dpe"))), tiny.tokens(16)
    known = peft.utils.TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING
    assert {"llama", "mistral", "qwen2", "qwen3"} <= set(known)
    for family in set(families.FAMILIES) & set(known):
        # By model_type; of a mixture, PEFT has to be told, the stock one too.
        how = {"task_type": "CAUSAL_LM", "target_modules": known[family] if family in families.MIXTURES else None}
        stock = peft.get_peft_model(families.base(family), peft.LoraConfig(**how, init_lora_weights=False))
        stock.save_pretrained(tmp_path / "adapter" / family)
        output = convert_checkpoint(preset, str(bases / family), tmp_path / "converted" / family).output
        config = families.shipped_class(family, "AutoConfig")(**json.loads((output / "config.json").read_text()))
        model = families.shipped_class(family, "AutoModelForCausalLM", "dpe").from_pretrained(output, config=config)
        fresh = peft.get_peft_model(model, peft.LoraConfig(**how))
        fresh.load_adapter(tmp_path / "adapter" / family, "trained")
        fresh.set_adapter("trained")
        with torch.no_grad():
            assert torch.equal(fresh.eval()(ids).logits, stock.eval()(ids).logits)
            assert not torch.equal(fresh(ids).logits, families.base(family)(ids).logits)
