"""`ropext eval`: how well models, and presets of one model, read at several lengths."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import click

from ropext.converter.evaluation.tasks.items import SAMPLES

from .failures import Interrupted
from .live import live
from .options import DEVICE, RESULTS, TEXT, Length, epilog, measured
from .output import say, say_json
from .tables import brief

__all__ = ["evaluate"]

_PAGE = "docs/evaluating.md"
_DATA_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
_DATA_FOLDER = click.option("--data", type=click.Path(path_type=Path), help="Folder of the published files.")


@click.group(
    "eval",
    short_help="Measure how far models and presets read.",
    epilog=epilog(
        "eval passkey SmolLM2-135M-Instruct --preset smollm2-135m-rerope --lengths 8k,16k --depths 3", page=_PAGE
    ),
)
def evaluate() -> None:
    """Ask models questions at several lengths, write down every result as it comes, and print a table of them.

    MODEL is a folder or a Hub id: a base, alone and by each --preset, or a converted model as it is. All presets of one
    base are asked the same questions, and its weights are loaded once. `ropext report` draws and compares the results.
    """


@evaluate.command(
    short_help="A number in filler, at lengths and depths.",
    epilog=epilog("eval passkey Qwen/Qwen3-0.6B --lengths 8k,64k --depths 5", page=_PAGE),
)
@measured(1, "Prompts per length and depth.")
@click.option(
    "--depths", type=click.IntRange(1, 100), default=10, show_default=True, help="Number of depths, evenly spread."
)
def passkey(depths: int, **asked: Any) -> None:
    """Hide a number of five digits in filler, and ask for it, at each length and depth."""
    _evaluate("passkey", asked, depths=depths)


@evaluate.command(
    short_help="Several numbers in prose.",
    epilog=epilog("eval niah SmolLM2-135M-Instruct --preset smollm2-135m-dpe --lengths 8k,12k", page=_PAGE),
)
@measured(SAMPLES["niah"], "Texts per length.")
@TEXT
@click.option("--needles", type=click.IntRange(1, 100), default=4, show_default=True, help="Numbers in each text.")
def niah(needles: int, texts: tuple[Path, ...], **asked: Any) -> None:
    """Hide numbers of seven digits under names in prose, and ask for each (RULER's multi-key, DPE's four needles).

    This task reads the half of the prose that `ropext calibrate` does not use, with other names, numbers and depths.
    """
    _evaluate("niah", asked, needles=needles, texts=texts)


@evaluate.command(
    short_help="Several kinds of questions, and prose.",
    epilog=epilog(
        "eval mixed SmolLM2-135M-Instruct --preset smollm2-135m-dpe --lengths 12k --questions 16", page=_PAGE
    ),
)
@measured(SAMPLES["mixed"], "Samples per length.")
@TEXT
@click.option(
    "--questions", type=click.IntRange(1, 100), default=8, show_default=True, help="Questions of each kind per sample."
)
def mixed(questions: int, texts: tuple[Path, ...], **asked: Any) -> None:
    """Hide numbers in prose, in JSON, in variables and in filler, ask for each, and measure how well prose is read.

    It is what `ropext calibrate` measures by, on the half of the prose that it does not use.
    """
    _evaluate("mixed", asked, questions=questions, texts=texts)


@evaluate.command(
    short_help="Perplexity by length.",
    epilog=epilog("eval ppl qwen3-4b-yarn --lengths 8k,32k,64k", page=_PAGE),
)
@measured(None, "Windows per length.", shown=f"{SAMPLES['ppl']}, or as many as the text fills", kept=False)
@TEXT
@click.option(
    "--stride",
    type=Length(),
    show_default="the length: windows do not overlap",
    help="Distance between windows. Of each, only its last tokens count, as many as this distance.",
)
def ppl(stride: int | None, texts: tuple[Path, ...], **asked: Any) -> None:
    """Measure the perplexity of a text that is read in windows of each length."""
    _evaluate("ppl", asked, stride=stride, texts=texts)


@evaluate.command(
    short_help="What attention looks at, as maps.",
    epilog=epilog(
        "eval attention SmolLM2-135M-Instruct --preset smollm2-135m-dpe --preset smollm2-135m-gali --lengths 12k",
        page=_PAGE,
    ),
)
@measured(1, "Texts per length.", short=False, kept=False)
@TEXT
@click.option(
    "--cells", type=click.IntRange(2, 1024), default=128, show_default=True, help="Rows and columns of each map."
)
@click.option("--layers", show_default="all that methods act on", help="Layers to average over, e.g. 0,4,8-11.")
@click.option("--heads", show_default="all", help="Query heads to average over, e.g. 0-3.")
def attention(cells: int, layers: str | None, heads: str | None, texts: tuple[Path, ...], **asked: Any) -> None:
    """Map the attention to prose: logits and weights by query and key, averaged over layers and heads.

    The logits are those that the model really uses, by each preset. `ropext report` draws the maps side by side, and
    the means against distance.
    """
    _evaluate("attention", asked, cells=cells, layers=layers, heads=heads, texts=texts)


@evaluate.command(
    short_help="RULER's thirteen tasks.",
    epilog=epilog("eval ruler qwen3-4b-yarn --lengths 32k,64k --tasks niah_single_1,vt", page="docs/ruler.md"),
)
@measured(None, "Examples per task and length.", shown="1 of all thirteen; of fewer tasks, as many as give 6 prompts")
@click.option("--tasks", show_default="all thirteen", help="Names of tasks, separated by commas.")
@click.option("--text", "prose", type=_DATA_FILE, help="File of the essays that needles are hidden in.")
@click.option("--squad", type=_DATA_FILE, help="File dev-v2.0.json of SQuAD, for qa_1.")
@click.option("--hotpotqa", type=_DATA_FILE, help="File hotpot_dev_distractor_v1.json of HotpotQA, for qa_2.")
@click.option("--chat", is_flag=True, help="Put each task by the model's chat template, without thinking.")
@click.option(
    "--thinking",
    type=Length(),
    help="Let the model think for up to this many tokens first. Implies --chat.",
)
def ruler(tasks: str | None, prose: Path | None, squad: Path | None, hotpotqa: Path | None, **asked: Any) -> None:
    """Run RULER (arXiv 2404.06654), made for the model's own tokenizer, answered greedily and scored as published."""
    own = {name: asked.pop(name) for name in ("chat", "thinking")}
    _evaluate("ruler", asked, tasks=_names(tasks), text=prose, squad=squad, hotpotqa=hotpotqa, **own)


@evaluate.command(
    short_help="L-Eval's seven closed-ended tasks.",
    epilog=epilog("eval leval qwen3-4b-yarn --lengths 32k --tasks tpo,quality", page="docs/leval.md"),
)
@measured(None, "Documents per task, at most.")
@click.option(
    "--data",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    show_default="downloaded from the Hub",
    help="Folder of tpo.jsonl, quality.jsonl and the others.",
)
@click.option("--tasks", show_default="all seven", help="Names of tasks, separated by commas.")
def leval(data: Path | None, tasks: str | None, **asked: Any) -> None:
    """Run L-Eval (arXiv 2307.11088): exams, stories, sums and code, in documents cut to each length.

    A length counts prompt and answer together. Scores are as published. Nothing is random: --seed changes nothing.
    """
    _evaluate("leval", asked, tasks=_names(tasks), data=data)


@evaluate.command(
    short_help="LongBench v2's multiple-choice questions.",
    epilog=epilog("eval longbench2 qwen3-4b-yarn --data data.json --lengths 128k", page="docs/longbench2.md"),
)
@measured(None, "Questions, at most.")
@click.option("--data", type=click.Path(path_type=Path), help="File data.json of THUDM/LongBench-v2 on the Hub.")
@click.option("--cot", is_flag=True, help="Let the model think step by step before it answers.")
@click.option(
    "--chat/--no-chat",
    default=None,
    show_default="where the tokenizer has a chat template",
    help="Ask by the model's chat template.",
)
def longbench2(**asked: Any) -> None:
    """Run LongBench v2 (arXiv 2412.15204): multiple choice, about long texts that are cut in the middle to each length.

    A length counts prompt and answer together. Nothing is random: --seed changes nothing.
    """
    own = {name: asked.pop(name) for name in ("data", "cot", "chat")}
    _evaluate("longbench2", asked, **own)


@evaluate.command(
    short_help="∞Bench's seven closed tasks.",
    epilog=epilog(
        "eval infinitebench qwen3-4b-yarn --data InfiniteBench --lengths 128k --tasks passkey,kv_retrieval",
        page="docs/infinitebench.md",
    ),
)
@measured(None, "Questions per task, at most.")
@_DATA_FOLDER
@click.option("--tasks", show_default="all seven", help="Names of tasks, separated by commas.")
@click.option("--chat", is_flag=True, help="Put the published words for chat models by the model's chat template.")
def infinitebench(data: Path | None, tasks: str | None, chat: bool, **asked: Any) -> None:
    """Run ∞Bench (arXiv 2402.13718): passkeys, keys and values, lists, code and novels, cut to each length.

    Prompts lose their middle. A length counts prompt and answer together. Scores are as published. Nothing is random:
    --seed changes nothing.
    """
    _evaluate("infinitebench", asked, tasks=_names(tasks), data=data, chat=chat)


@evaluate.command(
    short_help="HELMET's recall and retrieval tasks.",
    epilog=epilog("eval helmet qwen3-4b-yarn --data data --lengths 32k,64k --tasks recall", page="docs/helmet.md"),
)
@measured(100, "Questions per task and length.")
@_DATA_FOLDER
@click.option("--tasks", show_default="all eight", help="Names of tasks, or recall or rag, separated by commas.")
@click.option("--chat", is_flag=True, help="Put each question by the model's chat template.")
def helmet(data: Path | None, tasks: str | None, chat: bool, **asked: Any) -> None:
    """Run HELMET's recall and retrieval-augmented generation (arXiv 2410.02694) at 4k, 8k, 16k, 32k, 64k or 128k.

    Questions are drawn as published: --seed changes nothing. A length counts prompt and answer together.
    """
    _evaluate("helmet", asked, tasks=_names(tasks), data=data, chat=chat)


@evaluate.command(
    "lm-eval",
    short_help="Tasks of lm-evaluation-harness.",
    epilog=epilog("eval lm-eval ./qwen3-4b-yarn --tasks longbench", page=_PAGE),
)
@click.argument("models", metavar="MODEL...", nargs=-1, required=True)
@click.option("--tasks", required=True, help="Names of tasks or groups, separated by commas, e.g. longbench.")
@click.option(
    "--batch-size",
    default="1",
    show_default=True,
    help="Prompts per batch. Over 1, some methods take the longest row's length for all.",
)
@RESULTS
@DEVICE
@click.option(
    "--option",
    "extra",
    multiple=True,
    metavar="--NAME=VALUE",
    help="Pass an option to the harness. May be given several times.",
)
def lm_eval(
    models: tuple[str, ...], tasks: str, batch_size: str, output: Path, device: str, dtype: str, extra: tuple[str, ...]
) -> None:
    """Run lm-evaluation-harness on folders, each as anybody would load it: a converted model's own code is executed.

    The results go to OUTPUT/<model>/lm-eval, as the harness writes them.
    """
    from ropext.converter.evaluation.run.harness import require_harness, run_harness

    require_harness()
    for model in models:
        try:
            run_harness(model, tasks, batch_size, output, device, dtype, extra)
        except KeyboardInterrupt:
            raise Interrupted("the models measured before this one are kept; give the others again") from None


def _names(text: str | None) -> list[str] | None:
    """Return names that commas separate."""
    return [each.strip() for each in text.split(",")] if text else None


def _evaluate(task: str, asked: Mapping[str, Any], **settings: Any) -> None:
    """Ask every model everything by every preset, and show what came out."""
    from ropext.converter.evaluation.run.shares import launched_share

    given = {name: value for name, value in asked.items() if name not in ("models", "no_base", "as_json")}
    with live(f"{task}: starting", shown=launched_share().rank == 0) as bar:
        from ropext.converter.evaluation.run.evaluate import evaluate

        done = evaluate(
            task,
            asked["models"],
            base=not asked["no_base"],
            progress=bar.hear,
            say=partial(bar.say, err=True),
            **given,
            **settings,
        )
    if done.complete:
        _show(done.files, asked["as_json"])
        say(f"wrote {done.output}; see: ropext report {done.output}", err=True)


def _show(files: Sequence[Path], as_json: bool) -> None:
    from ropext.converter.evaluation.report import tables
    from ropext.converter.evaluation.report.results import read_results

    experiments, _ = read_results(files, together=True)
    if as_json:
        say_json(json.loads(tables.as_json(experiments)))
    else:
        click.echo(brief(experiments), nl=False)
