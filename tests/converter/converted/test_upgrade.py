"""`ropext upgrade` and `ropext card`: a converted folder, later."""

import json
import os
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner
from huggingface_hub import ModelCard

from ropext.converter.cli.app import main
from ropext.converter.convert.api import convert_checkpoint
from ropext.converter.convert.card import kept_of_card
from ropext.converter.convert.config import dump_json
from ropext.converter.converted.upgrade import rewrite_card, upgrade
from ropext.converter.errors import RopextError, UsageError
from ropext.converter.files.model_card import split
from ropext.converter.model_code import sha256
from ropext.converter.presets.load import load_preset
from ropext.converter.verify.checks import verify
from tests.helpers.checkpoints import sealed


@pytest.fixture
def current(tiny_llama, tiny_preset, tmp_path):
    (tiny_llama / "README.md").write_text("---\nlicense: mit\nlanguage: no\ntags: [old]\n---\n# Tiny\n\n## Its own\n")
    return convert_checkpoint(load_preset(str(tiny_preset)), None, tmp_path / "current").output


@pytest.fixture
def older(current, tmp_path):
    """The same, as if an older ropext had written it: with other code, a file more and one less."""
    folder = Path(shutil.copytree(current, tmp_path / "older"))
    (folder / "rope_ext_dpe.py").write_text("# older\n")
    (folder / "rope_ext_gone.py").write_text("# gone\n")
    (folder / "rope_ext_band.py").unlink()
    (folder / "LICENSE.ropext").unlink()
    record = json.loads((folder / "ropext.json").read_text()) | {"ropext_version": "0.0.9"}
    del record["files"]["rope_ext_band.py"], record["files"]["LICENSE.ropext"]
    record["files"]["rope_ext_gone.py"] = {"sha256": "0" * 64, "bytes": 7}
    (folder / "ropext.json").write_bytes(dump_json(record))
    config = json.loads((folder / "config.json").read_text())
    config["rope_ext"] |= {"ropext_version": "0.0.9", "parameters": {}}
    (folder / "config.json").write_bytes(dump_json(config))
    return folder


@pytest.fixture
def first_format(current, tmp_path):
    """The same in the first format of the block: no pairs, other code, no file for the configuration class."""
    folder = Path(shutil.copytree(current, tmp_path / "first"))
    config, record = (json.loads((folder / name).read_text()) for name in ("config.json", "ropext.json"))
    for path in folder.glob("*.py"):
        path.unlink()
    stems = ["modeling_llama_ext", *(f"rope_ext_{name}" for name in ("config", "dpe", "geometry", "methods", "model"))]
    code = {}
    for stem in stems:
        data = f"# {stem}, as it was\n".encode()
        (folder / f"{stem}.py").write_bytes(data)
        code[f"{stem}.py"] = {"sha256": sha256(data), "bytes": len(data)}
    files = list(record["files"].items())
    at = next(i for i, (path, _) in enumerate(files) if path.endswith(".py"))
    others = [(path, entry) for path, entry in files[at:] if not path.endswith(".py")]
    record["files"] = {**dict(files[:at]), **code, **dict(others)}
    config["auto_map"] = {
        auto: f"modeling_llama_ext.{reference.partition('.')[2]}" for auto, reference in config["auto_map"].items()
    }
    del config["rope_ext"]["pairs"]
    config["rope_ext"]["format"] = 1
    assert list(config["rope_ext"]["base"])[:3] == ["hidden_act", "rope_theta", "rope_scaling"]
    data = dump_json(config)
    (folder / "config.json").write_bytes(data)
    record["files"]["config.json"] = {"sha256": sha256(data), "bytes": len(data)}
    record["code"] = {path: entry["sha256"] for path, entry in record["files"].items() if path.endswith(".py")}
    (folder / "ropext.json").write_bytes(sealed(record))
    return folder


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def run(*args, status=0):
    result = CliRunner().invoke(main, [str(arg) for arg in args])
    assert result.exit_code == status, result.output
    return result


# Upgrading


def test_upgraded_is_what_a_new_conversion_is(older, current):
    inode = (older / "model.safetensors").stat().st_ino
    done = upgrade(older)
    assert contents(older) == contents(current)
    assert (older / "model.safetensors").stat().st_ino == inode
    assert done.removed == ("rope_ext_gone.py",)
    assert {"rope_ext_dpe.py", "rope_ext_band.py", "LICENSE.ropext", "ropext.json", "config.json"} == set(done.written)
    assert not verify(str(older), quick=True).bad


def test_first_format_becomes_the_present_one(first_format, current):
    inode = (first_format / "model.safetensors").stat().st_ino
    done = upgrade(first_format)
    assert contents(first_format) == contents(current)
    assert (first_format / "model.safetensors").stat().st_ino == inode
    assert set(done.removed) == {"rope_ext_config.py", "rope_ext_geometry.py", "rope_ext_methods.py"}
    assert "configuration_llama_ext.py" in done.written
    assert verify(str(first_format)).good


def test_verify_says_what_to_do_about_an_older_format(first_format):
    found = {check.name: check for check in verify(str(first_format)).checks}
    advice = "rope_ext.format: is 1, and this ropext reads 2; `ropext upgrade` brings it up to date"
    assert found["code"].text == advice
    assert found["config"].text.startswith(advice)
    assert found["headers"].text == advice
    assert {found[name].status for name in ("code", "config")} == {"bad"}
    assert {found[name].status for name in ("record", "files", "weights")} == {"good"}


def test_again_is_nothing(current):
    before = {path.name: path.stat().st_mtime_ns for path in current.iterdir()}
    assert "is up to date with ropext" in run("upgrade", current).stdout
    assert {path.name: path.stat().st_mtime_ns for path in current.iterdir()} == before


def test_report(older):
    assert "removed: rope_ext_gone.py" in run("upgrade", older).stdout
    assert json.loads(run("upgrade", older, "--json").stdout)["written"] == []


def test_kill_at_each_step(older, current, tmp_path, monkeypatch):
    """Whichever step is the last, the folder is the old one, cannot be loaded, or is the new one."""
    real, old = os.replace, (older / "config.json").read_bytes()
    for last in range(100):
        folder = Path(shutil.copytree(older, tmp_path / f"killed-{last}"))
        left = [last]

        def step(source, target, left=left):
            if left[0] == 0:
                raise KeyboardInterrupt
            left[0] -= 1
            real(source, target)

        monkeypatch.setattr(os, "replace", step)
        try:
            upgrade(folder)
            break
        except KeyboardInterrupt:
            if (folder / "config.json").exists():
                assert (folder / "config.json").read_bytes() == old
                assert (folder / "rope_ext_dpe.py").read_text() == "# older\n"
        monkeypatch.setattr(os, "replace", real)
        upgrade(folder)
        assert contents(folder) == contents(current)
    assert last > 3


def test_full_disk(older, monkeypatch):
    before = contents(older)

    real = Path.write_bytes

    def fail(self, data):
        if older in self.parents:
            raise OSError(28, "No space left on device")
        return real(self, data)

    monkeypatch.setattr(Path, "write_bytes", fail)
    with pytest.raises(RopextError, match="No space left on device; run the same command again"):
        upgrade(older)
    monkeypatch.undo()
    assert contents(older) == before


def test_refused(current, tmp_path):
    record = json.loads((current / "ropext.json").read_text())
    (current / "ropext.json").write_bytes(dump_json({**record, "ropext_version": "99.0"}))
    with pytest.raises(RopextError, match=r"was made by ropext 99.0, which is newer"):
        upgrade(current)
    with pytest.raises(UsageError, match="there is no such folder"):
        upgrade(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="is no folder that ropext converted"):
        upgrade(tmp_path / "empty")
    snapshot = tmp_path / "models--a--b" / "snapshots" / "c"
    snapshot.mkdir(parents=True)
    with pytest.raises(UsageError, match="is in the Hub's cache"):
        upgrade(snapshot)


# The card


def test_card_names_repository_and_revision(current):
    run("card", current, "--repo", "me/tiny-256", "--revision", "c" * 40)
    text = (current / "README.md").read_text()
    assert 'path = "me/tiny-256"  # this repository, or the folder you have it in\n' in text
    assert f'revision = "{"c" * 40}"\n' in text
    assert "from_pretrained(path, revision=revision, trust_remote_code=True)" in text
    card = ModelCard(text)
    assert (card.data.license, card.data.language, card.data.library_name) == ("mit", "no", "transformers")
    assert card.data.tags == ["ropext", "long-context", "rope", "dpe", "custom_code", "old"]
    assert text.endswith("# The base model's card\n\n# Tiny\n\n## Its own\n")
    assert not verify(str(current), quick=True).bad
    run("card", current)
    assert (current / "README.md").read_text() == text


def test_tag_of_a_push_does_not_stay(current):
    """What is written anew is no longer what the tag was called after."""
    run("card", current, "--repo", "me/tiny-256", "--revision", "ropext-0123456789")
    assert 'revision = "ropext-0123456789"\n' in (current / "README.md").read_text()
    run("card", current)
    text = (current / "README.md").read_text()
    assert 'path = "me/tiny-256"' in text
    assert 'revision = "main"  # better one commit, which cannot change\n' in text


def test_card_is_as_it_was_written(current):
    before = (current / "README.md").read_text()
    assert rewrite_card(current) == before


def test_what_others_wrote_stays(current):
    card = current / "README.md"
    text = card.read_text()
    text = text.replace("## Limits", "## Results\n\n```\n## no heading\n```\n\n| a |\n\n## Limits")
    card.write_text(text.replace("license: mit", "license: mit\ndatasets: [some/data]"))
    text = rewrite_card(current)
    assert "## Results\n\n```\n## no heading\n```\n\n| a |\n\n## Use" in text
    assert split(text)[0]["datasets"] == ["some/data"]
    assert "Nothing was measured" not in text
    assert [section.title for section in kept_of_card(text).sections] == ["Results"]


def test_comment_of_a_preset_is_no_section(current):
    assert kept_of_card("# t\n\n```yaml\n## made of\nname: x\n```\n").sections == ()


def test_metadata_that_the_hub_refuses(current):
    (current / "README.md").write_text("---\nlicense: [a, b]\n---\n")
    with pytest.raises(RopextError, match="license is"):
        rewrite_card(current)


def test_card_of_a_bad_folder(current):
    (current / "rope_ext_dpe.py").write_text("")
    assert "no card was written" in run("card", current, "--verify", status=1).stderr
    assert "is no Hub id" in run("card", current, "--repo", "x", status=2).stderr
