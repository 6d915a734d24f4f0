"""`ropext report` on made-up results."""

import csv
import hashlib
import io
import json
import math
import re
import subprocess
import sys
from html.parser import HTMLParser

import numpy as np
import pytest
from huggingface_hub import ModelCard

from ropext.converter.evaluation.report import statistics as summary
from ropext.converter.evaluation.report.drawing import line_style, tokens
from ropext.converter.evaluation.report.results import BASE, read_results
from ropext.converter.evaluation.report.tables import HOW_TO_READ, plain, tables

LENGTHS = (4096, 16384)
ORIGIN = {
    "command": "ropext eval niah tiny --preset tiny-dpe",
    "versions": {"ropext": "0.1.0", "torch": "2.13"},
    "machine": "a <small> machine",
}
SETTINGS = {"source": "tiny", "seed": 0, "dtype": "auto", **ORIGIN}


def write(file, task, values, tail="", **settings):
    """A file of measurements."""
    file.parent.mkdir(parents=True, exist_ok=True)
    lines = [{"settings": {"task": task, **SETTINGS, **settings}}]
    lines += [{"key": json.dumps([value["preset"], number]), "value": value} for number, value in enumerate(values)]
    file.write_text("".join(f"{json.dumps(line)}\n" for line in lines) + tail)
    return file


def asked(preset, length, seed, answers, seconds=2.0):
    """A prompt with questions: depth, log-probability and whether it was answered right."""
    keys = ("depth", "log_probability", "exact")
    found = [{**dict(zip(keys, answer, strict=True)), "distance": 7} for answer in answers]
    return {
        "preset": preset, "length": length, "tokens": length - 9, "seed": seed, "seconds": seconds, "answers": found
    }  # fmt: skip


def needles(presets=(None, "tiny-dpe"), prompts=4):
    """The base finds all at 4k and nothing at 16k, where the others find three of four."""
    rng = np.random.default_rng(0)
    for preset in presets:
        for length in LENGTHS:
            for seed in range(prompts):
                right = length == LENGTHS[0] or bool(preset)
                level = -1.0 - seed if right else -9.0 - seed
                jitter = 0.1 * rng.standard_normal(2) if preset else (0.0, 0.0)
                answers = [
                    (0.2 + 0.01 * seed, level + jitter[0], right and not (preset and seed == 1)),
                    (0.8, level + jitter[1], right),
                ]
                yield asked(preset, length, seed, answers, seconds=2.2 if preset else 2.0)


def perplexity(preset, length, seed, nll, counted=1000):
    return {
        "preset": preset, "length": length, "tokens": length, "seed": seed, "seconds": 1.0, "nll": nll,
        "counted": counted,
    }  # fmt: skip


def answered(preset, length, seed, task, score):
    return {
        "preset": preset, "length": length, "tokens": 9, "seed": seed, "seconds": 1.0, "task": task, "score": score,
        "prediction": "x", "answers": ["y"],
    }  # fmt: skip


@pytest.fixture
def results(tmp_path):
    """A folder with every task."""
    folder = tmp_path / "results"
    write(folder / "tiny" / "niah.jsonl", "niah", needles(), needles=2)
    write(folder / "tiny" / "passkey.jsonl", "passkey", needles((None, "tiny-dpe", "tiny-yarn"), 2))
    nll = [(None, 4096, 2500.0), (None, 16384, 6000.0), ("tiny-dpe", 4096, 2500.0), ("tiny-dpe", 16384, 2600.0)]
    values = [perplexity(preset, length, seed, each + 10 * seed) for preset, length, each in nll for seed in range(2)]
    write(folder / "tiny" / "ppl.jsonl", "ppl", values)
    values = [
        answered(preset, length, seed, task, float(length == 4096 or (preset is not None and task == "vt")))
        for preset in (None, "tiny-dpe")
        for length in LENGTHS
        for task in ("vt", "cwe")
        for seed in range(2)
    ]
    write(folder / "tiny" / "ruler.jsonl", "ruler", values)
    return folder


def one(file):
    (experiment,), _ = read_results([file])
    return experiment


def estimate(experiment, name, preset, length):
    (metric,) = [each for each in summary.METRICS[experiment.task] if each.name == name]
    return summary.estimate(metric, experiment, preset, length)


# The numbers


def test_wilson_and_student():
    assert summary.wilson(0.8, 10) == pytest.approx((0.4902, 0.9433), abs=1e-4)
    assert summary.wilson(0.0, 10) == pytest.approx((0.0, 0.2775), abs=1e-4)
    assert summary.wilson(1.0, 10)[1] == 1.0
    for freedom, quantile in ((1, 12.706), (4, 2.776), (5, 2.571), (9, 2.262), (30, 2.042), (1000, 1.962)):
        assert summary.student(freedom) == pytest.approx(quantile, abs=4e-3)


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


def test_perplexity(results):
    experiment = one(results / "tiny" / "ppl.jsonl")
    assert estimate(experiment, "perplexity", BASE, 4096).value == pytest.approx(math.exp(2505 / 1000))
    ratio = estimate(experiment, "perplexity_ratio", "tiny-dpe", 16384)
    assert ratio.value == pytest.approx(math.exp(-3.4))
    assert estimate(experiment, "perplexity_ratio", "tiny-dpe", 4096).covers(1.0)


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
    assert (found.value, found.low, found.high) == (50.0, 50.0, 50.0)


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
    rows = re.findall(r"^\| (base|tiny-dpe) \| (.*) \| (.*) \|$", part, re.MULTILINE)
    assert rows[0] == ("base", "100 (68–100)", "0 (0–32)")
    assert rows[1] == ("tiny-dpe", "88 (53–98)", "88 (53–98)")
    assert rows[4][1].startswith("not resolved (−0.")
    assert rows[4][2].startswith("+7.91 (")
    assert rows[5] == ("tiny-dpe", "1.10", "1.10")
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
    assert "tiny-dpe |" not in text
    assert "| tiny-yarn |" in text
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
    for text in ("depth, percent", "length, tokens", "exact match, percent", "tiny-dpe", "16k"):
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
    assert [name for name, *_ in summary.depths(few)] == ["5", "95"]
    assert summary.by_depth(few, BASE, 4096, *summary.depths(few)[1][1:]) == (0.0, -2.0)
    many = [asked(None, 4096, seed, [(seed / 20, -1.0, True)]) for seed in range(21)]
    bands = summary.depths(one(write(tmp_path / "b.jsonl", "niah", many)))
    assert [bands[0][0], bands[-1][0], len(bands)] == ["0–10", "90–100", 10]
    assert bands[-1][1] <= 1.0 < bands[-1][2]


# The page


VOID = {"meta", "br", "img", "hr", "link", "input"}


class Strict(HTMLParser):
    """Holds that elements are closed in order; keeps what it saw."""

    def __init__(self):
        super().__init__()
        self.open, self.seen, self.ids = [], [], []

    def handle_starttag(self, tag, attrs):
        self.note(tag, attrs)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.note(tag, attrs)

    def note(self, tag, attrs):
        self.seen.append((tag, dict(attrs)))
        self.ids += [value for key, value in attrs if key == "id"]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, f"</{tag}> closes nothing"


def test_page(run, results, tmp_path, matplotlib):
    run("report", results, "-o", "r.html")
    text = (tmp_path / "r.html").read_text()
    page = Strict()
    page.feed(text)
    page.close()
    assert page.open == []
    assert len(page.ids) == len(set(page.ids))
    assert "<script" not in text
    tags = [tag for tag, _ in page.seen]
    assert (tags.count("h1"), tags.count("h2"), tags.count("svg")) == (1, 4, 6)
    assert tags.count("table") == tags.count("caption") > 10
    for tag, attributes in page.seen:
        for key, value in attributes.items():
            assert key.startswith("xmlns") or not re.search(r"https?:|//", value or ""), (tag, key, value)
            if key in ("href", "xlink:href", "clip-path", "aria-labelledby"):
                names = value.split() if key == "aria-labelledby" else re.findall("#([^)]*)", value)
                assert names, (tag, key, value)
                assert {*names} <= {*page.ids}, (tag, key, value)
        if tag == "th":
            assert attributes["scope"] in ("col", "row")
        if tag == "svg":
            assert attributes["role"] == "img"
    assert not re.search(r"url\((?!#)|@import", text)
    assert "base 100 at 4k, 0 at 16k; tiny-dpe 88 at 4k" in text  # for who does not see the picture
    assert "a &lt;small&gt; machine" in text


# The card


@pytest.fixture
def converted(run, tiny_llama, tiny_preset, tmp_path):
    card = "---\nlicense: mit\n---\n# Tiny\n\n## Limits\n\n<!-- ropext report: begin -->\nthe base's own\n"
    (tiny_llama / "README.md").write_text(card)
    run("convert", tiny_llama, "--preset", tiny_preset, "-o", "out")
    return tmp_path / "out"


def test_card(run, converted, results, matplotlib):
    before = (converted / "README.md").read_text()
    run("report", results, "--card", converted, "--picture", "heatmap")
    once = (converted / "README.md").read_text()
    # Take the section and the metadata away: the rest is as it was.
    rest = re.sub(
        r"## Results\n\n<!-- ropext report: begin -->\n\n.*<!-- ropext report: end -->\n\n", "", once, flags=re.DOTALL
    )
    rest = re.sub(r"model-index:\n(?:[- ].*\n)+?(?=---)", "", rest)
    assert rest == before.replace("Nothing was measured on this checkpoint. ", "")
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
    # Again: the same. With other results: the section alone is another, and others' results stay.
    run("report", results, "--card", converted, "--picture", "heatmap")
    assert (converted / "README.md").read_text() == once
    theirs = (
        "model-index:\n- name: tiny-dpe\n  results:\n  - task: {type: text-generation}\n"
        "    dataset: {name: A, type: a}\n    metrics: [{type: b, value: 1}]\n"
    )
    (converted / "README.md").write_text(
        re.sub(r"model-index:\n(?:[- ].*\n)+?(?=---)", theirs + "# mine\nkey: value\n", once)
    )
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
