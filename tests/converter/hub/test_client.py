"""Where a model comes from, and what the Hub answers."""

import pytest

from ropext.converter.errors import RopextError, UsageError
from ropext.converter.hub import client as hub
from ropext.converter.hub.types import LocalSource


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("nowhere", "there is no such folder, and it is no Hub id"),
        ("a/b/c", "there is no such folder, and it is no Hub id"),
        ("", "'': there is no such folder"),
        ("../x", "there is no such folder"),
        ("a/../b", "there is no such folder"),
    ],
)
def test_sources_that_are_neither(source, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=message):
        hub.resolve(source)


def test_file_or_revision_in_place_of_a_folder(tiny_llama):
    with pytest.raises(UsageError, match="is a file; name the folder"):
        hub.resolve(str(tiny_llama / "config.json"))
    with pytest.raises(UsageError, match="local folder, so --revision main does not apply"):
        hub.resolve(str(tiny_llama), "main")


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (
            "GatedRepoError",
            "access to this model is gated: ask for access at https://.*org/name.*hf auth login",
        ),
        ("RepositoryNotFoundError", "no such folder here and no such model on the Hub.*hf auth login"),
        ("RevisionNotFoundError", "has no revision 'v9'"),
        ("LocalEntryNotFoundError", "not in the local cache; .* name a folder"),
        ("OfflineModeIsEnabled", "not in the local cache"),
        ("HfHubHTTPError", "the Hub answered: boom; try again later"),
        ("HFValidationError", "it is no Hub id: boom"),
    ],
)
def test_what_the_hub_answers(monkeypatch, error, message):
    errors = pytest.importorskip("huggingface_hub.errors")
    kind = getattr(errors, error)

    def refuse(*args, **kwargs):
        raise (kind.__new__(kind, "boom") if not issubclass(kind, ValueError | ConnectionError) else kind("boom"))

    monkeypatch.setattr("huggingface_hub.snapshot_download", refuse)
    monkeypatch.setattr(errors.HfHubHTTPError, "__str__", lambda self: "boom\nmore")
    with pytest.raises(RopextError, match=message):
        hub.resolve("org/name", "v9")


def test_offline(monkeypatch, tmp_path):
    constants = pytest.importorskip("huggingface_hub.constants")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(RopextError, match="org/name: HF_HUB_OFFLINE is set and the model is not in the local cache"):
        hub.resolve("org/name")


def test_download_is_pinned_to_the_commit(monkeypatch, tmp_path):
    pytest.importorskip("huggingface_hub")
    folder = tmp_path / "models--org--name" / "snapshots" / ("d" * 40)
    folder.mkdir(parents=True)
    asked = {}

    def download(repo_id, **kwargs):
        asked.update(kwargs, repo_id=repo_id)
        return str(folder)

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    assert hub.resolve("org/name", "main") == LocalSource(folder, "org/name", "d" * 40)
    assert asked["revision"] == "main"
    assert not any("bin" in pattern or "pth" in pattern for pattern in asked["allow_patterns"])
