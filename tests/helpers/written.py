"""A small plan, and what lies in a folder."""

from ropext.converter.convert.config import dump_json
from ropext.converter.convert.plan import Plan, PlannedFile
from ropext.converter.convert.record import Record, RecordedPreset
from ropext.converter.hub.types import LocalSource

WEIGHTS = b"weights" * 1000


def small_plan(folder):
    """Plan three files to link, to copy and to generate, and the two that are always there."""
    source = folder / "source"
    source.mkdir()
    (source / "model.safetensors").write_bytes(WEIGHTS)
    (source / "LICENSE").write_text("terms")
    config = {"model_type": "llama"}
    record = Record("dpe", False, RecordedPreset("p", "name: p"), LocalSource(source))
    files = (
        PlannedFile("model.safetensors", "link", len(WEIGHTS), "", source=source / "model.safetensors"),
        PlannedFile("LICENSE", "copy", 5, "", source=source / "LICENSE"),
        PlannedFile("code.py", "generate", 4, "", content=b"code"),
        PlannedFile("ropext.json", "generate", None, ""),
        PlannedFile("config.json", "generate", None, "", content=dump_json(config)),
    )
    return Plan("p", "dpe", source, files, config, (), record, ())


def entries(folder):
    return sorted(path.name for path in folder.iterdir())
