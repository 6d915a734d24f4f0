"""The README of a converted checkpoint: what it is, how to load it, how it was made."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import TYPE_CHECKING, Any

import yaml

from ropext.converter import __version__, mlx_code
from ropext.converter.files.model_card import Section, front_matter, headings, sections, split
from ropext.converter.hub.client import is_hub_id
from ropext.converter.methods.registry import method
from ropext.converter.names import CODE_LICENSE
from ropext.converter.text import in_markdown, printable

if TYPE_CHECKING:
    from ropext.converter.checkpoint.facts import ModelFacts
    from ropext.converter.hub.types import LocalSource
    from ropext.converter.methods.base import Baked
    from ropext.converter.preset import Preset

__all__ = [
    "BASE_CARD",
    "RESULTS",
    "UNMEASURED",
    "Kept",
    "Published",
    "kept_of_base",
    "kept_of_card",
    "make_card",
    "published",
    "results_place",
    "with_repository",
    "with_tag",
]

BASE_CARD = "The base model's card"
"""The heading under which that is."""
RESULTS = "Results"
"""The heading under which results are."""
UNMEASURED = "Nothing was measured on this checkpoint. "

_INHERITED = ("license", "license_name", "license_link", "language", "datasets", "pipeline_tag", "tags")
_LONGEST_CELL = 100
_OWN = ("Use", "Method", "How it was made", "Checked", "Limits", "License")
_HERE = "  # this repository, or the folder you have it in"
_MAIN = 'revision = "main"  # better one commit, which cannot change'
_TAG = "ropext-[0-9a-f]{10}"
_TAGGED = 'revision = "{tag}"  # a tag of this repository, named after what is in it'
_ARXIV = re.compile(r"arXiv (\d{4}\.\d{4,5})")
_PRESET_FILE = "preset.yaml"

_TEMPLATE = """\
# {title}

{base} with its context window extended from {initial:,} to {target:,} tokens by **{method}**.
The weights are the base model's, unchanged; {where}

{results}## Use

```python
from transformers import AutoModelForCausalLM, AutoTokenizer

path = "{path}"{here}
{revision}
tokenizer = AutoTokenizer.from_pretrained(path, revision=revision)
model = AutoModelForCausalLM.from_pretrained(path, revision=revision{trust})

prompt = open("long.txt").read() + "\\n\\nIn short:"  # up to {target:,} tokens with the answer
inputs = tokenizer(prompt, return_tensors="pt").to(model.device)
output = model.generate(**inputs, max_new_tokens=100)
print(tokenizer.decode(output[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True))
```

{needs}

## Method

{about}
Nothing was trained.

| | |
|---|---|
{rows}

{notes}## How it was made

    {command}

by ropext {version}, {from_preset}:

{preset}

`ropext.json` lists the digests of the files; `config.json` holds the numbers under `rope_ext`.

## Checked

{checked}

To check it again with ropext {version}:

    ropext verify {verified}

This compares files with their digests, code with ropext's, `config.json` with what the preset gives, and the model with
a dense reference. It runs none of the code in this repository.

{sections}## Limits

- {measured}How well it reads beyond the trained length depends on the task:
  check it on yours before you rely on it.
- {mlx}{runtimes}
{license}"""

_CHECKED = (
    "The preset was held against the base's configuration, and each file of weights against its header and the index."
)
_REMOTE = {
    "where": "the method's code and numbers are in this repository.",
    "trust": ", trust_remote_code=True",
    "needs": "It needs `torch` and `transformers` 4.55 or newer. Without `trust_remote_code=True` it does not load.",
    "runtimes": "Runtimes that have model classes of their own (SGLang, llama.cpp) cannot run this code.",
    "license": f"""
## License

The weights, the tokenizer and the base model's card are under the base model's terms. The code (`*.py`) is ropext's,
under the Apache License 2.0, which is in `{CODE_LICENSE}`.
""",
}
_IN_MLX = """MLX runs `mlx_rope_ext.py`: `mlx_lm.server --model PATH --trust-remote-code`, PATH as above, with
  mlx-lm 0.32 or newer. Older ones run that file without asking.
- """
_NATIVE = {
    "where": "the method is in `config.json`, in stock keys: a native export, without code.",
    "trust": "",
    "needs": "It needs `torch` and `transformers` 4.55 or newer, and no remote code.",
    "runtimes": "Other runtimes (vLLM, SGLang, MLX) read the same keys, some of them differently; llama.cpp's\n"
    "  converter drops some. Compare the first logits before you rely on one.",
    "license": "",
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
    sections: tuple[Section, ...] = ()


@dataclass(frozen=True)
class Published:
    """Where a checkpoint is, and the commit or tag to load; None where it is not known."""

    repo_id: str | None = None
    revision: str | None = None


def kept_of_base(text: str) -> Kept:
    """Find what a converted checkpoint's card takes over from the base's."""
    metadata, base_text = split(text)
    return Kept({key: metadata[key] for key in _INHERITED if key in metadata}, base_text)


def kept_of_card(text: str) -> Kept:
    """Find what a converted checkpoint's card takes over from an earlier one: all that is not written anew."""
    metadata, body = split(text)
    end = _base_place(body)
    found = sections(body[:end])
    title = found[:1] if found and found[0].level == 1 else []
    foreign = [each for each in found[len(title) :] if each.level == 1 or each.title not in _OWN]
    _, _, base_text = body[end:].partition("\n")
    return Kept(metadata, base_text, tuple(foreign))


def results_place(text: str) -> tuple[int, int]:
    """Return where results go into a card, and where what is not ropext's begins."""
    end = _base_place(text)
    places = (each.start for each in headings(text[:end]) if each.level == 2 and each.title in ("Use", "Limits"))
    return next(places, end), end


def _base_place(text: str) -> int:
    """Return where the base's card begins; the end where there is none."""
    places = (each.start for each in headings(text) if each.level == 1 and each.title == BASE_CARD)
    return next(places, len(text))


def make_card(
    facts: ModelFacts,
    kept: Kept,
    preset: Preset,
    baked: Baked,
    local: LocalSource,
    *,
    native: bool = False,
    at: Published | None = None,
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
        at: where it is published, and what to load from there.
        checked: what `ropext verify` found, line by line.

    Returns:
        Markdown with YAML front matter as the Hub reads it.
    """
    at = at or Published()
    name = local.repo_id or printable(" ".join(local.folder.name.split())).replace("`", "'")
    shown = [each for each in kept.sections if each.title == RESULTS]
    body = _TEMPLATE.format(
        title=f"{in_markdown(name.rpartition('/')[2])}, {preset.target_window:,} tokens by {preset.method}",
        **_loading(preset, at),
        base=f"[{name}](https://huggingface.co/{name})" if local.repo_id else f"The model `{name}`",
        initial=preset.initial_window,
        method=preset.method,
        about=method(preset.method).about,
        rows="\n".join(_rows(facts, preset, baked, local, name)),
        notes="".join(f"- {in_markdown(note)}\n" for note in baked.notes) + ("\n" if baked.notes else ""),
        **_made(preset, local, name, native=native),
        **(_NATIVE if native else _REMOTE),
        mlx="" if native or not mlx_code.serves(facts.model_type, preset.method) else _IN_MLX,
        checked="\n".join(checked) or _CHECKED,
        results=_joined(shown),
        sections=_joined([each for each in kept.sections if each not in shown]),
        measured="" if kept.sections else UNMEASURED,
    )
    if kept.base_text.strip():
        body += f"\n# {BASE_CARD}\n\n{kept.base_text.strip()}\n"
    return f"{front_matter(_metadata(kept.metadata, preset, local, native=native))}\n{body}"


def _joined(found: Sequence[Section]) -> str:
    return "".join(f"{section.text.strip()}\n\n" for section in found)


def _loading(preset: Preset, at: Published) -> dict[str, Any]:
    return {
        "path": at.repo_id or preset.name,
        "here": _HERE,
        "revision": f'revision = "{at.revision}"' if at.revision else _MAIN,
        "target": preset.target_window,
        "verified": at.repo_id or preset.name,
    }


def with_repository(text: str, repo_id: str) -> str:
    """Name the repository in a card's snippet, where the card still has the line that `make_card` writes."""
    line = rf'^path = "([^"\n]*)"{re.escape(_HERE)}$'
    found = re.search(line, text, re.MULTILINE)
    text = re.sub(line, f'path = "{repo_id}"{_HERE}', text, count=1, flags=re.MULTILINE)
    verify = rf"^    ropext verify {re.escape(found[1])}$" if found else None
    return re.sub(verify, f"    ropext verify {repo_id}", text, count=1, flags=re.MULTILINE) if verify else text


def with_tag(text: str, tag: str | None) -> str:
    """Let a card's snippet load a tag, or `main` again, where it names nothing else and is as `make_card` writes it."""
    line = _TAGGED.format(tag=tag) if tag else _MAIN
    return re.sub(rf'^revision = "(?:main|{_TAG})"(?:  # .*)?$', line, text, count=1, flags=re.MULTILINE)


def published(text: str) -> Published:
    """Return the repository that a card's snippet names, and the revision, where that is not of `main` or a push."""
    path = re.search(r'^path = "([^"\n]+)"', text, re.MULTILINE)
    pinned = re.search(r'^revision = "([^"\n]+)"', text, re.MULTILINE)
    if not path or not is_hub_id(path[1]):
        return Published()
    kept = pinned and pinned[1] != "main" and not re.fullmatch(_TAG, pinned[1])
    return Published(path[1], pinned[1] if pinned and kept else None)


# Metadata


def _metadata(kept: Mapping[str, Any], preset: Preset, local: LocalSource, *, native: bool) -> dict[str, Any]:
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
    return {**metadata, **own, "tags": list(dict.fromkeys([*tags, *theirs]))}


def _languages(value: Any) -> Any:
    """Norwegian is `no`, which YAML reads as false."""
    if isinstance(value, list):
        return [_languages(each) for each in value]
    return "no" if value is False else value


# The method and how it was made


def _linked(text: str) -> str:
    """Link the papers that a text names."""
    return _ARXIV.sub(r"[arXiv \1](https://arxiv.org/abs/\1)", text)


def _rows(facts: ModelFacts, preset: Preset, baked: Baked, local: LocalSource, name: str) -> list[str]:
    revision = f" at `{local.revision}`" if local.revision else ""
    elsewhere = preset.base_model if is_hub_id(preset.base_model) and preset.base_model != name else ""
    rows = {
        "base model": f"{in_markdown(name)}{revision}",
        "preset": in_markdown(preset.name),
        "made for": f"[{elsewhere}](https://huggingface.co/{elsewhere})" if elsewhere else "",
        "window": f"{preset.initial_window:,} → {preset.target_window:,} tokens",
        "base RoPE": f"θ {facts.rope_theta:g}, {facts.rope_type}, `max_position_embeddings` {facts.trained_length}",
        **{f"`{key}`": _cell(value) for key, value in baked.parameters.items()},
        "references": ", ".join(map(_reference, preset.references)),
    }
    return [f"| {key} | {value} |" for key, value in rows.items() if value]


def _reference(text: str) -> str:
    """A reference as text with links to papers; an address of the web is left as it is, so that it can be followed."""
    return text if re.fullmatch(r"https?://[\w./~%:?=&+,#-]+", text) else _linked(in_markdown(text))


def _cell(value: Any) -> str:
    text = json.dumps(value)
    if len(text) > _LONGEST_CELL and isinstance(value, list):
        text = f"{len(value)} numbers, in config.json"
    return in_markdown(text)


def _made(preset: Preset, local: LocalSource, name: str, *, native: bool) -> dict[str, Any]:
    shipped = _is_shipped(preset)
    words = ["ropext", "convert", name, "--preset", preset.name if shipped else _PRESET_FILE]
    words += ["--revision", local.revision] if local.repo_id and local.revision else []
    words += ["--native"] if native else []
    for override in preset.overrides if shipped else ():
        words += ["--set", override]
    return {
        "command": shlex.join(words),
        "version": __version__,
        "from_preset": "from this preset" if shipped else f"from this preset, saved as `{_PRESET_FILE}`",
        "preset": _fenced(_in_force(preset), "yaml"),
    }


def _is_shipped(preset: Preset) -> bool:
    """Whether a preset is the one that ropext has under its name."""
    file = resources.files("ropext.preset_files").joinpath(f"{preset.name}.yaml")
    return file.is_file() and file.read_text(encoding="utf-8") == preset.text


def _in_force(preset: Preset) -> str:
    """The preset as it was used: its own text, or, where that was changed by `--set`, its values."""
    if not preset.overrides:
        # An editor's line names a schema beside the preset, which is not here.
        return re.sub(r"(?m)^# yaml-language-server:.*\n", "", preset.text)
    about = f"{preset.base_model} to {preset.target_window} tokens by {preset.method}"
    keys = ("base_model", "initial_window", "target_window", "method", "parameters", "requires", "references")
    values = {"name": preset.name, "description": about, **{key: getattr(preset, key) for key in keys}}
    values = json.loads(json.dumps(values))
    shown = {key: value for key, value in values.items() if value or key == "parameters"}
    return str(yaml.safe_dump(shown, sort_keys=False, allow_unicode=True, width=110, default_flow_style=None))


def _fenced(text: str, language: str) -> str:
    """Put text into a code block whose fence is longer than any within it."""
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{text.rstrip()}\n{fence}"
