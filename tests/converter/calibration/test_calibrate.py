"""`ropext calibrate`: what is measured is what it says, and the search settles with few measurements."""

import gc
import json
import math
from statistics import fmean

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file

from ropext.converter.calibration import dpe, grids
from ropext.converter.calibration.contributions import measure_contributions, passages
from ropext.converter.calibration.search import (
    Standing,
    clearly_behind,
    climb,
    first_as_good,
    one_group_at_a_time,
    race,
)
from ropext.converter.checkpoint.facts import read_facts
from ropext.converter.checkpoint.rope import plain_inv_freq
from ropext.converter.cli.app import main
from ropext.converter.evaluation.run.transformers_model import SwitchableModel
from ropext.converter.evaluation.tasks import mixed
from ropext.converter.evaluation.tasks.texts import load_text
from ropext.converter.methods import registry
from ropext.converter.methods.base import Wish
from ropext.converter.methods.registry import SEARCHED
from ropext.converter.presets.load import load_preset, make_preset
from tests.helpers import families, tiny
from tests.helpers.asked import tokenizer, with_tokenizer
from tests.helpers.scores import scores_of


@pytest.fixture
def folder(tiny_llama):
    return with_tokenizer(tiny_llama)


def run(*arguments):
    return CliRunner().invoke(main, ["calibrate", *map(str, arguments)])


# Contributions


@pytest.mark.parametrize("family", ["llama", "qwen3", "phi", "phi3"])
def test_contributions_are_those_of_dumped_states(family, tmp_path, no_grad):
    stock = families.base(family)
    stock.generation_config.eos_token_id = 2
    stock.save_pretrained(tmp_path)
    with_tokenizer(tmp_path)
    model = SwitchableModel(tmp_path)
    pairs = model.facts.rotary_dim // 2
    texts = [tiny.tokens(count, seed=count)[0] for count in (40, 64)]
    found = measure_contributions(model, [text.tolist() for text in texts])

    dumped = {}

    def dump(method, tokens):
        dumped.setdefault(tokens.layer, []).append((tokens.query, tokens.key))

    with model.watched(dump):
        for text in texts:
            stock_logits, logits = stock(text[None]).logits, model.model(text[None]).logits
            torch.testing.assert_close(logits, stock_logits)
    expected = np.zeros(found.shape)
    for layer, states in dumped.items():
        for query, key in states:
            q, k = (np.asarray(each[0].double()) for each in (query, key))
            for head in range(q.shape[0]):
                shared = k[head * k.shape[0] // q.shape[0]]
                for pair in range(pairs):
                    norms = [np.linalg.norm(x[:, [pair, pair + pairs]], axis=1) for x in (q[head], shared)]
                    expected[layer, head, pair] += (norms[0] * norms[1]).mean() / len(texts)
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_contributions_see_what_the_projections_make(folder, no_grad):
    # Not by the model's own hook: queries and keys from the weights.
    model, ids = SwitchableModel(folder), tiny.tokens(50)[0]
    found = measure_contributions(model, [ids.tolist()])
    stock = tiny.base()
    layer = stock.model.layers[0]
    hidden = layer.input_layernorm(stock.model.embed_tokens(ids))
    q = layer.self_attn.q_proj(hidden).view(50, 4, 2, 8).norm(dim=2)  # [T, H, P]: dimensions p and p + 8
    k = layer.self_attn.k_proj(hidden).view(50, 2, 2, 8).norm(dim=2).repeat_interleave(2, dim=1)
    torch.testing.assert_close(found[0], (q * k).mean(0), rtol=1e-6, atol=0)


def test_nothing_is_kept_of_a_text(folder, no_grad):
    model = SwitchableModel(folder)

    def held():
        gc.collect()
        return sum(each.numel() for each in gc.get_objects() if issubclass(type(each), torch.Tensor))

    sizes = []

    def texts():
        for length in (16, 60, 60, 60):
            sizes.append(held())
            yield tiny.tokens(length)[0].tolist()

    measure_contributions(model, texts())
    assert len(set(sizes[1:])) == 1


def test_lengths_are_halved_down_to_2048():
    assert dpe.contribution_lengths(8192) == [8192, 4096, 2048]
    assert dpe.contribution_lengths(6000) == [6000, 3000]
    assert dpe.contribution_lengths(512) == [512]


def test_passages_have_the_lengths_asked_for():
    found = list(passages(tokenizer(), load_text(), [100, 50], 2, seed=3))
    assert [len(each) for each in found] == [100, 50, 100, 50]
    assert found[0][:50] == found[1] != found[3]


# Searching


def test_a_race_ends_when_it_is_settled():
    scores, asked = scores_of(lambda candidate: -abs(candidate - 3), noise=0.1)
    order = race(range(8), scores, prompts=10)
    assert order[0].candidate == 3
    assert len(asked) == 8  # one prompt tells
    assert [each.mean for each in order] == sorted((each.mean for each in order), reverse=True)


def test_a_race_goes_on_while_it_is_not():
    scores, asked = scores_of(lambda candidate: 0.2 * candidate, noise=1.0)
    order = race(range(3), scores, prompts=40)
    assert order[0].candidate == 2
    assert 3 < len(asked) < 120
    assert len(order[0].scores) > len(order[-1].scores)


def test_of_equal_candidates_the_first_wins():
    scores, asked = scores_of(lambda candidate: 0.0)
    assert race([5, 1, 3], scores, prompts=4)[0].candidate == 5
    assert len(asked) == 12


def test_behind_is_what_chance_does_not_explain():
    assert clearly_behind([1.0, 2.0, 3.0], [2.0, 3.1, 3.9])
    assert not clearly_behind([1.0, 2.0, 3.0], [3.0, 1.0, 3.2])
    assert not clearly_behind([1.0], [9.0])


def test_what_comes_first_is_left_only_for_what_is_better_beyond_chance():
    def standing(candidate, *scores):
        return Standing(candidate, scores)

    best = standing("best", 1.0, 2.0, 3.0, 4.0)
    near = standing("near", 1.1, 2.1, 2.0, 3.9)  # behind by 0.2, give or take 0.27
    behind = standing("behind", 0.9, 1.8, 2.9, 3.8)  # by 0.15, give or take 0.03
    out = standing("out", 0.0, 1.0)  # it was asked less
    standings = [best, behind, near, out]
    assert first_as_good(standings, ["out", "behind", "near", "best"]) == "near"
    assert first_as_good(standings, ["behind", "best", "near"]) == "best"
    assert first_as_good([best], ["best"]) == "best"


SCALES = [1, 2, 4, 8, 16, 32]


@pytest.mark.parametrize("best", [(2, 8, 2, 8, 32, 32, 32, 4), (1, 1, 1, 1, 16, 16, 16, 16), (4,) * 8])
def test_climbing_finds_what_is_best_with_fewer_texts_than_trying_all(best):
    def value(factors):
        return -sum(abs(math.log2(mine / its)) for mine, its in zip(factors, best, strict=True))

    scores, asked = scores_of(value, noise=0.2)
    starts = [(scale,) * 8 for scale in (4, 8, 2, 16, 32)]
    assert climb(starts, SCALES, scores, prompts=10) == best
    assert len(set(asked)) < 8 * len(SCALES) * 10 / 4
    scores, asked = scores_of(value, noise=0.2)
    assert one_group_at_a_time((4,) * 8, SCALES, scores, prompts=10) == best


def test_climbing_cannot_end_below_its_best_start():
    scores, _ = scores_of(lambda factors: -sum(factors) % 7, noise=0.0)
    starts = [(2, 2), (8, 4), (16, 1)]
    value = lambda factors: fmean(scores(factors, 0))  # noqa: E731
    assert value(climb(starts, SCALES, scores, prompts=3)) >= max(map(value, starts))


@pytest.mark.parametrize(("best", "found"), [(100, 128), (1024, 1024), (9000, 4096), (1, 1)])
def test_the_local_window_is_halved_or_doubled_as_long_as_that_is_better(best, found):
    scores, asked = scores_of(lambda window: -abs(math.log2(window / best)), noise=0.1)
    assert dpe.find_window(1024, 8192, scores, samples=10) == found
    assert all(0 < window < 8192 for window, _ in asked)


@pytest.mark.parametrize("windows", [[1024, 512], [1024]])
def test_dpe_climbs_at_the_window_at_which_a_start_is_best(windows):
    def value(candidate):
        factors, window = candidate
        return -sum(abs(math.log2(each / 8)) for each in factors) - 5 * abs(math.log2(window / 256))

    scores, _ = scores_of(value, noise=0.1)
    found = dpe.find_candidate("climb", 8, 8192, 16384, windows, scores, samples=10)
    assert found == ((8,) * 8, 256 if len(windows) > 1 else 1024)


def test_dpe_begins_with_the_published_factors():
    found = dpe.starts(8, 8192, 131072)
    assert found[0] == (32,) * 8  # 2 * 131072 / 8192
    for published in [(2, 8, 2, 8, 32, 32, 32, 4), (4, 16, 2, 16, 32, 16, 16, 2), (2, 16, 8, 8, 32, 8, 2, 4)]:
        assert published in found
    assert (2, 2, 32, 32) in dpe.starts(4, 8192, 131072)
    assert dpe.scales(8192, 131072) == [1, 2, 4, 8, 16, 32, 64, 128]
    assert dpe.scales(64, 256) == [1, 2, 4, 8]
    assert dpe.group_borders(32, 8) == [0, 4, 8, 12, 16, 20, 24, 28, 32]
    assert dpe.group_borders(20, 8) == [0, 2, 5, 8, 10, 12, 15, 18, 20]


@pytest.mark.parametrize("method", SEARCHED)
@pytest.mark.parametrize(("trained", "target"), [(8192, 16384), (4096, 32768), (64, 256)])
def test_settings_begin_with_the_suggested_and_are_valid(method, trained, target, tiny_llama):
    facts, inv_freq = read_facts(str(tiny_llama)), plain_inv_freq(10000.0, 16)
    found = grids.settings(method, facts, inv_freq, trained, target)
    if registry.suggest(method, Wish(facts, inv_freq, trained, target)).parameters is None:
        assert found == []
        return
    assert len(found) > 2
    assert found[0]["initial_window"] == trained
    for setting in found:
        keys = {"name": "x", "description": "x", "base_model": "x", "target_window": target, "method": method}
        make_preset({**keys, **setting})


# The commands

SMALL = ("--target", "256", "--lengths", "1200", "--samples", "2", "--questions", "1")


def test_dpe_from_the_model_to_a_preset_that_converts(folder, tmp_path):
    file = tmp_path / "found.yaml"
    picture = tmp_path / "scales.svg"
    wanted = ("dpe", folder, *SMALL, "--groups", 2, "--top-k", 4, "--plot", picture, "--output", file)
    result = run(*wanted)
    assert result.exit_code == 0, result.output
    preset = load_preset(str(file))
    assert (preset.method, preset.initial_window, preset.target_window) == ("dpe", 64, 256)
    assert preset.parameters["dimension_groups"] == [0, 4, 8]
    assert load_file(tmp_path / preset.parameters["dimension_scores"])["scores"].shape == (3, 4, 8)
    factors = " ".join(map(str, preset.parameters["scale_factors"]))
    window = preset.parameters["local_window"]
    assert result.stdout.splitlines()[2].startswith(f"| {window}, {factors} |")  # the winner leads the table
    assert "| 8, " in result.stdout  # half of the local window was tried
    assert "frequency pairs" in result.stdout
    drawn = picture.read_text()
    assert ">DPE: one group's scale, the others at their best.<" in drawn
    assert ">Best, from high to low frequency:" in drawn
    assert ("pairs 4 to 7" in drawn) != ("Not varied alone: pairs " in drawn and "4–7" in drawn)
    assert preset.calibration["lengths"] == [1200]
    assert preset.calibration["asked"] == 8
    assert preset.calibration["held_out"]["kinds"].keys() == set(mixed.KINDS)
    assert preset.calibration["held_out"]["score"] != preset.calibration["score"]
    assert "On texts that it was not found on: " in result.output
    measured = (tmp_path / "found.jsonl").read_text()
    assert "text_sha256" in measured.splitlines()[0]
    out = tmp_path / "converted"
    converted = CliRunner().invoke(main, ["convert", str(folder), "-p", str(file), "-o", str(out)])
    assert converted.exit_code == 0, converted.output
    # All of it again, from the measurements: nothing is measured, and the same comes out.
    before = file.read_text()
    file.unlink()
    assert run(*wanted).exit_code == 2
    assert run(*wanted, "--resume").exit_code == 0
    assert file.read_text() == before
    assert (tmp_path / "found.jsonl").read_text() == measured


def test_a_run_that_is_interrupted_goes_on(folder, tmp_path, monkeypatch):
    wanted = ("self_extend", folder, *SMALL, "--output")
    assert run(*wanted, tmp_path / "whole.yaml").exit_code == 0
    answers, read = SwitchableModel.answers, []

    def interrupted(self, prompt):
        if len(read) % 3 == 2:
            read.append(None)
            raise KeyboardInterrupt
        read.append(prompt)
        return answers(self, prompt)

    monkeypatch.setattr(SwitchableModel, "answers", interrupted)
    file, statuses = tmp_path / "pieces.yaml", []
    while not file.exists():
        statuses.append(run(*wanted, file, *(["--resume"] if statuses else [])).exit_code)
    assert set(statuses[:-1]) == {130}
    assert statuses[-1] == 0
    whole, pieces = (load_preset(str(tmp_path / name)) for name in ("whole.yaml", "pieces.yaml"))
    assert (whole.parameters, whole.calibration) == (pieces.parameters, pieces.calibration)


def test_contributions_are_measured_at_their_own_lengths_by_the_one_model(folder, tmp_path, monkeypatch):
    loaded, read = [], []
    for name, seen in [("__init__", loaded), ("read", read)]:
        method = getattr(SwitchableModel, name)
        monkeypatch.setattr(
            SwitchableModel,
            name,
            lambda self, given, _seen=seen, _do=method, **how: (_seen.append(given), _do(self, given, **how))[0],
        )
    file = tmp_path / "found.yaml"
    wanted = ("dpe", folder, *SMALL, "--groups", 1, "--top-k", 4, "--output", file)
    assert run(*wanted).exit_code == 0
    assert [len(ids) for ids in read] == [64] * 10  # the trained length, not that of the prompts
    assert len(loaded) == 1
    file.unlink()
    refused = run(*wanted)
    assert refused.exit_code == 2
    assert "found.safetensors exists" in refused.stderr


def test_steps_by_themselves(folder, tmp_path):
    scores = tmp_path / "scores.safetensors"
    assert run("contributions", folder, "--samples", 2, "--lengths", 40, "--output", scores).exit_code == 0
    assert load_file(scores)["scores"].shape == (3, 4, 8)
    file = tmp_path / "selected.yaml"
    given = ("dpe", folder, "--target", 256, "--scale-factors", "2,8,4,16", "--output", file)
    result = run(*given, "--top-k", 4, "--scores", scores)
    assert result.exit_code == 0, result.output
    preset = load_preset(str(file))
    assert preset.parameters["scale_factors"] == [2, 8, 4, 16]
    assert preset.parameters["dimension_scores"] == "scores.safetensors"
    assert not (tmp_path / "selected.jsonl").exists()


@pytest.mark.parametrize(("target", "dimensions"), [(8192, 80), (16384, 64)])
def test_dprope_by_the_papers_own_choice(target, dimensions, folder, tmp_path):
    config = json.loads((folder / "config.json").read_text())
    config |= {"head_dim": 128, "max_position_embeddings": 4096}  # Llama 2's frequencies
    (folder / "config.json").write_text(json.dumps(config))
    file = tmp_path / "found.yaml"
    result = run("dprope", folder, "--target", target, "--interpolated", dimensions, "--output", file)
    assert result.exit_code == 0, result.output
    assert f"| interpolation | {dimensions} |" in result.stdout
    threshold = load_preset(str(file)).parameters["threshold"]
    other = run("dprope", folder, "--target", target, "--threshold", threshold, "--output", tmp_path / "b.yaml")
    assert other.stdout == result.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("dpe", "--target", "32"), "must be more than the 64 tokens"),
        (("dpe", "--target", "256", "--groups", "9"), "has 8 frequency pairs"),
        (("dpe", "--target", "256", "--scale-factors", "2,x"), "--scale-factors 2,x"),
        (("dpe", "--target", "256", "--lengths", "300"), "leave no room"),
        (
            ("dpe", "--target", "400", "--lengths", "200,300"),
            "300 tokens need not be best at the target of 400",
        ),
        (("dprope", "--target", "256", "--interpolated", "3"), "an even number"),
        (("dprope", "--target", "256", "--interpolated", "200"), "100 pairs"),
        (("dprope", "--target", "256", "--candidates", "yarm"), "did you mean 'yarn'"),
        (("dprope", "--target", "256", "--threshold", "1", "--interpolated", "2"), "give one of them"),
        (("string", "--target", "256"), "no setting reaches 256"),
    ],
)
def test_wrong_usage_is_said(arguments, message, folder, tmp_path):
    method, *rest = arguments
    result = run(method, folder, *rest, "--output", tmp_path / "x.yaml")
    assert result.exit_code in (1, 2)
    assert message in result.stderr
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "x.yaml").exists()


def test_outputs_that_cannot_be(folder, tmp_path):
    (tmp_path / "there.yaml").touch()
    for name, message in [("there.yaml", "exists"), ("x.json", "ends in .yaml")]:
        result = run("yarn", folder, "--target", 256, "--output", tmp_path / name)
        assert result.exit_code == 2
        assert message in result.stderr
