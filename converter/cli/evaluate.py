"""`ropext eval`: how well models, and presets of one model, read at several lengths."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import click

from ropext.converter.errors import RopextError, UsageError

from .options import DEVICE, SEED, TEXT, Length, Lengths, options

__all__ = ["evaluate"]


@click.group("eval", short_help="Measure how well models and presets read at several lengths.")
def evaluate() -> None:
    """Ask models things at several lengths, and write every result down as it comes.

    MODEL is a folder or a Hub id: a base, alone and by each --preset, or a converted model as it is. All of one base's
    presets are asked the same things, and its weights are loaded once. `ropext report` makes tables and pictures of
    the results; --resume goes on after an interruption.
    """


_OUTPUT = click.option(
    "--output",
    "-o",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("results"),
    show_default=True,
    help="Folder of the results.",
)


def _models(samples: int | None) -> Callable[[Any], Any]:
    """What all tasks take.

    Args:
        samples: how many are asked for where nothing is said; None for all documents of a file.
    """
    of = "Of each." if samples else "Documents of each task [default: all]."
    return options(
        click.argument("models", metavar="MODEL...", nargs=-1, required=True),
        click.option("--preset", "-p", "presets", multiple=True, metavar="NAME|FILE", help="By this too; repeatable."),
        click.option("--no-base", is_flag=True, help="By the presets only."),
        click.option("--lengths", "-l", type=Lengths(), default=(), help="Such as 4k,8k,16k [default: M, 3/2 M, 2 M]."),
        click.option("--samples", "-n", type=click.IntRange(1), default=samples, show_default=True, help=of),
        SEED,
        _OUTPUT,
        click.option("--resume", is_flag=True, help="Go on with the results that are there."),
        click.option(
            "--backend",
            type=click.Choice(("transformers", "vllm")),
            default="transformers",
            show_default=True,
            help="vllm: for bases and native exports.",
        ),
        DEVICE,
    )


_MODELS = _models(samples=1)


@evaluate.command(short_help="A number in filler, at lengths and depths.")
@_MODELS
@click.option("--depths", type=click.IntRange(1, 100), default=10, show_default=True, help="Places, evenly spread.")
def passkey(depths: int, **asked: Any) -> None:
    """Hide a number of five digits in filler, and ask for it: lengths times depths times samples."""
    _evaluate("passkey", asked, depths=depths)


@evaluate.command(short_help="Several numbers in prose.")
@_MODELS
@TEXT
@click.option("--needles", type=click.IntRange(1, 100), default=4, show_default=True, help="Numbers in each text.")
def niah(needles: int, texts: tuple[Path, ...], **asked: Any) -> None:
    """Hide numbers of seven digits under names in prose, and ask for each (RULER's multi-key, DPE's four needles).

    Of the prose it is the half that `ropext calibrate` does not use; names, numbers and depths are others too.
    """
    _evaluate("niah", asked, needles=needles, texts=texts)


@evaluate.command(short_help="Perplexity by length.")
@_MODELS
@TEXT
@click.option("--stride", type=Length(), help="Windows this far apart, its last so many tokens count [default: all].")
def ppl(stride: int | None, texts: tuple[Path, ...], **asked: Any) -> None:
    """Perplexity of a text, read in windows of each length; --samples is how many windows."""
    _evaluate("ppl", asked, stride=stride, texts=texts)


@evaluate.command(short_help="RULER's thirteen tasks.")
@_MODELS
@click.option("--tasks", help="Comma-separated [default: all that can be made here].")
@click.option("--text", "prose", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Essays, one file.")
@click.option("--squad", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="dev-v2.0.json, for qa_1.")
@click.option(
    "--hotpotqa",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="hotpot_dev_distractor_v1.json, for qa_2.",
)
def ruler(tasks: str | None, prose: Path | None, squad: Path | None, hotpotqa: Path | None, **asked: Any) -> None:
    """RULER (arXiv 2404.06654), made for the model's own tokenizer, answered greedily and scored as published."""
    _evaluate("ruler", asked, tasks=_names(tasks), text=prose, squad=squad, hotpotqa=hotpotqa)


@evaluate.command(short_help="L-Eval's seven closed-ended tasks.")
@_models(samples=None)
@click.option(
    "--data",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Folder of tpo.jsonl, quality.jsonl, ... [default: from the Hub].",
)
@click.option("--tasks", help="Comma-separated [default: all that the folder has].")
def leval(data: Path | None, tasks: str | None, **asked: Any) -> None:
    """L-Eval (arXiv 2307.11088): exams, stories, sums and code, in documents cut to each length; scored as published.

    A length is of prompt and answer together. Nothing is drawn: --seed changes nothing.
    """
    _evaluate("leval", asked, tasks=_names(tasks), data=data)


@evaluate.command("lm-eval", short_help="Tasks of lm-evaluation-harness.")
@click.argument("models", metavar="MODEL...", nargs=-1, required=True)
@click.option("--tasks", required=True, help="Comma-separated names of tasks or groups, such as longbench.")
@click.option(
    "--batch-size", default="1", show_default=True, help="Over 1, some methods take the longest row's length for all."
)
@_OUTPUT
@DEVICE
@click.option("--option", "extra", multiple=True, metavar="--NAME=VALUE", help="Of the harness itself; repeatable.")
def lm_eval(
    models: tuple[str, ...], tasks: str, batch_size: str, output: Path, device: str, dtype: str, extra: tuple[str, ...]
) -> None:
    """Run lm-evaluation-harness on folders, each as anybody would load it: a converted model's own code is executed.

    The results go to OUTPUT/<model>/lm-eval, as the harness writes them.
    """
    if find_spec("lm_eval") is None:
        raise RopextError("this takes lm-evaluation-harness: pip install 'lm-eval[hf]'")
    for model in models:
        folder = Path(model)
        if not (folder / "config.json").is_file():
            raise UsageError(f"{model}: is no folder with a config.json; convert it, or download it, first")
        trust = (folder / "ropext.json").is_file()
        how = f"pretrained={folder},dtype={dtype}" + (",trust_remote_code=True" if trust else "")
        command = [sys.executable, "-m", "lm_eval", "run", "--model", "hf", "--model_args", how]
        command += ["--tasks", tasks, "--batch_size", batch_size]
        command += ["--output_path", str(output / folder.name / "lm-eval"), *extra]
        command += [] if device == "auto" else ["--device", device]
        if status := subprocess.run(command).returncode:
            raise RopextError(f"{model}: lm-evaluation-harness ended with status {status}; what it said stands above")


def _evaluate(task: str, asked: Mapping[str, Any], **settings: Any) -> None:
    """Ask every model everything by every preset."""
    from ropext.converter.evaluation.run.evaluate import evaluate

    done = evaluate(
        task,
        asked["models"],
        presets=asked["presets"],
        base=not asked["no_base"],
        lengths=asked["lengths"],
        samples=asked["samples"],
        seed=asked["seed"],
        output=asked["output"],
        resume=asked["resume"],
        backend=asked["backend"],
        device=asked["device"],
        dtype=asked["dtype"],
        progress=_Bars(),
        say=lambda note: click.echo(note, err=True),
        **settings,
    )
    if done.complete:
        click.echo(f"wrote {done.output}; see: ropext report {done.output}", err=True)


class _Bars:
    """A bar for each model, on stderr."""

    def __init__(self) -> None:
        self.name: str | None = None
        self.bar: Any = None

    def __call__(self, name: str, done: int, total: int) -> None:
        from tqdm import tqdm

        if name != self.name:
            self.name, self.bar = name, tqdm(desc=name, total=total, smoothing=0.1)
        self.bar.update(done - self.bar.n)
        if done == total:
            self.bar.close()


def _names(text: str | None) -> list[str] | None:
    """Names that commas separate."""
    return [each.strip() for each in text.split(",")] if text else None
