"""`ropext memory`: whether a model and a text fit."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import click

from ropext.converter.errors import UsageError
from ropext.converter.memory.api import Fit, Question, bytes_of, fit
from ropext.converter.memory.estimate import NUMBER_BYTES, RUNTIMES, Need
from ropext.converter.text import size_text

from .completion import complete_methods, complete_presets
from .options import AS_JSON, SET, Length, epilog
from .output import say, say_json
from .screen import table

__all__ = ["memory_command"]


class Bytes(click.ParamType[int]):
    """A size of a memory: 24GB, or 24GiB."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Read it."""
        try:
            return value if isinstance(value, int) else bytes_of(str(value))
        except UsageError as error:
            self.fail(str(error), param, ctx)


_NUMBERS = click.Choice(list(NUMBER_BYTES))


@click.command(
    "memory",
    short_help="Estimate the memory for a length, or the length for a memory.",
    epilog=epilog(
        "memory Qwen/Qwen3-4B --length 128k",
        "memory Qwen/Qwen3-4B --memory 24GB --method self_extend --runtime vllm",
        page="docs/memory.md",
    ),
)
@click.argument("source", metavar="MODEL")
@click.option("--length", "-l", type=Length(), help="Length of each text, e.g. 128k.")
@click.option("--memory", "-m", type=Bytes(), help="Memory there is, e.g. 24GB; shows the longest text that fits.")
@click.option("--batch", "-b", type=click.IntRange(1, 65_536), default=1, show_default=True, help="Texts at once.")
@click.option("--dtype", type=_NUMBERS, show_default="as stored", help="Number type of the weights.")
@click.option("--kv-dtype", type=_NUMBERS, show_default="the runtime's", help="Number type of keys and values.")
@click.option(
    "--method", metavar="METHOD", shell_complete=complete_methods, help="Method of a conversion that is planned."
)
@click.option(
    "--preset", "-p", "preset_name", metavar="NAME|FILE", shell_complete=complete_presets, help="Preset of it, instead."
)
@SET
@click.option("--runtime", type=click.Choice(list(RUNTIMES)), show_default="all", help="Show this runtime only.")
@AS_JSON
def memory_command(
    source: str,
    length: int | None,
    memory: int | None,
    batch: int,
    dtype: str | None,
    kv_dtype: str | None,
    method: str | None,
    preset_name: str | None,
    overrides: Sequence[str],
    runtime: str | None,
    as_json: bool,
) -> None:
    """Estimate what MODEL needs: weights, KV cache, what a method keeps beside it, and the prefill.

    MODEL is a folder, also a converted one, or a Hub id. Its config.json and the headers of its weights are read, and
    nothing else. With --memory alone, show for each runtime the longest text that fits.
    """
    chosen, parameters = _method(method, preset_name, overrides)
    found = fit(Question(source, length, memory, batch, dtype, kv_dtype, chosen, parameters, runtime))
    if as_json:
        say_json(found.to_json())
        return
    say("\n".join(_heading(found)) + "\n")
    click.echo(_table(found))
    say("\n".join(["", *_below(found)]))


def _method(method: str | None, preset_name: str | None, overrides: Sequence[str]) -> tuple[str | None, dict[str, Any]]:
    from ropext.converter.presets.load import load_preset
    from ropext.converter.presets.suggested import require_method

    if preset_name and method:
        raise UsageError("give --method or --preset, not both")
    if preset_name:
        preset = load_preset(preset_name, list(overrides))
        return preset.method, dict(preset.parameters)
    if overrides:
        raise UsageError("--set belongs to --preset")
    if method:
        require_method(method)
    return method, {}


def _heading(found: Fit) -> Iterator[str]:
    asked, shape = found.question, found.shape
    kinds = ", ".join(f"{count} {kind}" for kind, count in Counter(each.kind for each in shape.layers).items())
    method = "" if found.method == "original" else f", method {found.method}"
    yield f"{asked.source}: {shape.model_type}, {kinds} layers, {found.dtype}{method}"
    texts = f"{asked.batch} texts" if asked.batch > 1 else "one text"
    if asked.length:
        yield f"{texts} of {asked.length:,} tokens"
    else:
        yield f"the longest that fits into {size_text(asked.memory or 0)}, {texts}"


def _table(found: Fit) -> str:
    asked = found.question
    rows = [_row(each, found) for each in found.needs]
    headers = ["runtime", "tokens", "weights", "KV cache", "method", "prefill", "total"]
    if asked.memory is not None and asked.length:
        headers += ["fits", "longest"]
    return table(headers, rows, right=headers[1:])


def _row(need: Need, found: Fit) -> list[str]:
    sizes = [need.weights, sum(need.cache.values()), need.method, need.prefill, need.total]
    row = [need.runtime, f"{need.length:,}", *map(size_text, sizes)]
    if not need.length:
        return [need.runtime, "none fits", *map(size_text, sizes[:1]), "", "", "", ""]
    memory = found.question.memory
    if memory is not None and found.question.length:
        row += ["yes" if need.total <= memory else "no", f"{found.longest[need.runtime]:,}"]
    return row


def _below(found: Fit) -> Iterator[str]:
    first = found.needs[0]
    if len(first.cache) > 1:
        parts = ", ".join(f"{kind} layers {size_text(size)}" for kind, size in first.cache.items())
        yield f"KV cache in {first.runtime}: {parts}"
    yield "Not counted: the program itself, a GPU's context (about 0.5 GiB), captured graphs, and fragmentation."
    yield from found.notes
