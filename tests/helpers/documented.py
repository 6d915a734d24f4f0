"""The commands that README, the pages and each `--help` show."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import click

ROOT = Path(__file__).parent.parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md", *sorted((ROOT / "docs").rglob("*.md"))]
FENCE = re.compile(r"^```console\n(.*?)^```", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"`(ropext [^`\n]+)`")


@dataclass(frozen=True)
class Command:
    """A command line of a page.

    Attributes:
        page: the file, relative to the repository.
        line: where it begins.
        words: as a shell splits it; without comment, redirection, pipe, variables and the brackets of optional parts.
        whole: it stands in a block of code, where a command has all that it needs; else in a sentence.
    """

    page: str
    line: int
    words: tuple[str, ...]
    whole: bool

    def __str__(self) -> str:
        return f"{self.page}:{self.line}: {shlex.join(self.words)}"

    @property
    def of_ropext(self) -> tuple[str, ...] | None:
        """What follows `ropext`; None for another program."""
        for at, word in enumerate(self.words):
            if word.rpartition("/")[2] == "ropext":
                return self.words[at + 1 :] if at == 0 or self.words[at - 1] in ("-m", "--no-python") else None
        return None


def documented() -> list[Command]:
    """Every command of README and the pages, in their order."""
    return [command for page in PAGES for command in _of(page)]


def examples(command: click.Command, path: tuple[str, ...] = ("ropext",)) -> Iterator[Command]:
    """The examples in the help of a command and of those below it."""
    for line in re.findall(r"^ *(ropext .*)$", command.epilog or "", re.MULTILINE):
        yield Command(f"{' '.join(path)} --help", 1, tuple(shlex.split(line)), whole=True)
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            assert below is not None
            yield from examples(below, (*path, name))


def _of(page: Path) -> Iterator[Command]:
    text, name = page.read_text(encoding="utf-8"), page.relative_to(ROOT).as_posix()
    for block in FENCE.finditer(text):
        line = text.count("\n", 0, block.start()) + 2
        for offset, typed in _typed(block[1]):
            for part in typed.split(" && "):
                yield Command(name, line + offset, _words(part), whole=True)
    for found in INLINE.finditer(FENCE.sub(lambda block: "\n" * block[0].count("\n"), text)):
        before = FENCE.sub(lambda block: "\n" * block[0].count("\n"), text)[: found.start()]
        yield Command(name, before.count("\n") + 1, _words(found[1]), whole=False)


def _typed(block: str) -> Iterator[tuple[int, str]]:
    """Each command of a block, from its `$` to the end of its last line, and the line it begins in."""
    lines = block.splitlines()
    for number, line in enumerate(lines):
        if line.startswith("$ "):
            yield number, "\n".join([line[2:], *_until_next(lines[number + 1 :])])


def _until_next(lines: list[str]) -> Iterator[str]:
    for line in lines:
        if line.startswith("$ "):
            return
        yield line


def _words(typed: str) -> tuple[str, ...]:
    words = shlex.split(typed.replace("\\\n", " "), comments=True)
    ends = [at for at, word in enumerate(words) if word in (">", "|")]
    words = words[: ends[0]] if ends else words
    while words and re.match(r"[A-Z_0-9]+=", words[0]):
        words = words[1:]
    words = [re.sub(r"^\[(--?\w)", r"\1", word) for word in words if word not in ("…", "DIR…")]
    return tuple(word.rstrip("]") if "[" not in word else word for word in words)
