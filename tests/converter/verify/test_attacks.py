"""What a stranger can do to a converted folder, and what `verify` says of it: never that it is good."""

import os
import shutil
import sys
from pathlib import Path

import pytest

from ropext.converter.convert.api import convert_checkpoint
from ropext.converter.converted.upgrade import upgrade
from ropext.converter.errors import RopextError
from ropext.converter.presets.load import load_preset
from ropext.converter.verify.checks import verify
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
    redigest,
    removed,
)
from tests.modeling.test_loading import write_preset

OPENED = []
"""Paths that were opened while a test asks for them."""


def _record_opens(event, arguments):
    if OPENED and event == "open":
        OPENED.append(str(arguments[0]))


sys.addaudithook(_record_opens)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with a tokenizer, converted; not to be changed."""
    place = tmp_path_factory.mktemp("made")
    base = Path(shutil.copytree(tiny.TINY_LLAMA, place / "tiny-llama"))
    write_tokenizer(base)
    (base / "LICENSE").write_text("Free.\n")
    return convert_checkpoint(load_preset(str(write_preset(place, "dpe"))), None, place / "out", link="copy").output


@pytest.fixture
def folder(made, tmp_path):
    return Path(shutil.copytree(made, tmp_path / "converted"))


FILES = (
    *("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "LICENSE", "ropext.json"),
    *("model.safetensors", "configuration_llama_ext.py", "modeling_llama_ext.py", "rope_ext_dpe.py"),
)
CODE = [name for name in FILES if name.endswith(".py")]


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
    "weights without a digest": _without_digest("model.safetensors"),
}


def test_there_are_enough_of_them():
    assert len(BAD) + len(UNKNOWN) >= 60


@pytest.mark.parametrize("name", BAD)
def test_a_tampered_folder_is_bad(folder, name):
    BAD[name](folder)
    report = verify(str(folder), quick=name != "a weight flipped" and "model.safetensors" not in name)
    if not report.bad:
        report = verify(str(folder))
    assert report.verdict == "bad", report


@pytest.mark.parametrize("name", UNKNOWN)
def test_what_is_not_known_is_not_good(folder, name):
    UNKNOWN[name](folder)
    assert verify(str(folder)).verdict == "incomplete"


def _add(name, content=b"x"):
    return added(name, content)


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
    "only readable": lambda folder: [file.chmod(0o444) for file in folder.iterdir() if file.is_file()],
    "older times": lambda folder: [os.utime(file, (1, 1)) for file in folder.iterdir()],
}


@pytest.mark.parametrize("name", HONEST)
def test_an_honest_folder_is_good(folder, name):
    HONEST[name](folder)
    report = verify(str(folder))
    assert report.verdict == "good", report


@pytest.mark.parametrize(
    ("link", "digests", "verdict"),
    [
        ("copy", None, "good"),
        ("hardlink", None, "good"),
        ("hardlink", False, "incomplete"),
        ("symlink", None, "incomplete"),
        ("symlink", False, "incomplete"),
        ("auto", True, "good"),
    ],
)
def test_however_the_weights_were_linked(made, tmp_path, link, digests, verdict):
    preset = load_preset(str(made.parent / "tiny-dpe.yaml"))
    folder = convert_checkpoint(preset, None, tmp_path / "out", link=link, digests=digests).output
    report = verify(str(folder))
    assert report.verdict == verdict, report
    assert report.unchecked in ([], ["weights"])


@pytest.mark.parametrize("name", ["scores of the system", "a path of the system", "scores within parameters"])
def test_nothing_outside_is_opened(folder, name):
    BAD[name](folder)
    (folder / "LICENSE").unlink()
    (folder / "LICENSE").symlink_to("/etc/passwd")
    OPENED.append("-")
    try:
        verify(str(folder), quick=True)
        with pytest.raises(RopextError):
            upgrade(folder)
    finally:
        opened = list(OPENED)
        OPENED.clear()
    assert any(path.endswith("ropext.json") for path in opened)
    assert "/etc/passwd" not in opened


@pytest.mark.parametrize("way", ["folder", "record"])
def test_upgrade_deletes_and_writes_nothing_outside(folder, tmp_path, way):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious.py").write_text("precious")
    if way == "folder":
        (folder / "sub").symlink_to(outside)
        redigest(folder, "sub/precious.py")
    else:
        redigest(folder, change=lambda r: r["files"].update({"../outside/precious.py": {"sha256": None, "bytes": 8}}))
    (folder / ".config.json.before-upgrade").symlink_to(outside / "precious.py")
    (folder / "rope_ext_dpe.py").unlink()
    try:
        upgrade(folder)
    except RopextError:
        assert way == "record"
    assert (outside / "precious.py").read_text() == "precious"
