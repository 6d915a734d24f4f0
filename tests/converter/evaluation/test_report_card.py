"""Results in the card of a converted model."""

import hashlib
import json
import math
import re

import pytest
from huggingface_hub import ModelCard

from tests.helpers.measured import ORIGIN, perplexity, write


@pytest.fixture
def converted(run, tiny_llama, tiny_preset, tmp_path):
    card = "---\nlicense: mit\n---\n# Tiny\n\n## Limits\n\n<!-- ropext report: begin -->\nthe base's own\n"
    (tiny_llama / "README.md").write_text(card)
    run("convert", tiny_llama, "--preset", tiny_preset, "-o", "out")
    return tmp_path / "out"


SECTION = re.compile(
    r"## Results\n\n<!-- ropext report: begin -->\n\n.*<!-- ropext report: end -->\n\n", flags=re.DOTALL
)
INDEX = re.compile(r"model-index:\n(?:[- ].*\n)+?(?=---)")
OF_OTHERS = (
    "model-index:\n- name: tiny-dpe\n  results:\n  - task: {type: text-generation}\n"
    "    dataset: {name: A, type: a}\n    metrics: [{type: b, value: 1}]\n"
)


def test_card(run, converted, results, matplotlib):
    before = (converted / "README.md").read_text()
    run("report", results, "--card", converted, "--picture", "heatmap")
    once = (converted / "README.md").read_text()
    # Take the section and the metadata away: the rest is as it was.
    assert INDEX.sub("", SECTION.sub("", once)) == before.replace("Nothing was measured on this checkpoint. ", "")
    assert once.index("\n# ") < once.index("## Results") < once.index("## Use")
    assert f"\n    {ORIGIN['command']}\n" in once
    assert "](results.png)" in once
    assert "tiny-yarn" not in once
    data = ModelCard(once).data
    found = {
        (each.dataset_type, each.dataset_config): (each.metric_type, each.metric_value) for each in data.eval_results
    }
    assert found["ropext-niah", "2 needles, 16384"] == ("exact_match", 87.5)
    assert found["ropext-ppl", "4096"] == ("perplexity", 12.244)
    assert found["ropext-ruler", "16384"] == ("ruler", 50.0)
    assert data.license == "mit"
    files = json.loads((converted / "ropext.json").read_text())["files"]
    for name in ("README.md", "results.png"):
        assert files[name]["sha256"] == hashlib.sha256((converted / name).read_bytes()).hexdigest()
    # Again: the same.
    run("report", results, "--card", converted, "--picture", "heatmap")
    assert (converted / "README.md").read_text() == once


def test_a_card_with_other_results(run, converted, results, matplotlib):
    run("report", results, "--card", converted, "--picture", "heatmap")
    once = (converted / "README.md").read_text()
    # The section alone is another, and others' results stay.
    (converted / "README.md").write_text(INDEX.sub(OF_OTHERS + "# mine\nkey: value\n", once))
    run("report", results / "tiny" / "ppl.jsonl", "--card", converted)
    other = (converted / "README.md").read_text()
    kinds = [each.dataset_type for each in ModelCard(other).data.eval_results]
    assert (kinds[0], set(kinds[1:])) == ("a", {"ropext-ppl"})
    assert "# mine\nkey: value\n---\n" in other
    assert "Needles" not in other
    assert other.count("## Results") == 1
    # It survives the card's being written anew.
    run("card", converted)
    again = (converted / "README.md").read_text()
    assert again.count("<!-- ropext report: begin -->") == 2  # one of them the base's
    assert (
        again[again.index("## Results") : again.index("## Use")]
        == other[other.index("## Results") : other.index("## Use")]
    )
    assert list(converted.glob(".*")) == []


def test_results_in_a_card_are_not_lost(run, converted, results, matplotlib, tiny_llama, tiny_preset):
    run("report", results, "--card", converted)
    card = (converted / "README.md").read_text()
    again = ("convert", tiny_llama, "--preset", tiny_preset, "-o", "out", "--force")
    for more in ([], ["--dry-run"]):
        assert "--force would drop the sections 'Results'" in run(*again, *more, status=2).stderr
    run("upgrade", converted)  # as `ropext demo` does it
    assert (converted / "README.md").read_text() == card
    assert (converted / "results.png").is_file()


def test_cards_that_somebody_wrote(run, converted, results, matplotlib):
    card, wish = converted / "README.md", ("report", results / "tiny" / "ppl.jsonl", "--card", converted)
    card.write_bytes(b"# Mine\r\n\r\ntext")
    run(*wish)
    text = card.read_bytes()
    assert text.startswith(b"---\r\nmodel-index:\r\n")
    assert b"---\r\n\r\n# Mine\r\n\r\ntext\r\n\r\n## Results\r\n" in text
    assert b"\n" not in text.replace(b"\r\n", b"")
    run(*wish)
    assert card.read_bytes() == text
    for broken, message in (
        ("---\nlicense: [mit\n---\n# Mine\n", "not valid YAML"),
        ("---\n{license: mit}\n---\n# Mine\n", "one key on each line"),
        ("# Mine\n<!-- ropext report: begin -->\n", "once each"),
    ):
        card.write_text(broken)
        assert message in run(*wish, status=1).stderr
        assert card.read_text() == broken


def test_cards_of_others(run, converted, results, tiny_llama):
    assert "is no folder that ropext converted" in run("report", results, "--card", tiny_llama, status=2).stderr
    write(results.parent / "other.jsonl", "ppl", [perplexity("tiny-yarn", 4096, 0, 1.0)])
    message = run("report", results.parent / "other.jsonl", "--card", converted, status=2).stderr
    assert "its preset tiny-dpe was not measured; there are tiny, tiny-yarn" in message


def test_a_converted_model_that_was_measured_itself(run, converted, tmp_path, matplotlib):
    write(tmp_path / "r" / "ppl.jsonl", "ppl", [perplexity(None, 4096, 0, 2000.0)], source="out")
    run("report", tmp_path / "r", "--card", converted)
    (found,) = ModelCard((converted / "README.md").read_text()).data.eval_results
    assert found.metric_value == pytest.approx(math.exp(2), abs=1e-3)
