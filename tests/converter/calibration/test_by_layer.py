"""Other numbers in some layers, searched after those of all layers."""

import pytest
from click.testing import CliRunner

from ropext.converter.calibration.by_layer import LayerSearch
from ropext.converter.cli.app import main
from ropext.converter.presets.load import load_preset
from tests.helpers.asked import with_tokenizer

ALL = {"parameters": {"local_window": 16, "leak": 3.0}}


def search(groups=4, fits=lambda setting: True, layers=range(10)):
    return LayerSearch(ALL, ("local_window", "leak"), layers, groups, fits)


def entries(setting):
    return setting["parameters"].get("by_layer")


def test_blocks_of_layers_move_as_long_as_that_is_better():
    wanted = ((32, 3.0), (32, 3.0), (16, 3.0), (16, 0.75))

    def scores(values, sample):
        apart = [abs(a - b) for own, best in zip(values, wanted, strict=True) for a, b in zip(own, best, strict=True)]
        return [-each for each in apart]

    found = search().find(scores, 1)
    assert found == wanted
    assert entries(search().with_values(found)) == [
        {"layers": [0, 4], "local_window": 32},
        {"layers": [8, 9], "leak": 0.75},
    ]


def test_nothing_is_written_of_layers_that_stay():
    assert search().with_values(((16, 3.0),) * 4) == ALL


def test_layers_that_a_method_leaves_alone_are_no_group():
    some = search(groups=3, layers=(5, 11, 17))
    assert entries(some.with_values(((16, 3.0), (8, 3.0), (8, 3.0)))) == [{"layers": [11, 17], "local_window": 8}]
    assert entries(some.with_values(((8, 3.0), (16, 3.0), (16, 3.0)))) == [{"layers": [5, 5], "local_window": 8}]


def test_groups_that_do_not_touch_stay_apart():
    found = entries(search().with_values(((8, 3.0), (16, 3.0), (8, 3.0), (8, 3.0))))
    assert found == [{"layers": [0, 1], "local_window": 8}, {"layers": [5, 9], "local_window": 8}]


def test_what_is_not_valid_is_not_asked():
    def fits(setting):
        return all(entry.get("local_window", 16) <= 16 for entry in entries(setting) or ())

    asked = []
    search(2, fits).find(lambda values, sample: asked.append(values) or [0.0], 1)
    assert asked
    assert all(own[0] <= 16 for values in asked for own in values)


@pytest.mark.parametrize("method", ["bands", "rerope"])
def test_a_table_of_settings_with_groups_of_keys(method, folder, tmp_path):
    asked = ["--target", "128", "--lengths", "1000", "--samples", "1", "--questions", "1"]
    asked += ["--layers", "2"] if method == "rerope" else []
    result = CliRunner().invoke(main, ["calibrate", method, str(folder), *asked, "-o", str(tmp_path / "found.yaml")])
    assert result.exit_code == 0, result.output
    rows = result.stdout.splitlines()
    key = "scale_factor" if method == "bands" else "layers"
    assert any(f"{key} " in row for row in rows[2:])


@pytest.fixture
def folder(tiny_llama):
    return with_tokenizer(tiny_llama)


def test_from_the_model_to_a_preset(folder, tmp_path):
    out = tmp_path / "found.yaml"
    asked = ["--target", "256", "--lengths", "1200", "--samples", "1", "--questions", "1", "--layers", "3"]
    result = CliRunner().invoke(main, ["calibrate", "rerope", str(folder), *asked, "--output", str(out)])
    assert result.exit_code == 0, result.output
    assert "by_layer" in result.stdout.splitlines()[0]
    assert load_preset(out).calibration["held_out"]["asked"] == 4


def test_more_groups_than_layers(folder, tmp_path):
    asked = ["--target", "256", "--layers", "4", "--output", str(tmp_path / "out.yaml")]
    result = CliRunner().invoke(main, ["calibrate", "rerope", str(folder), *asked])
    assert result.exit_code == 2
    assert "a method acts on 3 layers" in result.stderr


def test_methods_without_such_numbers(folder, tmp_path):
    asked = ["--target", "256", "--layers", "2", "--output", str(tmp_path / "out.yaml")]
    result = CliRunner().invoke(main, ["calibrate", "ntk", str(folder), *asked])
    assert result.exit_code == 2
    assert "no numbers that could differ by layer" in result.stderr
