"""The lengths at which a model is measured when none are named."""

import json

import pytest

from ropext.converter.evaluation.run.lengths import trained_tokens, usual_lengths
from tests.helpers.asked import with_tokenizer
from tests.helpers.checkpoints import edit_config


def config(folder, **changes):
    edit_config(folder, **changes)
    return json.loads((folder / "config.json").read_text())


@pytest.mark.parametrize(
    ("changes", "lengths"),
    [
        ({}, (64, 96, 128)),
        ({"model_type": "qwen3", "architectures": ["Qwen3ForCausalLM"], "max_position_embeddings": 40960}, 32768),
        ({"model_type": "mistral", "architectures": ["MistralForCausalLM"], "sliding_window": 32}, (32, 48, 64)),
        ({"rope_scaling": {"type": "linear", "factor": 4.0}}, (256, 384, 512)),
    ],
)
def test_a_base_is_measured_by_the_length_that_it_was_trained_to(changes, lengths, tiny_llama):
    found = usual_lengths(config(tiny_llama, **changes))
    assert found == (lengths if isinstance(lengths, tuple) else (lengths, lengths * 3 // 2, 2 * lengths))


@pytest.mark.parametrize(
    ("found", "lengths"),
    [
        ({"model_type": "falcon_mamba"}, ()),
        ({"model_type": "unheard-of", "max_position_embeddings": 100}, (100, 150, 200)),
        ({"model_type": "unheard-of", "text_config": {"max_position_embeddings": 100}}, (100, 150, 200)),
        ({"model_type": "unheard-of", "max_position_embeddings": "many"}, ()),
    ],
)
def test_a_model_that_cannot_be_converted_is_measured_by_what_it_says(found, lengths):
    assert usual_lengths(found) == lengths


@pytest.mark.parametrize(
    ("method", "options", "lengths"),
    [
        ("self_extend", ("--target", 96), (64, 96)),
        ("self_extend", ("--target", 1024), (64, 96, 128, 1024)),
        ("yarn", ("--target", 256, "--native"), (64, 96, 128, 256)),
        ("yarn", ("--target", 256, "--initial-window", 32), (32, 48, 64, 256)),
    ],
)
def test_a_converted_folder_is_measured_by_its_windows(method, options, lengths, run, tiny_llama, tmp_path):
    run("convert", tiny_llama, "--method", method, *options, "--output", "out")
    found = json.loads((tmp_path / "out" / "config.json").read_text())
    assert usual_lengths(found) == lengths
    assert trained_tokens(found) == lengths[0]


def test_they_are_what_is_measured(run, tiny_llama, tmp_path):
    with_tokenizer(tiny_llama)
    run("convert", tiny_llama, "--method", "linear", "--target", 256, "--output", "out")
    run("eval", "ppl", tiny_llama, "out", "--samples", 1, "--no-short")
    lines = [(tmp_path / "results" / name / "ppl.jsonl").read_text().splitlines() for name in (tiny_llama.name, "out")]
    (base, *first), (converted, *second) = [list(map(json.loads, each)) for each in lines]
    assert base["settings"]["trained_length"] == converted["settings"]["trained_length"] == 64
    assert [each["value"]["length"] for each in first] == [64, 96, 128]
    assert [each["value"]["length"] for each in second] == [64, 96, 128, 256]
