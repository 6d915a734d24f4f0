"""lm-evaluation-harness, run on a model as anybody would load it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from ropext.converter.errors import RopextError, UsageError
from ropext.converter.names import CONFIG, PROVENANCE

__all__ = ["require_harness", "run_harness"]


def require_harness() -> None:
    """Refuse to go on without lm-evaluation-harness.

    Raises:
        RopextError: it is not installed.
    """
    if find_spec("lm_eval") is None:
        raise RopextError("this takes lm-evaluation-harness: pip install 'lm-eval[hf]'")


def run_harness(
    model: str, tasks: str, batch_size: str, output: Path, device: str, dtype: str, extra: Sequence[str]
) -> None:
    """Run the harness on a folder; a converted model's own code is executed.

    Args:
        model: the folder.
        tasks: names of tasks or groups, separated by commas.
        batch_size: as the harness takes it.
        output: folder of the results, which go to `<model>/lm-eval` in it.
        device: as the harness takes it, or `auto`.
        dtype: of the weights.
        extra: options of the harness itself.

    Raises:
        UsageError: the folder holds no model.
        RopextError: the harness failed.
    """
    folder = Path(model)
    if not (folder / CONFIG).is_file():
        raise UsageError(f"{model}: is no folder with a config.json; convert it, or download it, first")
    trust = (folder / PROVENANCE).is_file()
    how = f"pretrained={folder},dtype={dtype}" + (",trust_remote_code=True" if trust else "")
    command = [sys.executable, "-m", "lm_eval", "run", "--model", "hf", "--model_args", how]
    command += ["--tasks", tasks, "--batch_size", batch_size]
    command += ["--output_path", str(output / folder.name / "lm-eval"), *extra]
    command += [] if device == "auto" else ["--device", device]
    if status := subprocess.run(command).returncode:
        raise RopextError(f"{model}: lm-evaluation-harness ended with status {status}; what it said stands above")
