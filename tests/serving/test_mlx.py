"""Emitted folders in mlx-lm: the same log-probabilities and tokens as in transformers, however the prompt comes."""

import ast
import json
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from ropext.converter import mlx_code, model_code
from ropext.converter.checkpoint.families import supported
from ropext.converter.convert.api import convert_checkpoint
from ropext.converter.methods.registry import FREQUENCY_METHODS
from ropext.converter.methods.schemas import METHODS
from ropext.converter.presets.load import load_preset
from tests.helpers import mlx_folder, tiny

mx = pytest.importorskip("mlx.core")
cache_module = pytest.importorskip("mlx_lm.models.cache")
generate_module = pytest.importorskip("mlx_lm.generate")
load_model = pytest.importorskip("mlx_lm.utils").load_model

pytestmark = [pytest.mark.usefixtures("no_grad"), pytest.mark.filterwarnings("ignore")]
TOLERANCE = 1e-4
LENGTH = 92
PIECES = [37, 64, 80, *range(81, LENGTH + 1)]
CORE = ("llama",)
"""Families in which every case of every method runs each time; `--whole`: in all of them."""
SOME = ("dpe_top_k", "gali", "yarn")
IDS = tiny.tokens(LENGTH)


@pytest.fixture(scope="module")
def loaded(tmp_path_factory):
    """The checkpoint of a family and a case, in mlx-lm and in transformers."""
    folders, kept = tmp_path_factory.mktemp("mlx"), {}

    def load(family, case):
        if (family, case) not in kept:
            folder = folders / f"{family}-{case}"
            config = mlx_folder.write(family, case, folder)
            model, _ = load_model(folder, trust_remote_code=True)
            kept[family, case] = SimpleNamespace(
                folder=folder, config=config, mlx=model, torch=mlx_folder.reference(family, config)
            )
        return kept[family, case]

    return load


def slides(family, case):
    """Whether layers with a window share the frequencies that a method changes."""
    return family == "olmo3" and tiny.CASES[case].method in (*FREQUENCY_METHODS, "original")


def test_layers_with_a_window_at_the_same_frequencies(loaded):
    with pytest.raises(ValueError, match="slides at the base's frequencies"):
        loaded("olmo3", "yarn")


def pytest_generate_tests(metafunc):
    if "case_of" in metafunc.fixturenames:
        whole = metafunc.config.getoption("--whole")
        pairs = [(family, case) for family in mlx_code.FAMILIES for case in tiny.CASES]
        pairs = [pair for pair in pairs if not slides(*pair)]
        chosen = [pair for pair in pairs if whole or pair[0] in CORE or pair[1] in SOME]
        metafunc.parametrize(("family", "case_of"), chosen)


def in_pieces(model, ids, ends, caches):
    parts, begin = [], 0
    for end in ends:
        parts.append(np.array(model(ids[:, begin:end], cache=caches)))
        begin = end
    return mlx_folder.log_probabilities(np.concatenate(parts, axis=1))


def test_log_probabilities(loaded, family, case_of):
    """Of a whole prompt, and of one in pieces, at last of one token each."""
    both, ids = loaded(family, case_of), mx.array(IDS.numpy())
    expected = mlx_folder.fed(both.torch, IDS, [LENGTH])
    found = mlx_folder.log_probabilities(both.mlx(ids))[0]
    assert (found - expected).abs().max() < TOLERANCE
    if not tiny.CASES[case_of].feeding:
        expected = mlx_folder.fed(both.torch, IDS, PIECES)
    found = in_pieces(both.mlx, ids, PIECES, cache_module.make_prompt_cache(both.mlx))[0]
    assert (found - expected).abs().max() < TOLERANCE


@pytest.mark.parametrize("case", [case for case in tiny.CASES if case != "original"])
def test_rows_with_left_padding(loaded, case):
    both, lengths = loaded("llama", case), (92, 61, 70)
    rows = [tiny.tokens(length, seed=length) for length in lengths]
    ids, _ = tiny.left_padded(*rows)
    pads = [LENGTH - length for length in lengths]
    caches = [cache_module.BatchKVCache(pads) for _ in both.mlx.layers]
    ends = [LENGTH - 2, LENGTH - 1, LENGTH]
    found = in_pieces(both.mlx, mx.array(ids.numpy()), ends, caches)
    for row, pad, alone in zip(found, pads, rows, strict=True):
        expected = mlx_folder.fed(both.torch, alone, [end - pad for end in ends])
        assert (row[pad:] - expected).abs().max() < TOLERANCE


@pytest.mark.parametrize("case", ["dpe_top_k", "jet_long", "dca", "gali"])
def test_requests_that_come_and_go(loaded, case):
    """Five prompts, at most three at a time: each gets the tokens that transformers generates for it alone."""
    both = loaded("llama", case)
    prompts = [tiny.tokens(length, seed=length)[0].tolist() for length in (90, 9, 70, 61, 33)]
    batch = generate_module.BatchGenerator(both.mlx, completion_batch_size=3, prefill_batch_size=3)
    uids = batch.insert(prompts, max_tokens=[6] * len(prompts))
    found = {uid: [] for uid in uids}
    while len(finished := [uid for uid in uids if len(found[uid]) == 6]) < len(uids):
        responses = batch.next_generated()
        assert responses, finished
        for response in responses:
            found[response.uid].append(int(response.token))
    for uid, prompt in zip(uids, prompts, strict=True):
        kept = both.torch(torch.tensor([prompt[:-1]])).past_key_values  # as mlx-lm does: the last token by itself
        expected = tiny.generate(both.torch, torch.tensor([prompt]), past_key_values=kept)[0].tolist()
        assert found[uid] == expected


def test_a_cache_is_cut_and_used_again(loaded):
    both, ids = loaded("llama", "self_extend"), mx.array(IDS.numpy())
    caches = cache_module.make_prompt_cache(both.mlx)
    expected = mlx_folder.log_probabilities(both.mlx(ids, cache=caches))[0]
    assert cache_module.trim_prompt_cache(caches, 40) == 40
    found = mlx_folder.log_probabilities(both.mlx(ids[:, -40:], cache=caches))[0]
    assert (found - expected[-40:]).abs().max() < TOLERANCE


@pytest.mark.parametrize("case", ["self_extend", "dpe_top_k", "yarn"])
def test_quantised_keys(loaded, case):
    """A cache of 8 bits, as `--kv-bits 8` makes it: near what it is in 32."""
    both, ids = loaded("seed_oss", case), mx.array(IDS.numpy())
    expected = mlx_folder.log_probabilities(both.mlx(ids))[0]
    caches = [cache_module.QuantizedKVCache(group_size=64, bits=8) for _ in both.mlx.layers]
    found = in_pieces(both.mlx, ids, PIECES, caches)[0]
    assert 0 < (found - expected).abs().max() < 0.3


def test_a_cache_that_forgets_is_refused(loaded):
    model = loaded("llama", "dpe").mlx
    caches = [cache_module.RotatingKVCache(max_size=48) for _ in model.layers]
    with pytest.raises(ValueError, match="serve without max_kv_size"):
        model(mx.array(IDS.numpy()), cache=caches)


def test_trust_is_asked_for(loaded):
    with pytest.raises(ValueError, match="trust_remote_code"):
        load_model(loaded("llama", "dpe").folder)


def test_names_that_mlx_lm_changes(loaded, monkeypatch):
    from mlx_lm.models import llama

    class Attention(llama.Attention):
        def __call__(self, x, mask=None, cache=None):
            return x

    folder = loaded("llama", "dpe").folder
    monkeypatch.setattr(llama, "Attention", Attention)
    with pytest.raises(ValueError, match=r"mlx-lm \S+ computes attention in another way"):
        load_model(folder, trust_remote_code=True)


def test_a_base_that_mlx_lm_turns_otherwise(loaded, monkeypatch):
    from mlx_lm.models import llama

    folder, rope = loaded("llama", "dpe").folder, llama.initialize_rope
    monkeypatch.setattr(llama, "initialize_rope", lambda dims, base, *rest: rope(dims, 2 * base, *rest))
    with pytest.raises(ValueError, match="turns layer 0 of the base otherwise"):
        load_model(folder, trust_remote_code=True)


def test_code_and_configuration_of_two_checkpoints(loaded, tmp_path):
    other = loaded("llama", "self_extend").config
    folder = tmp_path / "mixed"
    folder.mkdir()
    for file in loaded("llama", "dpe").folder.iterdir():
        (folder / file.name).symlink_to(file)
    (folder / "config.json").unlink()
    (folder / "config.json").write_text(json.dumps(other))
    with pytest.raises(ValueError, match=r"mlx_rope_ext\.py of"):
        load_model(folder, trust_remote_code=True)


NOT_SERVED = sorted(set(supported()) - set(mlx_code.FAMILIES))


@pytest.mark.parametrize("trust", [False, True])
@pytest.mark.parametrize("family", ["gemma", "gemma2", "gpt_neox"])  # the class of Gemma reads no other guard
def test_a_family_that_mlx_cannot_run(family, trust, tmp_path):
    folder = tmp_path / f"{family}-self_extend"
    mlx_folder.write(family, "self_extend", folder)
    with pytest.raises((ValueError, FileNotFoundError), match="this checkpoint is not for MLX"):
        load_model(folder, trust_remote_code=trust)


def test_folders_that_mlx_cannot_run_have_no_file():
    assert {"gemma2", "gpt_oss", "deepseek_v3"} <= set(NOT_SERVED)
    for family in NOT_SERVED:
        assert not mlx_code.files(family, "dpe")
    for method in METHODS:
        assert mlx_code.NAME in model_code.code("llama", method)


def test_without_the_file_the_guards_are_loud(loaded, tmp_path):
    source = loaded("llama", "dpe")
    folder = tmp_path / "bare"
    folder.mkdir()
    (folder / "model.safetensors").symlink_to(source.folder / "model.safetensors")
    config = {key: value for key, value in source.config.items() if key != "model_file"}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="load this checkpoint with trust_remote_code=True"):
        load_model(folder)


ALLOWED = {"base64", "copy", "inspect", "itertools", "math", "mlx", "mlx_lm", "types"}
FORBIDDEN = {"eval", "exec", "compile", "open", "input", "__import__", "globals", "breakpoint", "getattr"}


@pytest.mark.parametrize("method", METHODS)
def test_what_the_file_may_do(method):
    """It imports the standard library's harmless part and mlx-lm, at its top, and reaches no files."""
    tree = ast.parse(model_code.code("qwen3", method)[mlx_code.NAME])
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            assert node in tree.body
            names = [node.module] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
            assert {name.split(".")[0] for name in names} <= ALLOWED
        if isinstance(node, ast.Name):
            assert node.id not in FORBIDDEN - {"getattr"}
        if isinstance(node, ast.Attribute):
            assert node.attr not in ("load", "save", "save_safetensors", "import_function", "metal_kernel")


def test_the_tokenizer_needs_no_torch(tiny_llama, tiny_preset, tmp_path, module_cache):
    """mlx-lm loads the tokenizer with trust: the configuration class alone may be imported for it."""
    convert_checkpoint(load_preset(str(tiny_preset)), str(tiny_llama), tmp_path / "converted")
    program = (
        "import sys; sys.modules['torch'] = None\n"
        "from transformers import AutoConfig\n"
        f"config = AutoConfig.from_pretrained({str(tmp_path / 'converted')!r}, trust_remote_code=True)\n"
        "print(type(config).__name__, any('modeling_llama' in name for name in sys.modules))\n"
    )
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", program], capture_output=True, text=True)
    assert done.stdout.split() == ["LlamaRopeExtConfig", "False"], done.stderr
