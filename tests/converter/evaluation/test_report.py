"""`ropext report` on made-up results."""

import csv
import io
import itertools
import json
import math
import re
import subprocess
import sys

import numpy as np
import pytest

from ropext.converter.evaluation.report import statistics as summary
from ropext.converter.evaluation.report.depth import Asked, by_depth, depths
from ropext.converter.evaluation.report.drawing import line_style, tokens
from ropext.converter.evaluation.report.exact import flipped
from ropext.converter.evaluation.report.intervals import student, wilson
from ropext.converter.evaluation.report.results import BASE, read_results
from ropext.converter.evaluation.report.tables import HOW_TO_READ, plain, tables
from tests.helpers.measured import ORIGIN, asked, needles, perplexity, write


def one(file):
    (experiment,), _ = read_results([file])
    return experiment


def estimate(experiment, name, preset, length):
    (metric,) = [each for each in summary.METRICS[experiment.task] if each.name == name]
    return summary.estimate(metric, experiment, preset, length)


# The numbers


def test_wilson_and_student():
    assert wilson(0.8, 10) == pytest.approx((0.4902, 0.9433), abs=1e-4)
    assert wilson(0.0, 10) == pytest.approx((0.0, 0.2775), abs=1e-4)
    assert wilson(1.0, 10)[1] == 1.0
    for freedom, quantile in ((1, 12.706), (4, 2.776), (5, 2.571), (9, 2.262), (30, 2.042), (1000, 1.962)):
        assert student(freedom) == pytest.approx(quantile, abs=4e-3)


@pytest.mark.parametrize(
    ("differences", "p"),
    [
        ([], 1.0),
        ([0, 0, 0], 1.0),
        ([1, 1, 1, 0], 0.25),  # 0 of 3 against 3 of 3
        ([1] * 5, 0.0625),
        ([1] * 6 + [0] * 6, 0.03125),
        ([1] * 8 + [-1] * 2, 2 * (1 + 10 + 45) / 1024),
        ([0.25] * 2 + [-0.25] * 8, 2 * (1 + 10 + 45) / 1024),
        ([1] * 2000 + [-1] * 2000, 1.0),
    ],
)
def test_equal_differences_have_the_binomial_test(differences, p):
    assert flipped(differences) == pytest.approx(p)


def test_unequal_differences_are_reversed_in_every_way():
    differences = [1.0, 2.0, -0.5, 4.0, 1 / 3, 0.0, 3.0]
    signs = itertools.product((-1, 1), repeat=len(differences))
    sums = [abs(sum(s * d for s, d in zip(each, differences, strict=True))) for each in signs]
    assert flipped(differences) == sum(each >= sum(differences) - 1e-9 for each in sums) / len(sums)
    assert flipped([0.1 * each for each in range(1, 40)]) is None


def passkeys(right, prompts=3):
    """A passkey in each prompt, which the base misses, at two lengths."""
    for preset in (None, "tiny-dpe"):
        for length in (4096, 16384):
            for seed in range(prompts):
                yield asked(preset, length, seed, [(0.5, -1.0, bool(preset) and seed < right)])


@pytest.mark.parametrize(
    ("right", "prompts", "cell"),
    [
        (3, 3, "not resolved (n = 3; p = 0.25)"),
        (0, 3, "not resolved (n = 3; p = 1)"),
        (10, 10, "+100 (p = 0.002)"),
        (11, 20, "+55 (p < 0.001)"),
    ],
)
def test_a_few_right_answers_resolve_nothing(tmp_path, right, prompts, cell):
    experiment = one(write(tmp_path / "passkey.jsonl", "passkey", passkeys(right, prompts)))
    found = {table.caption: table.rows for table in tables(experiment)}
    assert found["Exact match less the base's, same questions, percentage points"] == [["tiny-dpe", cell, cell]]
    tested = estimate(experiment, "exact_difference", "tiny-dpe", 4096)
    assert (tested.low, tested.high) == (None, None)  # of answers that all agree it would have no width
    nats = found["Log-probability less the base's, same questions, nats"]
    assert nats == [["tiny-dpe", *2 * [f"the same (n = {prompts})"]]]


def test_differences_are_over_prompts(tmp_path):
    experiment = one(write(tmp_path / "niah.jsonl", "niah", needles()))
    values = {
        preset: [experiment.at(preset, 16384)[seed, ""]["answers"] for seed in range(4)]
        for preset in (BASE, "tiny-dpe")
    }
    known = {preset: np.array([[a["log_probability"] for a in each] for each in of]) for preset, of in values.items()}
    difference = (known["tiny-dpe"] - known[BASE]).mean(axis=1)
    margin = 3.182 * difference.std(ddof=1) / 2
    found = estimate(experiment, "log_probability_difference", "tiny-dpe", 16384)
    assert (found.value, found.high - found.value) == pytest.approx((difference.mean(), margin), rel=1e-3)
    assert (found.count, found.prompts, found.p) == (8, 4, None)
    assert estimate(experiment, "log_probability_difference", BASE, 16384) is None
    right = estimate(experiment, "exact", "tiny-dpe", 16384)
    assert (right.value, right.count) == (87.5, 8)
    assert estimate(experiment, "seconds_ratio", "tiny-dpe", 4096).value == pytest.approx(1.1)


def test_only_the_same_prompts_are_compared(tmp_path):
    mine = asked("tiny-dpe", 4096, 0, [(0.2, -1.0, True)])
    others = [asked(None, 4096, 1, [(0.2, -3.0, True)]), asked(None, 4096, 0, [(0.3, -3.0, True)])]
    assert (
        estimate(one(write(tmp_path / "a.jsonl", "niah", [mine, *others])), "seconds_ratio", "tiny-dpe", 4096) is None
    )
    experiment = one(write(tmp_path / "b.jsonl", "niah", [asked(None, 4096, 0, [(0.2, -3.0, True)]), mine]))
    found = estimate(experiment, "log_probability_difference", "tiny-dpe", 4096)
    assert (found.value, found.low) == (2.0, None)  # no interval from one prompt
    assert ["tiny-dpe", "+2.00 (n = 1)"] in [row for table in tables(experiment) for row in table.rows]


def test_perplexity(results):
    experiment = one(results / "tiny" / "ppl.jsonl")
    assert estimate(experiment, "perplexity", BASE, 4096).value == pytest.approx(math.exp(2505 / 1000))
    ratio = estimate(experiment, "perplexity_ratio", "tiny-dpe", 16384)
    assert ratio.value == pytest.approx(math.exp(-3.4))
    assert ratio.differs(1.0)
    assert not estimate(experiment, "perplexity_ratio", "tiny-dpe", 4096).differs(1.0)


def test_texts_of_unequal_length_count_by_their_tokens(tmp_path):
    values = [perplexity(None, 4096, seed, nll, counted) for seed, nll, counted in ((0, 100, 100), (1, 1200, 400))]
    values += [perplexity("p", 4096, seed, nll, counted) for seed, nll, counted in ((0, 110, 100), (1, 1200, 400))]
    experiment = one(write(tmp_path / "ppl.jsonl", "ppl", values))
    assert estimate(experiment, "perplexity_ratio", "p", 4096).value == pytest.approx(math.exp(10 / 500))
    infinite = one(write(tmp_path / "x.jsonl", "ppl", [perplexity(None, 4096, 0, 1e9)]))
    assert estimate(infinite, "perplexity", BASE, 4096).value == math.inf
    assert "∞" in tables(infinite)[0].rows[0]


def test_ruler(results):
    experiment = one(results / "tiny" / "ruler.jsonl")
    total, effective = summary.ruler_summary(experiment, "tiny-dpe")
    assert (dict(total.averages), effective) == ({4096: 100.0, 16384: 50.0}, 4096)
    assert "fwe" in total.left_out
    found = estimate(experiment, "score_difference", "tiny-dpe", 16384)
    # Two prompts of `vt` gained all, two of `cwe` nothing: an interval would have no width.
    assert (found.value, found.prompts, found.p, found.differs(0.0)) == (50.0, 4, 0.5, False)


# Reading


def test_a_torn_last_line_is_no_line(tmp_path):
    file = write(tmp_path / "niah.jsonl", "niah", needles(), tail='{"key": "x", "val')
    assert len(one(file).values) == 16


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"answers": []}, ":2: is no measurement of niah: `answers` is empty"),
        ({"answers": [{"depth": 0.1}]}, "an answer lacks"),
        ({"length": "4k"}, "`length` is missing, or of the wrong kind"),
        ({"preset": 3}, "`preset` has to be a name, or null"),
    ],
)
def test_damaged_measurements_are_named(run, tmp_path, change, message):
    value = next(needles()) | change
    result = run("report", write(tmp_path / "niah.jsonl", "niah", [value]), status=1)
    assert message in result.stderr
    assert result.stdout == ""


def test_damaged_files_are_named(run, tmp_path, results):
    file = results / "tiny" / "niah.jsonl"
    file.write_text(file.read_text().replace('{"key"', '"key"', 1))
    assert "niah.jsonl:2: is no line of measurements" in run("report", results, status=1).stderr
    (tmp_path / "empty").mkdir()
    assert "no results here" in run("report", tmp_path / "empty", status=2).stderr
    assert "no such file" in run("report", tmp_path / "nowhere", status=2).stderr


def test_other_files_are_left_out(run, results):
    other = results / "calibration.jsonl"
    other.write_text('{"settings": {"method": "dpe"}}\n')
    assert f"{other}: holds no results" in run("report", results).stderr
    assert "holds no results" in run("report", other, status=1).stderr


def test_files_of_the_same_settings_are_one_experiment(tmp_path):
    values = list(needles())
    write(tmp_path / "a" / "niah.jsonl", "niah", values[:8], machine="another")
    write(tmp_path / "b" / "niah.jsonl", "niah", values[8:])
    write(tmp_path / "c" / "niah.jsonl", "niah", values[8:], source="large")
    found, _ = read_results([tmp_path, tmp_path / "a" / "niah.jsonl"])
    assert [(each.source, each.presets, len(each.origins)) for each in found] == [
        ("tiny", [BASE, "tiny-dpe"], 2),
        ("large", ["tiny-dpe"], 1),
    ]
    write(tmp_path / "b" / "more.jsonl", "niah", [values[-1], values[-1]])
    found, _ = read_results([tmp_path / "b"])
    assert "measured more than once" in found[0].notes[0]


# Tables


def test_markdown(run, results):
    text = run("report", results).stdout
    headings = re.findall("^## (.*)$", text, re.MULTILINE)
    assert headings == ["Passkey: tiny", "Needles: tiny", "Perplexity: tiny", "RULER: tiny"]
    part = text[text.index("## Needles") : text.index("## Perplexity")]
    rows = re.findall(r"^\| (base|dpe) \| (.*) \| (.*) \|$", part, re.MULTILINE)
    assert rows[0] == ("base", "**100** (68–100)", "0 (0–32)")
    assert rows[1] == ("dpe", "88 (53–98)", "**88** (53–98)")
    assert "\n**At 16k tokens, dpe: −2.59 nats; base: −10.50 nats; difference: +7.91 (" in part
    assert "\nColumns are lengths in tokens; names are without “tiny-”.\n" in part
    assert rows[2] == ("dpe", "not resolved (n = 4; p = 1)", "not resolved (n = 4; p = 0.12)")
    assert rows[5][1].startswith("not resolved (n = 4; −0.")
    assert rows[5][2].startswith("+7.91 (")
    assert rows[6] == ("dpe", "1.10", "1.10")
    assert f"\n    {ORIGIN['command']}\n" in part
    assert r"a \<small\> machine" in part
    assert text.rstrip().endswith(HOW_TO_READ)


def test_csv_and_json_hold_the_same_numbers(run, results):
    lines = list(csv.DictReader(io.StringIO(run("report", results, "--format", "csv").stdout)))
    run("report", results, "-o", "r.json")
    with open("r.json") as stream:
        experiments = json.load(stream)["experiments"]
    records = [each for experiment in experiments for each in experiment["estimates"]]
    assert [float(line["value"]) for line in lines] == [record["value"] for record in records]
    (found,) = [
        line
        for line in lines
        if (line["task"], line["metric"], line["preset"], line["length"]) == ("niah", "exact", "tiny-dpe", "16384")
    ]
    assert (found["value"], found["count"], found["subtask"]) == ("87.5", "8", "")
    assert experiments[3]["summaries"]["base"]["effective_length"] == 4096
    assert experiments[0]["origins"][0]["command"] == ORIGIN["command"]


def test_some_presets(run, results):
    text = run("report", results, "--preset", "tiny-yarn").stdout
    assert "dpe |" not in text
    assert "| yarn |" in text
    assert "did you mean 'tiny-yarn'" in run("report", results, "-p", "tiny-yarm", status=2).stderr


def test_a_model_alone_goes_by_its_name(run, tmp_path):
    text = run("report", write(tmp_path / "passkey.jsonl", "passkey", needles((None,)), source="converted")).stdout
    assert "| converted | 100" in text
    assert "base" not in text.replace("base's", "")


def test_what_cannot_be_written(run, results):
    assert "say by --format" in run("report", results, "-o", "r.txt", status=2).stderr
    assert "file of results" in run("report", results, "-f", "csv", "-o", "r.jsonl", status=2).stderr
    assert "ends in .png, .svg, .pdf" in run("report", results, "--plot", "r.jpg", status=2).stderr
    assert "are for --plot" in run("presets", "show", "smollm2-135m-dpe", "--length", "4k", status=2).stderr


@pytest.mark.parametrize(
    ("text", "written"), [("a|b", r"a\|b"), ("self_extend", "self_extend"), ("__a__", r"\_\_a\_\_"), ("a\nb", "a b")]
)
def test_markdown_leaves_names_as_they_are(text, written):
    assert plain(text) == written


def test_tables_need_neither_torch_nor_matplotlib(results):
    script = (
        "import sys; from ropext.converter.cli.app import main\n"
        f"main(['report', {str(results)!r}], standalone_mode=False)\n"
        "assert not {'torch', 'matplotlib', 'transformers'} & {*sys.modules}"
    )
    subprocess.run([sys.executable, "-c", script], check=True, stdout=subprocess.DEVNULL)


# Pictures


def test_pictures_are_the_same_for_the_same_numbers(run, results, tmp_path, matplotlib):
    options = ("report", results / "tiny" / "niah.jsonl", "--plot")
    for name in ("a.svg", "b.svg", "a.png"):
        run(*options, name)
    svg = (tmp_path / "a.svg").read_text()
    assert svg == (tmp_path / "b.svg").read_text()
    assert not re.search(r"<dc:date|\d\d:\d\d:\d\d|<image", svg)
    for text in ("depth, percent", "length, tokens", "right answers, percent", "dpe", "16k", "4/4"):
        assert f">{text}<" in svg
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    run(*options, "c.svg", "--picture", "heatmap", "--measure", "log-probability")
    assert ">log-probability, nats<" in (tmp_path / "c.svg").read_text()
    assert "have no such picture" in run(*options, "d.svg", "--picture", "perplexity", status=2).stderr


def test_without_matplotlib(run, results, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    for wish in (("--plot", "x.png"), ("--format", "html")):
        result = run("report", results, *wish, status=1)
        assert result.stderr == "error: pictures need matplotlib: pip install 'ropext[plot]'\n"
        assert result.stdout == ""


def test_curves_differ_without_colours():
    styles = [line_style(0, base=True), *(line_style(number) for number in range(12))]
    assert len({(style["marker"], str(style["linestyle"])) for style in styles}) == 13


def test_lengths_in_words():
    assert [tokens(length) for length in (512, 1000, 4096, 1536, 131072)] == ["512", "1,000", "4k", "1.5k", "128k"]


def test_depths(tmp_path):
    few = one(write(tmp_path / "a.jsonl", "niah", [asked(None, 4096, 0, [(0.05, -1, True), (0.95, -2, False)])]))
    assert [name for name, *_ in depths(few)] == ["5", "95"]
    assert by_depth(few, BASE, 4096, *depths(few)[1][1:]) == Asked(right=0, count=1, log_probability=-2.0)
    many = [asked(None, 4096, seed, [(seed / 20, -1.0, True)]) for seed in range(21)]
    bands = depths(one(write(tmp_path / "b.jsonl", "niah", many)))
    assert [bands[0][0], bands[-1][0], len(bands)] == ["0–10", "90–100", 10]
    assert bands[-1][1] <= 1.0 < bands[-1][2]
