"""Numbers as cells of tables: each with its digits, its interval or test, and whether it says anything."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from .statistics import Estimate, Metric

__all__ = ["cell", "difference", "number"]


def number(metric: Metric, value: float) -> str:
    """A number of a metric, with as many digits as it deserves."""
    return _WRITERS[metric.name](value)


def cell(metric: Metric, found: Estimate | None) -> str:
    """A number and its interval; nothing where there is none."""
    if found is None:
        return ""
    write = _WRITERS[metric.name]
    if metric.beside:
        return difference(metric, found)
    if found.low is None or found.high is None:
        return write(found.value)
    return f"{write(found.value)} ({write(found.low)}–{write(found.high)})"


def difference(metric: Metric, found: Estimate, *, brief: bool = False) -> str:
    """A comparison: its number and what speaks for it, or that it is not resolved.

    Args:
        metric: what is compared.
        found: what came out.
        brief: leave out by how much it is not resolved.
    """
    write = _WRITERS[metric.name]
    if found.p is not None:
        sure = f"p {'< 0.001' if found.p < 0.001 else f'= {found.p:.2g}'}"
    elif found.low is None or found.high is None:
        return f"{write(found.value)} (n = {found.prompts})" if found.prompts else write(found.value)
    elif found.low == found.high == metric.neutral:
        return f"the same (n = {found.prompts})"
    else:
        sure = f"{write(found.low)} to {write(found.high)}"
    if found.differs(metric.neutral):
        return f"{write(found.value)} ({sure})"
    return f"not resolved (n = {found.prompts})" if brief else f"not resolved (n = {found.prompts}; {sure})"


def _number(form: str) -> Callable[[float], str]:
    def write(value: float) -> str:
        if not math.isfinite(value):
            return {math.inf: "∞", -math.inf: "−∞"}.get(value, "undefined")
        text = format(value, form)
        return (text.lstrip("+-") if not float(text) else text).replace("-", "−")

    return write


def _perplexity(value: float) -> str:
    return _number("#.4g" if value < 1000 else ",.0f")(value) if value < 1e7 else _number(".2e")(value)


_WRITERS: Mapping[str, Callable[[float], str]] = {
    "exact": _number(".0f"),
    "exact_difference": _number("+.0f"),
    "log_probability": _number(".2f"),
    "log_probability_difference": _number("+.2f"),
    "balanced": _number(".2f"),
    "balanced_difference": _number("+.2f"),
    "perplexity": _perplexity,
    "perplexity_ratio": _number(".3f"),
    "score": _number(".1f"),
    "score_difference": _number("+.1f"),
    "first_share": _number(".1f"),
    "far_share": _number(".1f"),
    "far_share_ratio": _number(".3f"),
    "seconds_ratio": _number(".2f"),
}
