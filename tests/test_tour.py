"""The notebook of the tour: it runs from top to bottom, and was committed as it ran."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.asked import CHARACTERS, with_tokenizer

NOTEBOOK = Path(__file__).parent.parent / "docs" / "tour.ipynb"
CELLS = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
CODE = ["".join(cell["source"]) for cell in CELLS if cell["cell_type"] == "code"]


@pytest.fixture
def environment(tmp_path):
    """Variables by which the tour takes a tiny random model, trained to 512 characters."""
    from transformers import LlamaConfig, LlamaForCausalLM

    sizes = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = LlamaConfig(vocab_size=len(CHARACTERS) + 3, max_position_embeddings=512, **sizes)
    LlamaForCausalLM(config).save_pretrained(tmp_path / "tiny")
    with_tokenizer(tmp_path / "tiny")
    path = os.pathsep.join(map(os.path.abspath, filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))))
    of_tour = {"ROPEXT_TOUR_MODEL": "tiny", "ROPEXT_TOUR_LENGTH": "800", "ROPEXT_TOUR_TARGET": "2k"}
    return {**os.environ, **of_tour, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "hf"), "PYTHONPATH": path}


def test_the_tour_runs_from_top_to_bottom(tmp_path, environment):
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(CODE)], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    for start in ("recommended: ", "base: ", "converted: ", "self_extend: "):
        assert any(line.startswith(start) for line in done.stdout.splitlines()), done.stdout
    assert (tmp_path / "tour-rerope" / "ropext.json").is_file()


def test_the_tour_was_committed_as_it_ran():
    ran = [cell for cell in CELLS if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in ran] == list(range(1, len(ran) + 1))
    outputs = [output for cell in ran for output in cell["outputs"]]
    assert {output["output_type"] for output in outputs} == {"stream"}
    assert "60494" in "".join("".join(output["text"]) for output in outputs if "converted:" in "".join(output["text"]))


def test_the_tour_has_no_paths_of_a_machine():
    assert "/tmp/" not in NOTEBOOK.read_text(encoding="utf-8")
