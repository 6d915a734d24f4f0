"""Every method has its files of one stem, every family and task its rows, and both halves speak of the same block."""

import json
import re
from importlib import import_module
from pathlib import Path

import pytest

from ropext.converter import model_code
from ropext.converter.checkpoint.families import FAMILIES, supported
from ropext.converter.cli.evaluate import evaluate
from ropext.converter.convert import config
from ropext.converter.evaluation.report import lines
from ropext.converter.evaluation.report.statistics import METRICS
from ropext.converter.evaluation.tasks.items import TASKS
from ropext.converter.methods import registry
from ropext.converter.methods.registry import FREQUENCY_METHODS
from ropext.converter.methods.schemas import METHODS
from ropext.converter.model_classes import parts_of
from ropext.converter.serve import plugins
from ropext.modeling import configuration_llama_ext, rope_ext_frequencies, rope_ext_model
from ropext.modeling.rope_ext_band import BandMethod
from tests.helpers import tiny
from tests.reference import regions

ROOT = Path(__file__).parent.parent
HEADINGS = ["What it changes", "When to use it", "Parameters", "Limits", "Source"]
PAGES = sorted((ROOT / "docs" / "methods").glob("*.md"))
PRESETS = sorted((ROOT / "presets").glob("*.yaml"))
FILES = {
    "modeling/rope_ext_{}.py": "the class",
    "converter/methods/{}.py": "METHOD, what the converter knows of it",
    "schemas/method_{}.schema.json": "its parameters",
    "tests/reference/{}.py": "the oracle, written from the paper",
    "docs/methods/{}.md": f"a page with the headings {', '.join(HEADINGS)}",
}
SHARED = {
    *("__init__", "rope", "regions", "stock"),  # by oracles
    *("base", "dprope_solver", "layers", "registry", "schemas"),  # by the files of converter/methods
}


def text(path):
    return (ROOT / path).read_text(encoding="utf-8")


def method_of(preset):
    """What a preset's file says, whether that is valid or not."""
    return re.findall(r"^method: *(\S*)", text(preset), re.MULTILINE)[0]


def named_somewhere():
    """Every method that one of the places knows, so that the others can be asked for it."""
    names = {*METHODS, *(case.method for case in tiny.CASES.values())}
    for pattern in [pattern for pattern in FILES if not pattern.startswith("modeling/")]:
        before, after = Path(pattern).name.split("{}")
        found = (path.name for path in (ROOT / pattern).parent.glob(f"{before}*{after}"))
        names |= {name.removeprefix(before).removesuffix(after) for name in found}
    return sorted(names - SHARED)


def module_of(method):
    """The module of a method's class."""
    return import_module(f"ropext.modeling.rope_ext_{method}")


def is_paged(kind):
    """Whether the far keys of a method's class have one place each, so that a paged cache can hold them."""
    return issubclass(kind, BandMethod) and (kind.keys_stay or not kind.moves_keys)


def is_explained(about):
    """Whether the text that model cards show is two sentences with one link."""
    sentences = re.split(r"(?<=\.) (?=[A-Z[])", about)
    links = re.findall(r"\[[^]]+\]\(https://(?:arxiv\.org/abs/\d{4}\.\d{5}|kexue\.fm/archives/\d+)\)", about)
    return len(sentences) == 2 and about.endswith(".") and len(links) == 1


def missing(method):
    """What has to be added, and where."""
    for pattern, what in FILES.items():
        if not (ROOT / pattern.format(method)).is_file():
            yield f"{pattern.format(method)} is missing: {what}"
    kept = ROOT / f"converter/methods/{method}.py"
    if kept.is_file() and "METHOD = Method(" not in text(kept):
        yield f"converter/methods/{method}.py has no `METHOD = Method(...)`"
    elif kept.is_file() and not is_explained(registry.method(method).about):
        yield f"converter/methods/{method}.py: METHOD: about is not two sentences with a link to the publication"
    name = model_code.method_class(method)
    if (ROOT / f"modeling/rope_ext_{method}.py").is_file() and not hasattr(module_of(method), name):
        yield f"modeling/rope_ext_{method}.py has no class {name}: a class is named after its file"
    elif hasattr(module_of(method), name) and is_paged(getattr(module_of(method), name)) != (method in plugins.BANDS):
        yield f"converter/serve/plugins.py: BANDS has {method} if and only if it is a BandMethod whose far keys stay"
    if method not in map(method_of, PRESETS):
        yield f"presets/: none has `method: {method}`; add presets/<model>-{method}.yaml"
    if all(case.method != method for case in tiny.CASES.values()):
        yield f'tests/helpers/tiny.py: CASES has no Case("{method}", ...); what is not there is not tested'
    if method not in {*regions.METHODS, *regions.FREQUENCY_METHODS}:
        yield f"tests/reference/regions.py: METHODS has no row {method}, its distances for every rotary type"
    if not re.search(rf"^\| `{method}` \|.*\(docs/methods/{method}\.md\)", text("README.md"), re.MULTILINE):
        yield f"README.md: the table under Methods has no row `{method}` with a link to docs/methods/{method}.md"
    if not re.search(rf"^\|[^|]*`{method}`[^|]*\|", text("docs/config-block.md"), re.MULTILINE):
        yield f"docs/config-block.md: the table under Parameters of each method has no row `{method}`"


@pytest.mark.parametrize("method", named_somewhere())
def test_a_method_is_whole(method):
    assert not (found := list(missing(method))), "\n".join([f"of method {method}:", *found])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_has_the_headings_and_every_parameter(page):
    where = f"docs/methods/{page.name}"
    headings = re.findall(r"^\*\*(.+?)\.?\*\*", text(where), re.MULTILINE)
    found = [each for each in headings if each in HEADINGS]
    assert found == HEADINGS, f"{where} has, in bold, {', '.join(found)}; wanted {', '.join(HEADINGS)}"
    schema = f"schemas/method_{page.stem}.schema.json"
    if (ROOT / schema).is_file():
        absent = [key for key in json.loads(text(schema))["properties"] if f"`{key}`" not in text(where)]
        assert not absent, f"{where}: the table of parameters lacks {absent}, which {schema} has"


@pytest.mark.parametrize("preset", PRESETS, ids=lambda preset: preset.stem)
def test_a_preset_is_named_after_its_model_and_method(preset):
    method = method_of(preset)
    named = re.fullmatch(rf"[a-z0-9]+(-[a-z0-9]+)*-{method}(-[a-z0-9-]+)?", preset.stem)
    assert named, f"presets/{preset.name}: name it <model>-{method}.yaml, or <model>-{method}-<target>.yaml"


@pytest.mark.parametrize("method", METHODS)
def test_a_method_can_be_spelt_in_stock_keys_if_it_changes_frequencies_alone(method):
    frequencies = issubclass(parts_of(method)[0], rope_ext_frequencies.FrequencyMethod)
    where = f"converter/methods/{method}.py: METHOD"
    assert (method in FREQUENCY_METHODS) == frequencies, f"{where}: give `spell` if and only if it is a FrequencyMethod"


def test_a_family_is_a_row():
    for family in supported():
        assert FAMILIES[family].model_type == family
        assert {"AutoConfig", "AutoModel", "AutoModelForCausalLM"} <= set(model_code.auto_map(family))


@pytest.mark.parametrize("task", TASKS)
def test_a_task_is_whole(task):
    tables = {
        "converter/evaluation/report/lines.py: TASKS": lines.TASKS,
        "converter/evaluation/report/lines.py: OF_TASK": lines.OF_TASK,
        "converter/evaluation/report/statistics.py: METRICS": METRICS,
        "converter/cli/evaluate.py": evaluate.commands,
    }
    assert not [f"{where} has no {task}" for where, table in tables.items() if task not in table]
    assert f"| `{task}` |" in text("docs/evaluating.md")


def test_readme_counts_the_families():
    assert f"**Models.** {len(supported())} model types" in text("README.md")


def test_both_halves_agree_on_the_block():
    assert config.GUARD == configuration_llama_ext.GUARD
    assert config.FORMAT == rope_ext_model.FORMAT
