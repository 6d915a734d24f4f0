"""What tests of `ropext verify` do to folders, and what they read of reports."""

import json

from ropext.converter.convert.api import convert_checkpoint
from ropext.converter.convert.config import dump_json
from ropext.converter.model_code import sha256
from ropext.converter.presets.load import load_preset
from ropext.converter.verify.checks import verify
from tests.helpers.checkpoints import sealed
from tests.modeling.test_loading import write_preset

NATIVE = ("dprope", "linear", "ntk", "yarn", "dynamic_ntk")
CHECKS = ("record", "files", "weights", "headers", "code", "config", "reference", "base")


def statuses(report):
    return {check.name: check.status for check in report.checks}


def texts(report):
    return {check.name: check.text for check in report.checks}


def flip(file, at, bit=0):
    data = bytearray(file.read_bytes())
    data[at] ^= 1 << bit
    file.write_bytes(data)


def record_anew(folder):
    """Bring the digests up to date, as somebody would who changes a file on purpose."""
    record = json.loads((folder / "ropext.json").read_text())
    for path in record["files"]:
        data = (folder / path).read_bytes()
        record["files"][path] = {"sha256": sha256(data), "bytes": len(data)}
    record["code"] = {path: entry["sha256"] for path, entry in record["files"].items() if path.endswith(".py")}
    (folder / "ropext.json").write_bytes(sealed(record))


def change_config(folder, change):
    """Edit `config.json` and its digest, so that only what it says can give it away."""
    config = json.loads((folder / "config.json").read_text())
    change(config)
    (folder / "config.json").write_bytes(dump_json(config))
    record_anew(folder)


def converted(base, place, name, *, native=False):
    """Convert a base by the preset of a tiny case."""
    output = place / f"{name}-{'native' if native else 'remote'}"
    return convert_checkpoint(load_preset(str(write_preset(place, name))), str(base), output, native=native).output


def require_good(folder, *unchecked):
    """Hold a folder to all checks but some; `base` alone among these is one that has nothing to check."""
    report = verify(str(folder))
    other = "none" if unchecked == ("base",) else "unchecked"
    assert statuses(report) == {name: other if name in unchecked else "good" for name in CHECKS}, report
    return texts(report)
