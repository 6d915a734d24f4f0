"""Folders of results for others, and those that the repository holds."""

import json
import shutil
from pathlib import Path

import pytest

from ropext.converter.errors import RopextError
from ropext.converter.evaluation.report.submission import check_submission
from tests.helpers.measured import answered, needles, write
from tools.gallery.entries import RESULTS, entries
from tools.gallery.pages import page
from tools.gallery.plan import plan

FOLDERS = sorted(each.parent for each in RESULTS.glob("*/index.json"))


@pytest.fixture
def submitted(run, results, tmp_path):
    folder = tmp_path / "docs" / "tiny"
    run("report", results, "--submit", folder)
    return folder


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda each: each.name)
def test_what_the_repository_holds_is_as_its_index_says(folder):
    assert check_submission(folder)


def test_a_folder_holds_what_was_measured(run, results, submitted):
    index = json.loads((submitted / "index.json").read_text())
    assert [*index["files"]] == [f"tiny/{task}.jsonl" for task in ("niah", "passkey", "ppl", "ruler")]
    assert index["files"]["tiny/ppl.jsonl"] | {"sha256": "", "bytes": 0} == {
        "model": "tiny", "task": "ppl", "lengths": [4096, 16384], "measurements": 8, "bytes": 0, "sha256": ""
    }  # fmt: skip
    text = (submitted / "README.md").read_text()
    assert text.startswith(run("report", results).stdout)
    assert "- [tiny/niah.jsonl](tiny/niah.jsonl)" in text
    assert [each.task for each in check_submission(submitted)] == ["passkey", "niah", "ppl", "ruler"]
    assert "| [tiny](tiny/README.md) at 16k: needles in prose, nats | −10.50 | **−2.59** `dpe` (" in page(
        entries(submitted.parent), 1.0
    )


def test_questions_of_files_are_measured_again_with_their_options(run, tmp_path):
    values = [
        {**answered(None, 8192, n, "longbench2", 1.0), "document": n, "groups": ["easy", "long"]} for n in range(3)
    ]
    how = {"cot": True, "chat": False, "data_sha256": "ab" * 32}
    file = write(tmp_path / "results" / "tiny" / "longbench2.jsonl", "longbench2", values, **how)
    run("report", file, "--submit", tmp_path / "docs" / "tiny")
    (job,) = plan(tmp_path / "docs")
    assert job.words == ["longbench2", "--lengths", "8192", "--cot", "--no-chat", "--no-short"]


def test_results_whose_presets_are_unknown_have_a_plan_all_the_same(submitted):
    jobs = {job.place.stem: job for job in plan(submitted.parent)}
    assert jobs["niah"].presets == ["tiny-dpe"]
    assert " ".join(jobs["niah"].words) == "niah --lengths 4096,16384 --needles 2 --no-short --samples 4"
    assert " ".join(jobs["ruler"].words).startswith("ruler --lengths 4096,16384 ")


def test_it_is_made_again_in_place(run, submitted):
    write(submitted / "tiny" / "more.jsonl", "niah", needles(), source="large")
    with pytest.raises(RopextError, match=r"more\.jsonl: is not listed in"):
        check_submission(submitted)
    run("report", submitted, "--submit", submitted)
    assert len(check_submission(submitted)) == 5


def test_commands_lose_the_places_of_files(run, tmp_path):
    command = "ropext eval niah /home/someone/models/tiny --preset ./p.yaml --output /data/out"
    file = write(tmp_path / "in" / "niah.jsonl", "niah", needles(), command=command)
    run("report", file, "--submit", tmp_path / "out")
    first, *lines = (tmp_path / "out" / "in" / "niah.jsonl").read_text().splitlines()
    assert json.loads(first)["settings"]["command"] == "ropext eval niah tiny --preset ./p.yaml --output out"
    assert lines == file.read_text().splitlines()[1:]


def changed_line(folder):
    file = folder / "tiny" / "ppl.jsonl"
    file.write_text(file.read_text().replace('"nll": 2500.0', '"nll": 2400.0', 1))


def changed_index(folder, change):
    index = json.loads((folder / "index.json").read_text())
    change(index)
    (folder / "index.json").write_text(json.dumps(index))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (changed_line, "ppl.jsonl: is not as index.json says: sha256"),
        (lambda folder: (folder / "tiny" / "ppl.jsonl").unlink(), "ppl.jsonl: is listed in index.json and missing"),
        (lambda folder: (folder / "README.md").write_text("We win.\n"), "README.md: is not the page of these results"),
        (lambda folder: shutil.copy(folder / "tiny" / "ppl.jsonl", folder / "x.jsonl"), "x.jsonl: is not listed"),
        (lambda folder: changed_index(folder, lambda each: each.update(format=2)), "format: 1 was expected"),
        (
            lambda folder: changed_index(folder, lambda each: each["files"].update({"../x.jsonl": {}})),
            "'../x.jsonl' does not match",
        ),
        (
            lambda folder: changed_index(folder, lambda each: each["files"]["tiny/ppl.jsonl"].update(measurements=9)),
            "ppl.jsonl: is not as index.json says: measurements",
        ),
    ],
    ids=["line", "missing", "page", "unlisted", "format", "outside", "count"],
)
def test_what_was_changed_is_named(submitted, damage, message):
    damage(submitted)
    with pytest.raises(RopextError, match=message):
        check_submission(submitted)


def test_two_files_of_one_name_are_refused(run, tmp_path):
    for name in ("a", "b"):
        write(tmp_path / name / "x" / "niah.jsonl", "niah", needles(), seed=name)
    files = [Path(tmp_path / name / "x" / "niah.jsonl") for name in ("a", "b")]
    assert "rename one" in run("report", *files, "--submit", tmp_path / "out", status=2).stderr
