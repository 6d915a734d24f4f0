"""What a method costs while a prompt fits the window: measured along with every task, and reported."""

import json
import re

import pytest

from ropext.converter.evaluation.report.results import read_results
from ropext.converter.evaluation.report.short import short_rows
from ropext.converter.evaluation.report.tables import as_csv, as_json, as_markdown
from ropext.converter.evaluation.tasks.perplexity import passages
from ropext.converter.evaluation.tasks.short import WINDOWS, short_length
from ropext.converter.evaluation.tasks.texts import load_text
from tests.helpers.asked import tokenizer, with_tokenizer
from tests.helpers.measured import asked, perplexity, write


@pytest.fixture
def folder(tiny_llama):
    return with_tokenizer(tiny_llama)


@pytest.fixture
def made(tiny_preset, tmp_path):
    """A preset of a method, beside the tiny one."""

    def make(name, method, parameters):
        text = re.sub("parameters:.*", f"parameters: {parameters}", tiny_preset.read_text())
        text = text.replace("method: dpe", f"method: {method}").replace("name: tiny-dpe", f"name: {name}")
        (tmp_path / f"{name}.yaml").write_text(text)
        return tmp_path / f"{name}.yaml"

    return make


def lines(file):
    return [json.loads(line)["value"] for line in file.read_text().splitlines()[1:]]


@pytest.mark.parametrize(("trained", "length"), [(64, 32), (2048, 1024), (8192, 2048), (131072, 2048), (1, 2)])
def test_short_prompts_are_half_the_window_or_less(trained, length):
    assert short_length(trained) == length


def test_the_longest_windows_do_not_repeat_the_usual_text():
    text = load_text().half(1)
    assert len(" ".join(text.sentences)) > 7 * WINDOWS * short_length(1 << 20)  # a word or so in a token


def test_each_task_measures_them_first_and_says_who_is_the_base(run, folder, tiny_preset, made, tmp_path):
    keeps = made("keeps", "self_extend", "{group_size: 8, local_window: 16, activate_beyond: 48}")
    presets = [tiny_preset, keeps, made("turns", "yarn", "{}")]
    chosen = [word for preset in presets for word in ("-p", preset)]
    done = run("eval", "niah", folder, *chosen, "--needles", 1, "-l", 900, "--samples", 1)
    values = lines(tmp_path / "results" / folder.name / "niah.jsonl")
    short, long = [each for each in values if each.get("short")], [each for each in values if "answers" in each]
    assert values == [*short, *long]
    names = [None, "tiny-dpe", "keeps", "turns"]
    assert [each["preset"] for each in short] == [name for name in names for _ in range(WINDOWS)]
    assert [each["promised"] for each in short[::WINDOWS]] == [False, False, True, False]
    windows = [list(each.input_ids) for each in passages(tokenizer(), load_text().half(1), 32, WINDOWS)]
    assert {each["length"] for each in short} == {32} == {len(window) for window in windows}
    table = next(part for part in done.stdout.split("\n\n") if part.startswith("Short prompts"))
    rows = {line.split()[0]: re.split(" {2,}", line)[-1].strip() for line in table.splitlines()[2:]}
    assert rows["keeps"] == "the base, bit for bit (n = 6)"
    assert all(re.match(r"(\d\.\d+ \(|not resolved)", rows[name]) for name in ("tiny-dpe", "turns"))
    assert "Short prompts" in run("report", "results").stdout


def test_they_can_be_left_out_and_added(run, folder, tmp_path):
    file = tmp_path / "results" / folder.name / "ppl.jsonl"
    assert "Short prompts" not in run("eval", "ppl", folder, "-l", 200, "--no-short").stdout
    assert not any(each.get("short") for each in lines(file))
    assert "Short prompts" in run("eval", "ppl", folder, "-l", 200, "--resume").stdout
    assert sum(each.get("short", False) for each in lines(file)) == WINDOWS


def test_maps_of_attention_have_none(run, folder, tmp_path):
    run("eval", "attention", folder, "-l", 128, "--cells", 4)
    (value,) = lines(tmp_path / "results" / folder.name / "attention.jsonl")
    assert "short" not in value


def short(preset, nll, seed, promised=False):
    return {**perplexity(preset, 32, seed, nll), "short": True, "promised": promised}


def experiment(tmp_path, *values):
    long = [asked(preset, 4096, 0, [(0.5, -1.0, True)]) for preset in dict.fromkeys(each["preset"] for each in values)]
    (found,), _ = read_results([write(tmp_path / "tiny" / "niah.jsonl", "niah", [*long, *values])])
    return found


def test_a_promise_that_is_not_kept_is_seen(tmp_path):
    values = [short(None, 90.0 + seed, seed) for seed in range(6)]
    values += [short("kept", 90.0 + seed, seed, promised=True) for seed in range(6)]
    values += [short("broken", 90.0 + seed + (seed == 3), seed, promised=True) for seed in range(6)]
    values += [short("same", 90.0 + seed, seed) for seed in range(6)]
    found = experiment(tmp_path, *values)
    rows = {name: compared for name, _, _, compared in short_rows(found)}
    assert rows["base"] == ""
    assert rows["kept"] == "the base, bit for bit (n = 6)"
    assert rows["same"] == "the same (n = 6)"
    assert rows["broken"].endswith("; promised: the base, bit for bit")
    page = as_markdown([found])
    assert "| kept | 32 |" in page
    assert "over the base's" in page


def test_short_prompts_alone_are_no_report(run, tmp_path):
    write(tmp_path / "tiny" / "niah.jsonl", "niah", [short(None, 90.0, 0)])
    assert "short prompts alone were measured so far; use --resume" in run("report", tmp_path / "tiny", status=2).stderr


def test_they_are_numbers_of_their_own(tmp_path):
    found = experiment(tmp_path, *(short(each, 90.0 + seed, seed) for each in (None, "tiny-dpe") for seed in range(2)))
    assert found.lengths == [4096]
    assert found.only(["tiny-dpe"]).short.presets == ["base", "tiny-dpe"]
    (read,) = json.loads(as_json([found]))["experiments"]
    metrics = {each["metric"] for each in read["estimates"] if each["length"] == 32}
    assert metrics == {"short_perplexity", "short_perplexity_ratio", "short_seconds_ratio"}
    assert "short_perplexity_ratio" in as_csv([found])
    alone = experiment(tmp_path, *(short(None, 90.0, seed) for seed in range(2)))
    assert "| tiny | 32 |" in as_markdown([alone])
    assert "over" not in as_markdown([alone]).partition("Short prompts")[2].partition("Made by")[0]
