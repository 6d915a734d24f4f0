"""mlx-lm's own programs on an emitted folder, in processes that have no torch."""

import json
import os
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from urllib.error import URLError
from urllib.request import Request, urlopen

import pytest
import torch

from tests.helpers import mlx_folder, tiny

pytest.importorskip("mlx_lm")
pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("no_grad"), pytest.mark.filterwarnings("ignore")]
LENGTHS = (90, 9, 70, 61, 33)
WORDS = ["<pad>", "<bos>", "<eos>", *(f"t{i}" for i in range(3, 128))]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """SelfExtend on Seed-OSS with heads of 64, and a tokenizer of the words t3 to t127."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("programs") / "seed_oss-self_extend"
    mlx_folder.write("seed_oss", "self_extend", folder)
    words = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="<pad>"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    PreTrainedTokenizerFast(tokenizer_object=words, eos_token="<eos>").save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """The environment of a process that cannot import torch."""
    place = tmp_path_factory.mktemp("alone")
    (place / "sitecustomize.py").write_text("import sys; sys.modules['torch'] = None\n")
    path = os.pathsep.join([str(place), *filter(None, [os.environ.get("PYTHONPATH")])])
    return {**os.environ, "PYTHONPATH": path, "HF_HUB_OFFLINE": "1", "HF_HOME": str(place)}


def prompts():
    return [tiny.tokens(length, seed=length) for length in LENGTHS]


def expected(folder):
    """What transformers generates for each prompt, the last token of it by itself, as mlx-lm does it."""
    config = json.loads((folder / "config.json").read_text())
    model = mlx_folder.reference("seed_oss", config)
    for ids in prompts():
        kept = model(ids[:, :-1]).past_key_values
        yield " ".join(WORDS[i] for i in tiny.generate(model, ids, past_key_values=kept)[0].tolist())


def run(program, *arguments, env):
    done = subprocess.run(
        [sys.executable, "-m", "mlx_lm", program, *map(str, arguments)], env=env, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_copy_in_4_bits_keeps_the_method(folder, alone, tmp_path):
    made = tmp_path / "4bit"
    run("convert", "--hf-path", folder, "--mlx-path", made, "-q", "--trust-remote-code", env=alone)
    config = json.loads((made / "config.json").read_text())
    assert config["model_file"] == "mlx_rope_ext.py"
    assert config["rope_ext"] == json.loads((folder / "config.json").read_text())["rope_ext"]
    assert (made / "mlx_rope_ext.py").read_bytes() == (folder / "mlx_rope_ext.py").read_bytes()
    text = " ".join(WORDS[i] for i in prompts()[0][0].tolist())
    how = ("--model", made, "--trust-remote-code", "--prompt", text, "--max-tokens", 4, "--kv-bits", 8)
    assert "t" in run("generate", *how, "--ignore-chat-template", "--verbose", "False", env=alone)


def post(port, ids):
    text = " ".join(WORDS[i] for i in ids[0].tolist())
    body = json.dumps({"prompt": text, "max_tokens": 6, "temperature": 0.0}).encode()
    request = Request(f"http://127.0.0.1:{port}/v1/completions", body, {"Content-Type": "application/json"})
    with urlopen(request, timeout=120) as answer:
        return json.load(answer)["choices"][0]["text"].strip()


def wait(port, process):
    for _ in range(300):
        assert process.poll() is None, process.stderr.read()
        try:
            urlopen(f"http://127.0.0.1:{port}/v1/models", timeout=2).close()
        except (URLError, OSError):
            time.sleep(0.2)
        else:
            return
    pytest.fail("the server does not answer")


def test_the_server_with_five_requests_at_once(folder, alone):
    """Each gets what transformers generates for it alone; asked again, with its prompt from the cache."""
    torch.set_num_threads(1)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "mlx_lm", "server", "--model", str(folder), "--trust-remote-code"]
    server = subprocess.Popen([*command, "--port", str(port)], env=alone, stderr=subprocess.PIPE, text=True)
    try:
        wait(port, server)
        with ThreadPoolExecutor(len(LENGTHS)) as pool:
            found = list(pool.map(lambda ids: post(port, ids), prompts()))
            again = list(pool.map(lambda ids: post(port, ids), prompts()))
    finally:
        server.kill()
        server.communicate()
    assert found == list(expected(folder))
    assert again == found
