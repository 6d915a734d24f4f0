"""`ropext eval`: how well models, and presets of one model, read at several lengths."""

from __future__ import annotations

import platform
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ropext.converter.errors import RopextError, UsageError
from ropext.converter.preset import Preset
from ropext.converter.presets.load import load_preset

from .options import DEVICE, SEED, TEXT, Length, Lengths, options

if TYPE_CHECKING:
    from ropext.converter.evaluation.asking import Item
    from ropext.converter.evaluation.run.shares import Share
    from ropext.converter.evaluation.run.transformers_model import SwitchableModel
    from ropext.converter.evaluation.run.vllm_model import VllmModel
    from ropext.converter.evaluation.tasks.texts import Text

__all__ = ["evaluate"]

_UNUSED = 1_000_000
"""Seeds from here on are none of a calibration's."""

Items = Callable[[Any, int], Iterable["Item"]]
"""What to ask at a length (tokens), for a tokenizer."""


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
    from ropext.converter.evaluation.tasks.passkey import passkey_prompt

    places = [(place + 0.5) / depths for place in range(depths)]

    def items(tokenizer: Any, length: int) -> Iterator[Item]:
        for sample in range(asked["samples"]):
            for number, depth in enumerate(places):
                seed = (asked["seed"] * 1000 + sample) * depths + number
                yield passkey_prompt(tokenizer, length, depth, seed)

    _evaluate("passkey", items, {"depths": depths}, asked)


@evaluate.command(short_help="Several numbers in prose.")
@_MODELS
@TEXT
@click.option("--needles", type=click.IntRange(1, 100), default=4, show_default=True, help="Numbers in each text.")
def niah(needles: int, texts: tuple[Path, ...], **asked: Any) -> None:
    """Hide numbers of seven digits under names in prose, and ask for each (RULER's multi-key, DPE's four needles).

    Of the prose it is the half that `ropext calibrate` does not use; names, numbers and depths are others too.
    """
    from ropext.converter.evaluation.tasks.needles import needle_depths, needle_prompt
    from ropext.converter.evaluation.tasks.texts import load_text

    text = load_text(texts).half(1)

    def items(tokenizer: Any, length: int) -> Iterator[Item]:
        for sample in range(asked["samples"]):
            seed = _UNUSED + asked["seed"] * 1000 + sample
            yield needle_prompt(tokenizer, text, length, needle_depths(needles, seed), seed)

    _evaluate("niah", items, {"needles": needles, **_named(text)}, asked)


@evaluate.command(short_help="Perplexity by length.")
@_MODELS
@TEXT
@click.option("--stride", type=Length(), help="Windows this far apart, its last so many tokens count [default: all].")
def ppl(stride: int | None, texts: tuple[Path, ...], **asked: Any) -> None:
    """Perplexity of a text, read in windows of each length; --samples is how many windows."""
    from ropext.converter.evaluation.tasks.perplexity import passages
    from ropext.converter.evaluation.tasks.texts import load_text

    text = load_text(texts).half(1)

    def items(tokenizer: Any, length: int) -> Iterator[Item]:
        if stride is not None and stride > length:
            raise UsageError(f"--stride {stride}: is over the length {length}")
        return passages(tokenizer, text, length, asked["samples"], stride)

    _evaluate("ppl", items, {"stride": stride, **_named(text)}, asked)


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
    from ropext.converter.evaluation.tasks.ruler import TASKS, generate, missing
    from ropext.converter.evaluation.tasks.ruler_runs import RulerRun

    chosen = [each.strip() for each in tasks.split(",")] if tasks else list(TASKS)
    if not tasks:
        left_out = {task: why for task in chosen if (why := missing(task, squad=squad, hotpotqa=hotpotqa))}
        for task, why in left_out.items():
            click.echo(f"{task} is left out: {why}", err=True)
        chosen = [task for task in chosen if task not in left_out]
    text = prose.read_text(encoding="utf-8") if prose else None

    def items(tokenizer: Any, length: int) -> Iterator[Item]:
        for task in chosen:
            seed = 42 + asked["seed"]  # the publication's is 42
            examples = generate(
                task, tokenizer, length, asked["samples"], seed, text=text, squad=squad, hotpotqa=hotpotqa
            )
            for number, example in enumerate(examples):
                yield RulerRun(example, length, number)

    name = prose.name if prose else f"pydoc_data.topics of Python {platform.python_version()}"
    _evaluate("ruler", items, {"tasks": chosen, "text": name}, asked)


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
    from ropext.converter.evaluation.tasks.leval import find, read, runs

    files, left_out = find([each.strip() for each in tasks.split(",")] if tasks else None, data)
    for task in left_out:
        click.echo(f"{task} is left out: {data} holds no {task}.jsonl", err=True)
    documents, digest = read(files)

    def items(tokenizer: Any, length: int) -> Iterator[Item]:
        for task, found in documents.items():
            yield from runs(tokenizer, task, found[: asked["samples"]], length)

    _evaluate("leval", items, {"tasks": list(documents), "data_sha256": digest}, asked)


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


def _named(text: Text) -> dict[str, str]:
    return {"text": text.name, "text_sha256": text.sha256}


def _evaluate(task: str, items: Items, settings: Mapping[str, Any], asked: Mapping[str, Any]) -> None:
    """Ask every model everything by every preset."""
    presets = [load_preset(each) for each in asked["presets"]]
    if asked["no_base"] and not presets:
        raise UsageError("--no-base leaves nothing to ask; name a --preset")
    names = [Path(each).name for each in asked["models"]]
    if len(set(names)) < len(names):
        raise UsageError(f"{', '.join(asked['models'])}: two of one name; results are kept by name")
    chosen: list[Preset | None] = [*([] if asked["no_base"] else [None]), *presets]
    stem = task if asked["backend"] == "transformers" else f"{task}-{asked['backend']}"
    whole = [
        _evaluate_one(task, items, settings, asked, model, asked["output"] / name / f"{stem}.jsonl", chosen)
        for model, name in zip(asked["models"], names, strict=True)
    ]
    if all(whole):
        click.echo(f"wrote {asked['output']}; see: ropext report {asked['output']}", err=True)


def _evaluate_one(
    task: str,
    items: Items,
    settings: Mapping[str, Any],
    asked: Mapping[str, Any],
    source: str,
    file: Path,
    presets: Sequence[Preset | None],
) -> bool:
    """Ask a model what falls to this process; whether all is answered, by whatever process."""
    from tqdm import tqdm

    from ropext.converter.checkpoint.facts import read_config
    from ropext.converter.evaluation.run.judge import Judge
    from ropext.converter.evaluation.run.records import Records
    from ropext.converter.evaluation.run.shares import launched_share
    from ropext.converter.evaluation.run.transformers_model import trained_length
    from ropext.converter.hub import client as hub

    share = launched_share()
    same = {"task": task, "source": Path(source).name, **settings, "seed": asked["seed"], "dtype": asked["dtype"]}
    folder = hub.resolve(source).folder
    trained = trained_length(read_config(folder)[0])
    if not (lengths := asked["lengths"] or ((trained, trained * 3 // 2, 2 * trained) if trained else ())):
        raise UsageError(f"{source}: does not say how far it was trained to read; give --lengths")
    about = {"trained_length": trained, **_about()}
    if asked["backend"] == "vllm":
        same["backend"] = "vllm"
        about["versions"] |= {"vllm": _vllm(presets, asked, share)}
    with closing(Records(file, same, about=about, resume=asked["resume"], share=share)) as records:
        model = _loaded(folder, presets, max(lengths), asked, share)
        wanted = [item for length in lengths for item in items(model.tokenizer, length)]
        judge = Judge(model, wanted, records)
        work = [(preset, item) for preset in presets for item in range(len(wanted))]
        bar = tqdm(share.of(work), desc=f"{Path(source).name} {task}", smoothing=0.1, disable=share.rank > 0)
        for preset, item in bar:
            judge.result(preset, item)
        return records.merge([judge.key(preset, item) for preset, item in work])


def _loaded(
    folder: Path, presets: Sequence[Preset | None], longest: int, asked: Mapping[str, Any], share: Share
) -> SwitchableModel | VllmModel:
    """The model, which all presets fit."""
    if asked["backend"] == "vllm":
        from ropext.converter.evaluation.run.vllm_model import VllmModel

        return VllmModel(folder, longest, dtype=asked["dtype"])
    from ropext.converter.evaluation.run.transformers_model import SwitchableModel

    model = SwitchableModel(folder, device=share.device(asked["device"]), dtype=asked["dtype"])
    for preset in filter(None, presets):
        model.check(preset)
    return model


def _vllm(presets: Sequence[Preset | None], asked: Mapping[str, Any], share: Share) -> str:
    """The version of vLLM, where it can do what is asked."""
    from ropext.converter.evaluation.run.vllm_model import vllm_version

    if any(presets):
        raise UsageError(
            "--backend vllm takes no presets: write each by `ropext convert --native`, and give the folder as MODEL"
        )
    if asked["device"] != "auto" or share.count > 1:
        raise UsageError(
            "--backend vllm is one process on all GPUs that CUDA_VISIBLE_DEVICES names: leave out --device and launcher"
        )
    return vllm_version()


def _about() -> dict[str, Any]:
    """How results came about, beside what they depend on."""
    import torch

    from ropext.converter.evaluation.run.origin import processor, versions

    typed = Path(sys.argv[0])
    by_name = typed.stem == "ropext" or typed == Path(__file__).parent.with_name("__main__.py")
    command = shlex.join(["ropext", *sys.argv[1:]]) if by_name else "ropext eval"
    machine = torch.cuda.get_device_name() if torch.cuda.is_available() else processor()
    return {"command": command, "versions": versions(), "machine": machine}
