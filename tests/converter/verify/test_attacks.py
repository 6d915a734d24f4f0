"""What a stranger can do to a converted folder, and what `verify` says of it: never that it is good."""

import shutil
import sys
from pathlib import Path

import pytest

from ropext.converter.convert.api import convert_checkpoint
from ropext.converter.converted.upgrade import upgrade
from ropext.converter.errors import RopextError
from ropext.converter.presets.load import load_preset
from ropext.converter.verify.checks import verify
from tests.helpers.tampered import EVIL, redigest
from tests.helpers.tamperings import BAD, HONEST, LOCAL, UNKNOWN, untouched
from tests.modeling.test_loading import write_preset

OPENED = []
"""Paths that were opened while a test asks for them."""


def _record_opens(event, arguments):
    if OPENED and event == "open":
        OPENED.append(str(arguments[0]))


sys.addaudithook(_record_opens)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Not to be changed."""
    return untouched(tmp_path_factory.mktemp("made"))


@pytest.fixture
def folder(made, tmp_path):
    return Path(shutil.copytree(made, tmp_path / "converted"))


def test_there_are_enough_of_them():
    assert len(BAD) + len(UNKNOWN) - len(LOCAL) >= 60
    assert len(HONEST) >= 20


@pytest.mark.parametrize("name", BAD)
def test_a_tampered_folder_is_bad(folder, name):
    BAD[name](folder)
    report = verify(str(folder), quick=name != "a weight flipped" and "model.safetensors" not in name)
    if not report.bad:
        report = verify(str(folder))
    assert report.verdict == "bad", report


@pytest.mark.parametrize("name", ["code for mlx-lm", "chunks for vLLM"])
def test_a_native_export_has_no_key_of_other_runtimes(made, tmp_path, name):
    """mlx-lm before 0.32 runs the file of any name that `model_file` gives, a hidden one too."""
    preset = load_preset(str(write_preset(made.parent, "linear")))
    folder = convert_checkpoint(preset, None, tmp_path / "out", link="copy", native=True).output
    (folder / ".evil.py").write_text(EVIL)
    assert not verify(str(folder), quick=True).bad
    BAD[name](folder)
    assert verify(str(folder), quick=True).bad == ["config"]


@pytest.mark.parametrize("name", UNKNOWN)
def test_what_is_not_known_is_not_good(folder, name):
    UNKNOWN[name](folder)
    assert verify(str(folder)).verdict == "incomplete"


@pytest.mark.parametrize("name", HONEST)
def test_an_honest_folder_is_good(folder, name):
    HONEST[name](folder)
    report = verify(str(folder))
    assert report.verdict == "good", report


@pytest.mark.parametrize(
    ("link", "digests", "verdict"),
    [
        ("copy", None, "good"),
        ("hardlink", None, "good"),
        ("hardlink", False, "incomplete"),
        ("symlink", None, "incomplete"),
        ("symlink", False, "incomplete"),
        ("auto", True, "good"),
    ],
)
def test_however_the_weights_were_linked(made, tmp_path, link, digests, verdict):
    preset = load_preset(str(made.parent / "tiny-dpe.yaml"))
    folder = convert_checkpoint(preset, None, tmp_path / "out", link=link, digests=digests).output
    report = verify(str(folder))
    assert report.verdict == verdict, report
    assert report.unchecked in ([], ["weights"])


@pytest.mark.parametrize("name", ["scores of the system", "a path of the system", "scores within parameters"])
def test_nothing_outside_is_opened(folder, name):
    BAD[name](folder)
    (folder / "LICENSE").unlink()
    (folder / "LICENSE").symlink_to("/etc/passwd")
    OPENED.append("-")
    try:
        verify(str(folder), quick=True)
        with pytest.raises(RopextError):
            upgrade(folder)
    finally:
        opened = list(OPENED)
        OPENED.clear()
    assert any(path.endswith("ropext.json") for path in opened)
    assert "/etc/passwd" not in opened


@pytest.mark.parametrize("way", ["folder", "record"])
def test_upgrade_deletes_and_writes_nothing_outside(folder, tmp_path, way):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious.py").write_text("precious")
    if way == "folder":
        (folder / "sub").symlink_to(outside)
        redigest(folder, "sub/precious.py")
    else:
        redigest(folder, change=lambda r: r["files"].update({"../outside/precious.py": {"sha256": None, "bytes": 8}}))
    (folder / ".config.json.before-upgrade").symlink_to(outside / "precious.py")
    (folder / "rope_ext_dpe.py").unlink()
    try:
        upgrade(folder)
    except RopextError:
        assert way == "record"
    assert (outside / "precious.py").read_text() == "precious"
