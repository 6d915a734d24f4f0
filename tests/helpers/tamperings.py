"""What is done to a converted folder, by name: tamperings that are bad, some that are not known, honest changes."""

import os
import shutil
from pathlib import Path

from ropext.converter.convert.api import convert_checkpoint
from ropext.converter.presets.load import load_preset
from tests.helpers import tiny
from tests.helpers.loaded_files import write_tokenizer
from tests.helpers.tampered import (
    EVIL,
    PICKLES,
    added,
    appended,
    block,
    config,
    edited,
    flipped,
    linked,
    linked_folder,
    of_version,
    other_weights,
    recorded,
    removed,
)

FILES = (
    *("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "LICENSE", "ropext.json"),
    *("model.safetensors", "configuration_llama_ext.py", "modeling_llama_ext.py", "rope_ext_dpe.py"),
)
CODE = [name for name in FILES if name.endswith(".py")]


def untouched(place):
    """A folder with a tokenizer, converted by `tiny-dpe.yaml` beside it, all of it its own."""
    from tests.modeling.test_loading import write_preset

    base = Path(shutil.copytree(tiny.TINY_LLAMA, place / "tiny-llama"))
    write_tokenizer(base)
    (base / "LICENSE").write_text("Free.\n")
    return convert_checkpoint(load_preset(str(write_preset(place, "dpe"))), None, place / "out", link="copy").output


def _without_digest(path):
    return recorded(lambda record: record["files"][path].update(sha256=None))


def _listing(path):
    return recorded(lambda record: record["files"].update({path: {"sha256": "0" * 64, "bytes": 1}}))


def _overriding(*overrides):
    return recorded(lambda record: record["preset"].update(overrides=list(overrides)))


BAD = {
    **{f"{path}: a byte more": appended(path, digest=False) for path in FILES if path != "ropext.json"},
    **{f"{path}: gone": removed(path) for path in FILES if path != "ropext.json"},
    **{f"{path}: a link to the same": linked(path) for path in FILES},
    **{f"{path}: code more, digested": appended(path, digest=True) for path in CODE},
    "a weight flipped": flipped("model.safetensors", -1),
    "custom_pipelines": config(custom_pipelines={"text-generation": {"impl": "evil/repo--mod.P"}}),
    "transformers_weights": config(transformers_weights="other.safetensors"),
    "other weights behind an index": other_weights,
    "experts_implementation": config(experts_implementation="evil/kernel"),
    "fusion_config": config(fusion_config={"patch_embeddings": True}),
    "a key of tomorrow": config(loads_from="evil/repo"),
    "a private key": config(_commit_hash="x"),
    "a kernel of the Hub": config(attn_implementation="evil/kernel"),
    "another configuration": config(configuration_files=["config.4.0.0.json"]),
    "auto_map of elsewhere": config(auto_map={"AutoModelForCausalLM": "evil/repo--mod.P"}),
    "auto_map that is text": config(auto_map="evil/repo--mod.P"),
    "auto_map of a file that is added": edited("config.json", lambda c: c["auto_map"].update(AutoModel="evil.Model")),
    "chunks for vLLM": config(dual_chunk_attention_config={"chunk_size": 8}),
    "code for mlx-lm": config(model_file=".evil.py"),
    "a frequency": block(lambda b: b["inv_freq"].__setitem__(3, b["inv_freq"][3] / 2)),
    "a parameter": block(lambda b: b["parameters"].update(local_window=17)),
    "the base's frequencies": block(lambda b: b["pairs"]["inv_freq"].__setitem__(3, 1e-3)),
    "the layers": block(lambda b: b["pairs"].update(layers=[0, 1])),
    "the base's theta": block(lambda b: b["base"].update(rope_theta=5e5)),
    "the base's length": block(lambda b: b["base"].update(max_position_embeddings=4096)),
    "the windows": block(lambda b: b.update(target_window=512)),
    "the method": block(lambda b: b.update(method="gali")),
    "a later format": block(lambda b: b.update(format=3)),
    "an earlier format": block(lambda b: b.update(format=1)),
    "the length": config(max_position_embeddings=1 << 20),
    "a guard taken off": config(hidden_act="silu"),
    "a narrower model": config(intermediate_size=97),
    "more layers": config(num_hidden_layers=4),
    "so many layers that no model can be built": config(num_hidden_layers=60_000),
    "fewer layers": config(num_hidden_layers=2),
    "a tokenizer's code": edited(
        "tokenizer_config.json", lambda t: t.update(auto_map={"AutoTokenizer": ["x.Y", None]})
    ),
    "a tokenizer's file": edited("tokenizer_config.json", lambda t: t.update(tokenizer_file="/etc/passwd")),
    "a tokenizer's vocabulary": edited("tokenizer_config.json", lambda t: t.update(vocab_file="../x.model")),
    "custom_generate": edited("generation_config.json", lambda g: g.update(custom_generate="evil/repo")),
    "generation that trusts": edited("generation_config.json", lambda g: g.update(trust_remote_code=True)),
    "generation that no transformers takes": edited("generation_config.json", lambda g: g.update(max_new_tokens=-3)),
    "a processor": added("processor_config.json", b'{"auto_map": {"AutoProcessor": "x.Y"}}'),
    "a processor in the record": added("processor_config.json", b'{"auto_map": {}}', in_record=True),
    "code that generates": added("custom_generate/generate.py", EVIL.encode()),
    "code that generates, in the record": added("custom_generate/generate.py", EVIL.encode(), in_record=True),
    "a module more": added("evil.py", EVIL.encode()),
    "a module more, in the record": added("evil.py", EVIL.encode(), in_record=True),
    "an adapter": added("adapter_config.json"),
    "an adapter in the record": added("adapter_config.json", in_record=True),
    "weights more": added("model-00002-of-00002.safetensors", b"x"),
    "weights more, in the record": added("other.safetensors", b"x", in_record=True),
    "pickled weights": added("pytorch_model.bin", PICKLES["4"]),
    "an index more": added("model.safetensors.index.json", b'{"weight_map": {}}'),
    "a chat template": added("chat_template.jinja", b"x"),
    "a chat template among others": added("additional_chat_templates/x.jinja", b"x"),
    "a folder that is a link": linked_folder,
    **{f"a pickle of protocol {name}": added("vocab.model", data, in_record=True) for name, data in PICKLES.items()},
    "a large pickle": added("vocab.model", PICKLES["4"] + bytes(2 << 20), in_record=True),
    "settings without a digest": _without_digest("config.json"),
    "code without a digest": _without_digest("rope_ext_dpe.py"),
    "a path of the system": _listing("/etc/passwd"),
    "a path outside": _listing("../../x"),
    "a path of the other kind": _listing("..\\x"),
    "scores of the system": _overriding("dimension_scores=/etc/passwd", "top_k=3"),
    "scores that are nowhere": _overriding("dimension_scores=/nonexistent/x", "top_k=3"),
    "scores within parameters": _overriding("parameters={dimension_scores: /etc/passwd, top_k: 3}"),
    "a version that is none": of_version("0.0.9; x", "rope_ext_dpe.py"),
    "a record of another preset": recorded(lambda record: record["preset"].update(name="other")),
    "a record of another method": recorded(lambda record: record.update(method="gali")),
    "a record of a later format": recorded(lambda record: record.update(format=2)),
    "a record that says native": recorded(lambda record: record.update(native=True)),
}

UNKNOWN = {
    "an older version, with code planted": of_version("0.0.9", "rope_ext_dpe.py"),
    "a newer version, with code planted": of_version("9.9.9", "modeling_llama_ext.py"),
    "a development version, with code planted": of_version("0.2.0rc1", "configuration_llama_ext.py"),
    "a quantizer that nobody knows": config(quantization_config={"quant_method": "evil"}),
    "weights without a digest": _without_digest("model.safetensors"),
}


def _add(name, content=b"x"):
    return added(name, content)


CARD = "# Mine\n\n## Results\n\n| length | score |\n|---|---:|\n| 4,096 | 0.5 |\n"


def _files(folder):
    return [file for file in folder.iterdir() if file.is_file()]


def _linked_twice(folder):
    for file in _files(folder):
        os.link(file, folder.parent / f"second-{file.name}")


HONEST = {
    "nothing": lambda folder: None,
    "an edited card": lambda folder: (folder / "README.md").write_text("Mine.\n"),
    "results": _add("results.jsonl"),
    "results as JSON": _add("results/ruler.json", b"{}"),
    "notes": _add("notes.txt"),
    "a picture": _add("ropext-results.png"),
    "a repository around it": _add(".git/HEAD"),
    "attributes of git": _add(".gitattributes"),
    "a cache of the client": _add(".cache/huggingface/x.metadata"),
    "a paper": _add("papers/x.pdf"),
    "an older version with the same code": of_version("0.0.9"),
    "a newer version with the same code": of_version("1.10.2"),
    "only readable": lambda folder: [file.chmod(0o444) for file in _files(folder)],
    "older times": lambda folder: [os.utime(file, (1, 1)) for file in folder.iterdir()],
    "results in the card": lambda folder: (folder / "README.md").write_text(CARD),
    "a card of the other line ends": lambda folder: (folder / "README.md").write_bytes(
        CARD.replace("\n", "\r\n").encode()
    ),
    "a table and a page": _add("tables/ruler.csv", b"a,b\n"),
    "a GGUF file": _add("model-q4.gguf", b"GGUF"),
    "a file of the system": _add(".DS_Store"),
    "executable, as on some file systems": lambda folder: [file.chmod(0o755) for file in _files(folder)],
    "hard links": _linked_twice,
}

LOCAL = {name for name in BAD if "link" in name}
"""Tamperings that a repository cannot hold: a link's target is uploaded."""
OF_FILES = {"only readable", "older times", "executable, as on some file systems", "hard links"}
"""Honest changes that a repository does not keep."""
