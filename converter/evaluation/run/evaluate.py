"""Asking models everything a task has, by every preset, and writing every result down as it comes."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ropext
from ropext.converter.convert.record import read_record
from ropext.converter.errors import RopextError, UsageError
from ropext.converter.evaluation.tasks.items import Task, make_task
from ropext.converter.evaluation.tasks.kept import KV_DTYPES, NOT_KEPT, Kept
from ropext.converter.evaluation.tasks.short import short_passages
from ropext.converter.evaluation.tasks.texts import load_text
from ropext.converter.lengths import tokens
from ropext.converter.preset import Preset
from ropext.converter.presets.load import load_preset

from .lengths import trained_tokens, usual_lengths
from .rounds import Asking, ask_all
from .shares import Share, launched_share

if TYPE_CHECKING:
    from ropext.converter.evaluation.asking import Item
    from ropext.converter.evaluation.tasks.texts import Text

    from .transformers_model import SwitchableModel
    from .vllm_model import VllmModel

__all__ = ["BACKENDS", "Evaluation", "evaluate"]

BACKENDS = ("transformers", "vllm")


@dataclass(frozen=True)
class Evaluation:
    """A finished evaluation.

    Attributes:
        task: its name.
        output: the folder of the results.
        files: the results, one file of JSON lines for each model.
        complete: whether everything is answered; false in one of several processes while others go on.
    """

    task: str
    output: Path
    files: tuple[Path, ...]
    complete: bool


@dataclass(frozen=True)
class _Settings:
    """How to ask."""

    task: str
    presets: tuple[Preset | None, ...]
    lengths: tuple[int, ...]
    seed: int
    resume: bool
    short: Text | None
    kv_dtype: str | None
    backend: str
    device: str
    dtype: str
    progress: Asking | None
    say: Callable[[str], None] | None


def evaluate(
    task: str,
    models: str | Path | Sequence[str | Path],
    *,
    presets: Sequence[str | Path | Preset] = (),
    base: bool = True,
    lengths: str | Sequence[str | int] = (),
    samples: int | None = None,
    seed: int = 0,
    output: str | Path = "results",
    resume: bool = False,
    short: bool = True,
    kv_dtype: str | None = None,
    backend: str = "transformers",
    device: str = "auto",
    dtype: str = "auto",
    progress: Asking | None = None,
    say: Callable[[str], None] | None = None,
    **settings: Any,
) -> Evaluation:
    """Measure how well models, and presets of one model, read at several lengths.

    All of one base's presets are asked the same things, and its weights are loaded once.

    Args:
        task: `passkey`, `niah`, `mixed`, `ppl`, `attention`, `ruler`, `leval`, `longbench2`, `infinitebench`,
            `helmet`.
        models: folders or Hub ids: bases, alone and by each preset, or converted models as they are.
        presets: names, files or loaded presets to measure the bases with.
        base: measure bases without a preset too.
        lengths: lengths of the prompts, such as `["4k", "8k"]`; by default 1, 1.5 and 2 times the trained length, or
            up to the target window of a converted model.
        samples: how many prompts at each length; by default 6 (niah), 3 (mixed), 4 (ppl), all that there are (leval,
            longbench2, infinitebench), 100 of each task (helmet), as many of each task as give 6 (ruler) or 1.
        seed: the random seed.
        output: the folder of the results.
        resume: go on with the results that are there.
        short: also measure what each preset costs while a prompt fits the window; not with `attention`.
        kv_dtype: also ask everything with keys and values kept as `fp8`, `int4` or `int2`; not `ppl`, `attention`.
        backend: `transformers`, or `vllm` for bases, native exports, and methods that vLLM serves.
        device: as torch names it; `auto` takes what GPUs there are.
        dtype: `float32`, `bfloat16`, `float16` or `auto`.
        progress: called with what is asked, how much is answered and how much there is.
        say: called with what the user should know at the start.
        **settings: the task's own: `depths` (passkey); `needles`, `texts` (niah); `questions`, `texts` (mixed);
            `stride`, `texts` (ppl); `cells`, `layers`, `heads`, `texts` (attention); `tasks`, `text`, `squad`,
            `hotpotqa`, `chat`, `thinking` (ruler); `tasks`, `data` (leval); `data`, `cot`, `chat` (longbench2);
            `tasks`, `data`, `chat` (infinitebench, helmet).

    Returns:
        Where the results are; `ropext report` makes tables and pictures of them.

    Raises:
        InvalidPreset: a preset is invalid, or does not fit a model.
        UsageError: the arguments make no sense together, or there are results already.
        RopextError: a model cannot be found or loaded.
    """
    named = [str(models)] if isinstance(models, str | Path) else list(map(str, models))
    names = [Path(each).name for each in named]
    if len(set(names)) < len(names):
        raise UsageError(f"{', '.join(named)}: two of one name; results are kept by name")
    chosen = tuple(each if isinstance(each, Preset) else load_preset(each) for each in presets)
    if not base and not chosen:
        raise UsageError("--no-base leaves nothing to ask; name a --preset")
    made = make_task(task, samples, seed, settings)
    how = _Settings(
        task=task,
        presets=(*([None] if base else []), *chosen),
        lengths=_lengths(lengths),
        seed=seed,
        resume=resume,
        short=load_text([Path(each) for each in settings.get("texts") or ()]).half(1) if made.asks and short else None,
        kv_dtype=_kv_dtype(task, kv_dtype, backend),
        backend=backend,
        device=device,
        dtype=dtype,
        progress=progress,
        say=say,
    )
    stem = task if backend == "transformers" else f"{task}-{backend}"
    files = tuple(Path(output) / name / f"{stem}.jsonl" for name in names)
    whole = [_evaluate_one(made, how, model, file) for model, file in zip(named, files, strict=True)]
    return Evaluation(task, Path(output), files, all(whole))


def _lengths(given: str | Sequence[str | int]) -> tuple[int, ...]:
    parts = given.split(",") if isinstance(given, str) else given
    return tuple(sorted({tokens(each, "lengths") for each in parts if each != ""}))


def _kv_dtype(task: str, kv_dtype: str | None, backend: str) -> str | None:
    """The type, where the task can be asked with it."""
    if kv_dtype is None:
        return None
    if kv_dtype not in KV_DTYPES:
        raise UsageError(f"--kv-dtype {kv_dtype}: there are {', '.join(KV_DTYPES)}")
    if task in NOT_KEPT:
        raise UsageError(f"--kv-dtype: {task} reads a text in one forward, without a cache; use another task")
    if backend == "vllm":
        from .vllm_model import NO_KV_DTYPE

        raise UsageError(NO_KV_DTYPE)
    return kv_dtype


def _evaluate_one(task: Task, how: _Settings, source: str, file: Path) -> bool:
    """Ask a model what falls to this process; whether all is answered, by whatever process."""
    from ropext.converter.checkpoint.facts import read_config
    from ropext.converter.hub import client as hub

    from .judge import Judge
    from .records import Records

    share = launched_share()
    told = how.progress if how.progress and share.rank == 0 else lambda name, done, total: None
    told(f"{Path(source).name}: loading", 0, 0)
    same = {"task": how.task, "source": Path(source).name, **task.settings, "seed": how.seed, "dtype": how.dtype}
    folder = hub.resolve(source).folder
    config = read_config(folder)[0]
    lengths = how.lengths or _usual(task, source, config)
    for length in lengths:
        task.check(length)
    about = {"trained_length": trained_tokens(config), **_about(), **_origin(folder, config)}
    about["model"] = _model(folder, config, how, share)
    if how.backend == "vllm":
        same["backend"] = "vllm"
        about["versions"] |= {"vllm": _vllm(how, share)}
    with closing(Records(file, same, about=about, resume=how.resume, share=share)) as records:
        model = _loaded(folder, max(lengths), how, share)
        told(f"{Path(source).name}: making the questions", 0, 0)
        short = list(_short(model.tokenizer, about["trained_length"], how))
        long = [item for length in lengths for item in task.items(model.tokenizer, length)]
        kept = [Kept(item, how.kv_dtype) for item in long] if how.kv_dtype else []
        name, judge = Path(source).name, Judge(model, [*short, *long, *kept], records)
        if how.say and share.rank == 0:
            for remark in filter(None, (task.remark(model.tokenizer, length) for length in lengths)):
                how.say(remark)
        first, last = len(short), len(short) + len(long)
        rounds = {f"{name}: short prompts": range(first), f"{name} {how.task}": range(first, last)}
        if kept:
            rounds[f"{name} {how.task}, {how.kv_dtype} keys and values"] = range(last, last + len(kept))
        return records.merge(ask_all(judge, how.presets, rounds, share, told, how.say))


def _usual(task: Task, source: str, config: Mapping[str, Any]) -> Sequence[int]:
    """The lengths where nobody names any."""
    if not (usual := usual_lengths(config)):
        raise UsageError(f"{source}: does not say how far it was trained to read; give --lengths")
    if not (lengths := task.usual(usual)):
        raise UsageError(f"{source}: has no length for this task up to {usual[-1]:,} tokens; give --lengths")
    return lengths


def _model(folder: Path, config: Mapping[str, Any], how: _Settings, share: Share) -> dict[str, str]:
    """Which weights are measured, and by which number type; results of others are not gone on with."""
    from .devices import device_of, dtype_of
    from .origin import model_digest

    number_type = dtype_of(how.dtype, config, device_of(share.device(how.device)))
    return {"digest": model_digest(folder), "number_type": str(number_type).removeprefix("torch.")}


def _short(tokenizer: Any, trained: int | None, how: _Settings) -> Iterable[Item]:
    """Short prompts, where it is known how far the model was trained to read."""
    return short_passages(tokenizer, how.short, trained) if how.short and trained else ()


def _loaded(folder: Path, longest: int, how: _Settings, share: Share) -> SwitchableModel | VllmModel:
    """The model, which all presets fit."""
    if how.backend == "vllm":
        from .vllm_model import VllmModel

        return VllmModel(folder, longest, dtype=how.dtype)
    from .transformers_model import SwitchableModel

    model = SwitchableModel(folder, device=share.device(how.device), dtype=how.dtype)
    for preset in filter(None, how.presets):
        model.check(preset)
    return model


def _vllm(how: _Settings, share: Share) -> str:
    """The version of vLLM, where it can do what is asked."""
    from .vllm_model import NO_ATTENTION, vllm_version

    if how.task == "attention":
        raise UsageError(NO_ATTENTION)
    if any(how.presets):
        raise UsageError(
            "--backend vllm takes no presets: write each by `ropext convert`, and give the folder as MODEL"
        )
    if how.device != "auto" or share.count > 1:
        raise UsageError(
            "--backend vllm is one process on all GPUs that CUDA_VISIBLE_DEVICES names: leave out --device and launcher"
        )
    return vllm_version()


def _about() -> dict[str, Any]:
    """How results came about, beside what they depend on."""
    from .origin import machine, versions

    typed = Path(sys.argv[0])
    by_name = typed.stem == "ropext" or typed == Path(ropext.__file__).with_name("__main__.py")
    command = shlex.join(["ropext", *sys.argv[1:]]) if by_name else "ropext eval"
    return {"command": command, "versions": versions(), "machine": machine()}


def _origin(folder: Path, config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the names of a converted model's base and preset, as far as it knows them; nothing for a base."""
    if "rope_ext" not in config:
        return {}
    try:
        record = read_record(folder)
    except (OSError, RopextError):
        return {"converted": {"base": None, "preset": config["rope_ext"].get("preset")}}
    base = record.source.repo_id or record.source.folder
    return {"converted": {"base": Path(base).name, "preset": record.preset.name}}
