"""A file that is written beside its place and renamed into it."""

import os
import stat

import pytest

from ropext.converter.files.replace import beside, replace_file


@pytest.fixture
def umask():
    before = os.umask(0o027)
    yield
    os.umask(before)


def mode(file):
    return stat.S_IMODE(file.stat().st_mode)


def test_what_is_linked_to_the_old_file_stays(tmp_path):
    file, linked = tmp_path / "a.json", tmp_path / "b.json"
    file.write_text("old")
    os.link(file, linked)
    replace_file(file, b"new")
    assert (file.read_text(), linked.read_text()) == ("new", "old")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.json", "b.json"]


def test_nothing_is_left_of_a_failure(tmp_path):
    file = tmp_path / "a.json"
    file.write_text("old")

    def fail():
        with beside(file) as temp:
            temp.write_text("ne")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert [path.read_text() for path in tmp_path.iterdir()] == ["old"]


def test_suffix(tmp_path):
    with beside(tmp_path / "results.png") as temp:
        assert temp.suffix == ".png"
        assert temp.name.startswith(".results")


def test_a_new_file_is_as_the_umask_has_it(tmp_path, umask):
    file = tmp_path / "a"
    with beside(file) as temp:
        temp.write_bytes(b"1")
        temp.chmod(0o600)  # as safetensors does
    assert mode(file) == 0o640


@pytest.mark.parametrize("before", [0o600, 0o664])
def test_who_could_read_the_old_one_can_read_the_new_one(tmp_path, umask, before):
    file = tmp_path / "a"
    file.touch()
    file.chmod(before)
    replace_file(file, b"1")
    assert mode(file) == before
