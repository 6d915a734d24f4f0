"""The README of a converted checkpoint: what it is, how to load it, how it was made."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import yaml

from ropext.converter import __version__
from ropext.converter.errors import RopextError
from ropext.converter.files import yaml_document

if TYPE_CHECKING:
    from ropext.converter.checkpoint.facts import ModelFacts
    from ropext.converter.hub.types import LocalSource
    from ropext.converter.methods.base import Baked
    from ropext.converter.preset import Preset

__all__ = [
    "Kept",
    "kept_of_base",
    "kept_of_card",
    "make_card",
    "names_tag",
    "require_valid",
    "split_front_matter",
    "with_repository",
    "with_tag",
]

_INHERITED = ("license", "license_name", "license_link", "language", "datasets", "pipeline_tag", "tags")
_LONGEST_CELL = 100
_BASE_CARD = "# The base model's card"
_SECTIONS = ("Use", "Method", "How it was made", "Checked", "Limits")
_HERE = "  # this repository, or the folder you have it in"
_MAIN = 'revision = "main"  # better one commit, which cannot change'
_TAG = "ropext-[0-9a-f]{10}"
_TAGGED = 'revision = "{tag}"  # a tag of this repository, named after what is in it'

_TEMPLATE = """\
# {title}

{base} with its context window extended from {initial:,} to {target:,} tokens by **{method}**.
The weights are the base model's, unchanged; {where}

## Use

```python
from transformers import AutoModelForCausalLM, AutoTokenizer

path = "{path}"{here}
{revision}
tokenizer = AutoTokenizer.from_pretrained(path, revision=revision)
model = AutoModelForCausalLM.from_pretrained(path, revision=revision{trust})
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

## Checked

{checked}

{sections}## Limits

- {measured}How well it reads beyond the trained length depends on the task:
  check it on yours before you rely on it.
- {runtimes}
"""


_CHECKED = """\
The preset was held against the base's configuration, and each file of weights against its header and the index.
`ropext verify` compares files with their digests, code with ropext's, and the model with a dense reference."""

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


@dataclass(frozen=True)
class Kept:
    """What a card takes over from another.

    Attributes:
        metadata: of its front matter.
        base_text: the base's own card.
        sections: Markdown that somebody else wrote into the converted checkpoint's card, such as results.
    """

    metadata: Mapping[str, Any]
    base_text: str
    sections: str = ""


def kept_of_base(text: str) -> Kept:
    """Find what a converted checkpoint's card takes over from the base's."""
    metadata, base_text = split_front_matter(text)
    return Kept({key: metadata[key] for key in _INHERITED if key in metadata}, base_text)


def kept_of_card(text: str) -> Kept:
    """Find what a converted checkpoint's card takes over from an earlier one: all that is not written anew."""
    metadata, body = split_front_matter(text)
    own, _, base_text = body.partition(f"\n{_BASE_CARD}\n")
    return Kept(metadata, base_text, "".join(f"{part.strip()}\n\n" for part in _foreign_sections(own)))


def _foreign_sections(text: str) -> list[str]:
    """Find the sections whose headings `make_card` does not write; a heading within a block of code is none."""
    sections: list[str] = []
    kept, fence = False, ""
    for line in text.splitlines(keepends=True):
        marks = re.match("`{3,}", line)
        if marks and not fence:
            fence = marks[0]
        elif marks and line.strip() == fence:
            fence = ""
        elif not fence and line.startswith("## "):
            kept = line[3:].strip() not in _SECTIONS
            sections += [""] if kept else []
        if kept:
            sections[-1] += line
    return sections


def make_card(
    facts: ModelFacts,
    kept: Kept,
    preset: Preset,
    baked: Baked,
    local: LocalSource,
    *,
    native: bool = False,
    repo_id: str | None = None,
    revision: str | None = None,
    checked: Sequence[str] = (),
) -> str:
    """Write the README of a converted checkpoint.

    Args:
        facts: of the base.
        kept: what another card says that stays.
        preset: what it is converted with.
        baked: the parameters, defaults filled in.
        local: where the base came from.
        native: it loads without remote code.
        repo_id: where it is published, if that is known.
        revision: the commit to load from there.
        checked: what `ropext verify` found, line by line.

    Returns:
        Markdown with YAML front matter as the Hub reads it.
    """
    name = local.repo_id or local.folder.name
    body = _TEMPLATE.format(
        title=preset.name,
        path=repo_id or preset.name,
        here=_HERE,
        revision=f'revision = "{revision}"' if revision else _MAIN,
        base=f"[{name}](https://huggingface.co/{name})" if local.repo_id else f"The model `{name}`",
        initial=preset.initial_window,
        target=preset.target_window,
        method=preset.method,
        rows="\n".join(_rows(facts, preset, baked, local, name)),
        notes="".join(f"- {note}\n" for note in baked.notes) + ("\n" if baked.notes else ""),
        command=_command(preset, local, name, native=native),
        **(_NATIVE if native else _REMOTE),
        version=__version__,
        preset=_fenced(preset.text, "yaml"),
        checked="\n".join(checked) or _CHECKED,
        sections=kept.sections,
        measured="" if kept.sections else "Nothing was measured on this checkpoint. ",
    )
    if kept.base_text.strip():
        body += f"\n{_BASE_CARD}\n\n{kept.base_text.strip()}\n"
    return f"---\n{_front_matter(kept.metadata, preset, local, native=native)}---\n\n{body}"


def with_repository(text: str, repo_id: str) -> str:
    """Name the repository in a card's snippet, where the card still has the line that `make_card` writes."""
    line = rf'^path = "[^"\n]*"{re.escape(_HERE)}$'
    return re.sub(line, f'path = "{repo_id}"{_HERE}', text, count=1, flags=re.MULTILINE)


def with_tag(text: str, tag: str | None) -> str:
    """Let a card's snippet load a tag, or `main` again, where it names nothing else and is as `make_card` writes it."""
    line = _TAGGED.format(tag=tag) if tag else _MAIN
    return re.sub(rf'^revision = "(?:main|{_TAG})"(?:  # .*)?$', line, text, count=1, flags=re.MULTILINE)


def names_tag(revision: str) -> bool:
    """Whether a revision is a tag that `ropext push` makes."""
    return re.fullmatch(_TAG, revision) is not None


def require_valid(text: str, name: str) -> None:
    """Hold a card against what the Hub's client knows of metadata, without asking the Hub.

    Raises:
        RopextError: it says what is wrong.
    """
    from huggingface_hub import ModelCard

    try:
        card: Any = ModelCard(text)
        metadata = card.data.to_dict()
    except (ValueError, TypeError, yaml.YAMLError) as error:
        raise RopextError(f"{name}: its metadata is not valid: {error}") from None
    for key in ("license", "license_name", "license_link", "library_name", "pipeline_tag"):
        if not isinstance(metadata.get(key, ""), str):
            raise RopextError(f"{name}: its metadata is not valid: {key} is {metadata[key]!r}, and has to be text.")
    for key in ("base_model", "datasets", "language", "tags"):
        values = metadata.get(key, [])
        if not all(isinstance(value, str) for value in (values if isinstance(values, list) else [values])):
            raise RopextError(f"{name}: its metadata is not valid: {key} is {values!r}, and has to be text or a list.")


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
    return yaml_document.metadata(match[1]), text[match.end() :]


def _front_matter(kept: Mapping[str, Any], preset: Preset, local: LocalSource, *, native: bool) -> str:
    tags = ["ropext", "long-context", "rope", preset.method, *([] if native else ["custom_code"])]
    theirs = kept.get("tags")
    theirs = [each for each in theirs if isinstance(each, str)] if isinstance(theirs, list) else []
    pipeline = kept.get("pipeline_tag")
    own: dict[str, Any] = {"base_model": local.repo_id} if local.repo_id else {}
    own["library_name"] = "transformers"
    own["pipeline_tag"] = pipeline if isinstance(pipeline, str) else "text-generation"
    metadata = {key: value for key, value in kept.items() if key not in own and key != "tags"}
    if "language" in metadata:
        metadata["language"] = _languages(metadata["language"])
    metadata |= {**own, "tags": list(dict.fromkeys([*tags, *theirs]))}
    return str(yaml.safe_dump(metadata, sort_keys=False, allow_unicode=True))


def _languages(value: Any) -> Any:
    """Norwegian is `no`, which YAML reads as false."""
    if isinstance(value, list):
        return [_languages(each) for each in value]
    return "no" if value is False else value


def _rows(facts: ModelFacts, preset: Preset, baked: Baked, local: LocalSource, name: str) -> list[str]:
    revision = f" at `{local.revision}`" if local.revision else ""
    rows = {
        "base model": f"{name}{revision}",
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
