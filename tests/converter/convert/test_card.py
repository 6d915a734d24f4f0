"""The card of a converted checkpoint, read by a stranger."""

import re

import pytest
import yaml

from ropext.converter import model_code
from ropext.converter.checkpoint.description import base_inv_freq
from ropext.converter.checkpoint.read import read_checkpoint
from ropext.converter.convert.card import Kept, kept_of_card, make_card, published, with_repository
from ropext.converter.convert.plan import make_plan
from ropext.converter.errors import RopextError
from ropext.converter.files.model_card import split
from ropext.converter.hub.types import LocalSource
from ropext.converter.methods.base import Baked
from ropext.converter.methods.dpe import METHOD
from ropext.converter.methods.registry import bake
from ropext.converter.presets.load import load_preset


@pytest.fixture
def plan(tiny_llama, tiny_preset):
    """Return a function that plans the conversion of `tiny_llama`."""

    def make(*overrides, local=None, native=False):
        preset = load_preset(str(tiny_preset), overrides)
        checkpoint = read_checkpoint(tiny_llama)
        baked = bake(preset, checkpoint.facts, base_inv_freq(checkpoint.config))
        return make_plan(preset, checkpoint, baked, local, native=native)

    return make


def card(plan):
    return next(file.content for file in plan.files if file.path == "README.md").decode()


def test_card(plan, tiny_llama, tiny_preset):
    (tiny_llama / "README.md").write_text(
        "---\nlicense: llama3\nlanguage: [en, de]\ntags: [old]\n---\n# Tiny\n\nIts own words.\n"
    )
    local = LocalSource(tiny_llama, "org/tiny", "c" * 40)
    metadata, text = split(card(plan("target_window=128", local=local)))
    assert metadata == {
        "license": "llama3",
        "language": ["en", "de"],
        "base_model": "org/tiny",
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
        "tags": ["ropext", "long-context", "rope", "dpe", "custom_code", "old"],
    }
    assert f"ropext convert org/tiny --preset preset.yaml --revision {'c' * 40}\n" in text
    assert "from 64 to 128 tokens by **dpe**" in text
    assert "trust_remote_code=True" in text
    assert text.rstrip().endswith("# The base model's card\n\n# Tiny\n\nIts own words.")


def test_card_of_a_local_base_claims_no_repository(plan):
    metadata, text = split(card(plan()))
    assert "base_model" not in metadata
    assert "The model `tiny-llama`" in text


def test_preset_cannot_break_out_of_its_block(plan, tiny_preset):
    tiny_preset.write_text(tiny_preset.read_text() + "# ```\n")
    assert "\n````yaml\n" in card(plan())


@pytest.mark.parametrize("text", ["no front matter", "---\nopen", "---\n: [\n---\nx", "---\n- list\n---\nx"])
def test_odd_front_matter_is_ignored(plan, tiny_llama, text):
    (tiny_llama / "README.md").write_text(text)
    metadata, _ = split(card(plan()))
    assert set(metadata) == {"library_name", "pipeline_tag", "tags"}
    assert yaml.safe_dump(metadata)


def test_base_card_that_is_no_text(plan, tiny_llama):
    (tiny_llama / "README.md").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(RopextError, match=r"README.md: not UTF-8"):
        plan()


def test_it_says_how_to_read_a_long_text(plan):
    text = card(plan())
    (code,) = re.findall("```python\n(.*?)```", text, re.DOTALL)
    compile(code, "card", "exec")
    assert "model.generate(**inputs" in code
    assert "up to 256 tokens with the answer" in code
    assert text.index("## Use") < text.index("## Method")


def test_the_method_is_explained_with_its_paper(plan):
    _, _, found = card(plan()).partition("\n## Method\n\n")
    about, trained, rest = found.split("\n", 2)
    assert about == METHOD.about
    assert "(https://arxiv.org/abs/2504.18857)" in about
    assert trained == "Nothing was trained."
    assert rest.startswith("\n| | |\n")


def test_papers_among_the_references_are_linked(plan):
    assert "| references | [arXiv 2504.18857](https://arxiv.org/abs/2504.18857) |" in card(plan())


def test_lengths_agree_after_set(plan):
    text = card(plan("target_window=128"))
    assert "256" not in text
    (shown,) = re.findall("```yaml\n(.*?)```", text, re.DOTALL)
    assert yaml.safe_load(shown)["target_window"] == 128
    assert "--set" not in text


def test_the_preset_that_is_shown_is_valid(plan, tmp_path):
    (shown,) = re.findall("```yaml\n(.*?)```", card(plan("target_window=128")), re.DOTALL)
    (tmp_path / "again.yaml").write_text(shown)
    again = load_preset(str(tmp_path / "again.yaml"))
    assert (again.target_window, again.method) == (128, "dpe")


def test_no_link_to_a_schema_that_is_not_there(plan, tiny_preset):
    tiny_preset.write_text("# yaml-language-server: $schema=../schemas/preset.schema.json\n" + tiny_preset.read_text())
    text = card(plan())
    assert "schemas/" not in text
    assert "name: tiny-dpe" in text


def test_the_title_names_the_base_and_the_length(plan, tiny_llama):
    assert "\n# tiny-llama, 256 tokens by dpe\n" in card(plan())
    assert "\n# tiny, 256 tokens by dpe\n" in card(plan(local=LocalSource(tiny_llama, "org/tiny", "c" * 40)))


def test_code_has_its_terms_beside_it(plan):
    files = {file.path: file.content for file in plan().files}
    assert b"Apache License" in files["LICENSE.ropext"]
    assert files["LICENSE.ropext"] == model_code.license_text()
    assert "Apache License 2.0, which is in `LICENSE.ropext`" in card(plan())


@pytest.mark.parametrize("native", [False, True])
@pytest.mark.parametrize("name", ["LICENSE.ropext", "license.ROPEXT"])
def test_a_base_that_has_a_file_of_that_name(name, native, run, tiny_llama, tmp_path):
    (tiny_llama / name).write_text("terms of somebody else")
    (tiny_llama / "LICENSE").write_text("terms of the base")
    options = ["--native"] if native else []
    found = run("convert", tiny_llama, "--method", "yarn", "--target", 256, "--output", "out", *options)
    assert f"{name} of the base left out: this name is that of the terms of ropext's code" in found.stdout
    terms = {file.name: file.read_bytes() for file in (tmp_path / "out").glob("[Ll]*")}
    ours = {} if native else {"LICENSE.ropext": model_code.license_text()}
    assert terms == {"LICENSE": b"terms of the base", **ours}
    run("verify", "out", "--quick", status=3)


def test_what_verify_does_and_how_to_get_it(plan):
    text = card(plan())
    assert "    ropext verify tiny-dpe\n" in text
    assert "    ropext verify me/x\n" in with_repository(text, "me/x")


def test_a_repository_is_found_again(plan):
    text = card(plan())
    assert published(text).repo_id is None
    assert published(with_repository(text, "me/x")).repo_id == "me/x"


@pytest.mark.parametrize("fence", ["~~~", "```", "~~~~~"])
def test_what_follows_a_heading_in_a_block_of_code_is_kept(plan, fence):
    mine = f"## Mine\n\n{fence}\n## Use\n{fence}\n\nThe end.\n"
    kept = kept_of_card(card(plan()).replace("## Limits", f"{mine}\n## Limits"))
    assert [section.text.strip() for section in kept.sections] == [mine.strip()]


def test_a_block_of_code_does_not_begin_the_card_of_the_base(plan):
    mine = "## Mine\n\n~~~\n# The base model's card\n~~~\n\nThe end.\n"
    kept = kept_of_card(card(plan()).replace("## Limits", f"{mine}\n## Limits"))
    assert kept.sections[0].text.endswith("The end.\n\n")
    assert kept.base_text == ""


@pytest.mark.parametrize("overrides", [(), ("target_window=32768",)])
def test_a_shipped_preset_is_named(tiny_llama, overrides):
    preset = load_preset("smollm2-135m-linear", overrides)
    facts = read_checkpoint(tiny_llama).facts
    local = LocalSource(tiny_llama, "org/tiny", "c" * 40)
    text = make_card(facts, Kept({}, ""), preset, Baked({}, [1.0], {}, ()), local)
    (command,) = re.findall("^    (ropext convert .*)$", text, re.MULTILINE)
    assert "--preset smollm2-135m-linear " in f"{command} "
    assert ("--set target_window=32768" in command) == bool(overrides)
    (shown,) = re.findall("```yaml\n(.*?)```", text, re.DOTALL)
    assert yaml.safe_load(shown)["target_window"] == preset.target_window
    assert f"{preset.target_window:,} tokens" in text
