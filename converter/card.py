"""The README of a converted checkpoint: what it is, how to load it, how it was made."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import yaml

from . import __version__, yaml_loader

if TYPE_CHECKING:
    from .baking import Baked
    from .checkpoint import Checkpoint
    from .hub import LocalSource
    from .presets import Preset

__all__ = ["make_card", "split_front_matter"]

_INHERITED = ("license", "license_name", "license_link", "language")
_LONGEST_CELL = 100

_TEMPLATE = """\
# {title}

{base} with its context window extended from {initial:,} to {target:,} tokens by **{method}**.
The weights are the base model's, unchanged; {where}

## Use

```python
from transformers import AutoModelForCausalLM, AutoTokenizer

path = "{title}"  # this repository, or the folder you have it in
tokenizer = AutoTokenizer.from_pretrained(path)
model = AutoModelForCausalLM.from_pretrained(path{trust})
```

{needs}

## Method

| | |
|---|---|
{rows}

{notes}## How it was made

    {command}

by ropext {version}, from this preset:

{preset}

`ropext.json` lists the digests of the files; `config.json` holds the numbers under `rope_ext`.

## Limits

- Nothing was measured on this checkpoint. How well it reads beyond the trained length depends on the task:
  check it on yours before you rely on it.
- {runtimes}
"""


_REMOTE = {
    "where": "the method's code and numbers are in this repository.",
    "trust": ", trust_remote_code=True",
    "needs": "It needs `torch` and `transformers` 4.55 or newer. Without `trust_remote_code=True` it does not load.",
    "runtimes": "Runtimes that have model classes of their own (vLLM, SGLang, llama.cpp, MLX) cannot run this code.",
}
_NATIVE = {
    "where": "the method is in `config.json`, in stock keys: a native export, without code.",
    "trust": "",
    "needs": "It needs `torch` and `transformers` 4.55 or newer, and no remote code.",
    "runtimes": "Other runtimes (vLLM, SGLang, MLX) read the same keys, some of them differently; llama.cpp's\n"
    "  converter drops some. Compare the first logits before you rely on one.",
}


def make_card(checkpoint: Checkpoint, preset: Preset, baked: Baked, local: LocalSource, *, native: bool = False) -> str:
    """Write the README of a converted checkpoint.

    Args:
        checkpoint: the base; licence and language are taken over from its own card, whose text is kept below.
        preset: what it is converted with.
        baked: the parameters, defaults filled in.
        local: where the base came from.
        native: it loads without remote code.

    Returns:
        Markdown with YAML front matter as the Hub reads it.
    """
    inherited, base_text = split_front_matter(checkpoint.text("README.md") or "")
    name = local.repo_id or checkpoint.folder.name
    body = _TEMPLATE.format(
        title=preset.name,
        base=f"[{name}](https://huggingface.co/{name})" if local.repo_id else f"The model `{name}`",
        initial=preset.initial_window,
        target=preset.target_window,
        method=preset.method,
        rows="\n".join(_rows(checkpoint, preset, baked, local)),
        notes="".join(f"- {note}\n" for note in baked.notes) + ("\n" if baked.notes else ""),
        command=_command(preset, local, name, native=native),
        **(_NATIVE if native else _REMOTE),
        version=__version__,
        preset=_fenced(preset.text, "yaml"),
    )
    if base_text.strip():
        body += f"\n# The base model's card\n\n{base_text.strip()}\n"
    return f"---\n{_front_matter(inherited, preset, local, native=native)}---\n\n{body}"


def split_front_matter(text: str) -> tuple[dict[str, Any], str]:
    """Split a model card into its metadata and its text.

    Args:
        text: the README.

    Returns:
        The metadata, empty where there is none or it is not valid YAML, and the Markdown after it.
    """
    match = re.match(r"\ufeff?---[ \t]*\r?\n(.*?)\r?\n---[ \t]*(?:\r?\n|$)", text, re.DOTALL)
    if not match:
        return {}, text
    return yaml_loader.metadata(match[1]), text[match.end() :]


def _front_matter(inherited: Mapping[str, Any], preset: Preset, local: LocalSource, *, native: bool) -> str:
    metadata = {key: inherited[key] for key in _INHERITED if key in inherited}
    if local.repo_id:
        metadata["base_model"] = local.repo_id
    metadata |= {
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
        "tags": ["ropext", "long-context", "rope", preset.method, *([] if native else ["custom_code"])],
    }
    return str(yaml.safe_dump(metadata, sort_keys=False, allow_unicode=True))


def _rows(checkpoint: Checkpoint, preset: Preset, baked: Baked, local: LocalSource) -> list[str]:
    facts = checkpoint.facts
    revision = f" at `{local.revision}`" if local.revision else ""
    rows = {
        "base model": f"{local.repo_id or checkpoint.folder.name}{revision}",
        "preset": preset.name,
        "window": f"{preset.initial_window:,} → {preset.target_window:,} tokens",
        "base RoPE": f"θ {facts.rope_theta:g}, {facts.rope_type}, trained to {facts.trained_length:,} tokens",
        **{f"`{key}`": _cell(value) for key, value in baked.parameters.items()},
        "references": ", ".join(preset.references),
    }
    return [f"| {key} | {value} |" for key, value in rows.items() if value]


def _cell(value: Any) -> str:
    text = json.dumps(value)
    if len(text) > _LONGEST_CELL and isinstance(value, list):
        text = f"{len(value)} numbers, in config.json"
    return text.replace("|", "\\|")


def _command(preset: Preset, local: LocalSource, name: str, *, native: bool) -> str:
    words = ["ropext", "convert", name, "--preset", preset.name]
    words += ["--revision", local.revision] if local.repo_id and local.revision else []
    words += ["--native"] if native else []
    for override in preset.overrides:
        words += ["--set", override]
    return shlex.join(words)


def _fenced(text: str, language: str) -> str:
    """Put text into a code block whose fence is longer than any within it."""
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{text.rstrip()}\n{fence}"
