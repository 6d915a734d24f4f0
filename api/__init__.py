"""Make a language model read further than it was trained to.

    import ropext

    ropext.convert("Qwen/Qwen3-4B", method="rerope", target="128k", output="qwen3-4b-128k")
    ropext.convert("meta-llama/Meta-Llama-3-8B-Instruct", preset="llama3-8b-dpe")
    with ropext.apply(model, "smollm2-135m-rerope"):
        model.generate(...)

Whatever can go wrong is a `RopextError`, whose text is the message that the command line prints. Names are looked up
when they are first used, so that `import ropext` imports neither torch nor transformers.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from ropext.converter.convert.api import Conversion, convert, plan
    from ropext.converter.convert.apply import Applied, apply
    from ropext.converter.convert.plan import Plan
    from ropext.converter.errors import InvalidPreset, Problem, RopextError, UsageError
    from ropext.converter.evaluation.run.evaluate import Evaluation, evaluate
    from ropext.converter.hub.errors import HubFailure
    from ropext.converter.preset import Preset
    from ropext.converter.presets.choose import presets
    from ropext.converter.presets.load import load_preset
    from ropext.converter.presets.suggested import Suggestions, suggest
    from ropext.converter.publish.api import push
    from ropext.converter.publish.push import Pushed
    from ropext.converter.verify.checks import verify
    from ropext.converter.verify.report import Report

__all__ = [
    "Applied",
    "Conversion",
    "Evaluation",
    "HubFailure",
    "InvalidPreset",
    "Plan",
    "Preset",
    "Problem",
    "Pushed",
    "Report",
    "RopextError",
    "Suggestions",
    "UsageError",
    "__version__",
    "apply",
    "convert",
    "evaluate",
    "load_preset",
    "plan",
    "presets",
    "push",
    "suggest",
    "verify",
]

_PLACES = {
    "Applied": "convert.apply",
    "Conversion": "convert.api",
    "Evaluation": "evaluation.run.evaluate",
    "HubFailure": "hub.errors",
    "InvalidPreset": "errors",
    "Plan": "convert.plan",
    "Preset": "preset",
    "Problem": "errors",
    "Pushed": "publish.push",
    "Report": "verify.report",
    "RopextError": "errors",
    "Suggestions": "presets.suggested",
    "UsageError": "errors",
    "apply": "convert.apply",
    "convert": "convert.api",
    "evaluate": "evaluation.run.evaluate",
    "load_preset": "presets.load",
    "plan": "convert.api",
    "presets": "presets.choose",
    "push": "publish.api",
    "suggest": "presets.suggested",
    "verify": "verify.checks",
}
"""The module of `ropext.converter` that has a name."""


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = getattr(import_module(f"ropext.converter.{_PLACES[name]}"), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
