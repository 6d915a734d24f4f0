"""Make `docs/results/README.md`, the page of all submitted results, and the index and page of each folder.

`python -m tools.gallery` writes them, and says what changed; `--check` changes nothing and fails where something would.
"""

import argparse
import sys
import tempfile
from pathlib import Path
from shutil import copytree

from ropext.converter.evaluation.report.drawing import tokens
from ropext.converter.evaluation.report.lines import TASKS
from ropext.converter.evaluation.report.ranking import headline
from ropext.converter.evaluation.report.submission import check_submission, write_submission
from ropext.converter.evaluation.report.tables import markdown_table, plain, summary

RESULTS = Path(__file__).parents[1] / "docs" / "results"
INTRODUCTION = """# Results

What has been measured: model × method × length. Every number can be made again from the raw lines beside it, by
`ropext report`. Each folder's page has intervals, differences on the same prompts, and the commands. Numbers of
different models, or of different settings, are not comparable.

**Add yours.** Measure, prepare a folder, make this page again, and send a pull request:

```console
$ ropext eval passkey Qwen/Qwen3-0.6B --preset qwen3-yarn --lengths 32k,64k
$ ropext report results/ --submit docs/results/qwen3-0.6b
$ python -m tools.gallery
```

The test suite checks every folder: its index by [a schema](../../schemas/results.schema.json), the digests of its
files, and that its page and this one are made of them.
"""


def page(folder):
    """The page of all folders below one."""
    overview, parts = [], []
    for place in sorted(each.parent for each in folder.glob("*/index.json")):
        experiments = check_submission(place)
        parts.append(f"## {place.name}\n\n[All numbers]({place.name}/README.md) · [raw lines]({place.name})")
        for each in experiments:
            lengths = ", ".join(map(tokens, each.lengths))
            row = (each.source, TASKS[each.task], lengths, str(len(each.presets)), headline(each))
            overview.append(f"| {' | '.join(map(plain, row))} | [{place.name}]({place.name}/README.md) |")
            tables = summary(each)[:1]
            parts.append(f"### {plain(f'{TASKS[each.task]}: {each.source}')}")
            parts += [f"{plain(table.caption)}:\n\n{markdown_table(table)}" for table in tables]
    head = "| model | task | tokens | models and methods | in a sentence | folder |\n|---|---|---|---:|---|---|"
    return "\n\n".join([INTRODUCTION.rstrip(), "\n".join([head, *overview]), *parts]) + "\n"


def make(folder):
    """Write all pages and indexes of a folder of folders."""
    for place in sorted(each for each in folder.iterdir() if each.is_dir()):
        write_submission([place], place)
    (folder / "README.md").write_text(page(folder), encoding="utf-8")


def contents(folder):
    return {file.relative_to(folder): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def changed(folder):
    """The files that would be written otherwise than they are."""
    with tempfile.TemporaryDirectory() as temp:
        copy = Path(temp) / "results"
        copytree(folder, copy)
        make(copy)
        now, then = contents(copy), contents(folder)
    return sorted(str(place) for place in now if now[place] != then.get(place))


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="change nothing")
    options = parser.parse_args(argv)
    found = changed(RESULTS)
    print("\n".join(found) or "nothing to change")
    if not options.check:
        make(RESULTS)
    return 1 if options.check and found else 0


if __name__ == "__main__":
    sys.exit(main())
