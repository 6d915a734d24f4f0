"""What a calibration found, as Markdown tables."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ropext.converter.methods.dprope_solver import Solution

    from .study import Study

__all__ = ["GroupCurve", "comparison", "disturbances", "elsewhere", "group_curves"]


def comparison(study: Study, best: Mapping[str, Any]) -> str:
    """Every setting that was tried, the winner first, then by score; DPE's groups in a table of their own."""
    won = study.preset(best)
    verdicts = [(setting, study.judge.verdict(study.preset(setting), won)) for setting in study.tried]
    verdicts.sort(key=lambda each: (each[0] != best, -each[1].ahead))
    varied = _varied(study.tried)
    rows = []
    for setting, verdict in verdicts:
        error = "" if verdict.error is None else f" ± {verdict.error:.2f}"
        rows.append(
            [
                _values(setting, varied),
                f"{verdict.score:.2f}",
                "" if setting == best else f"{verdict.ahead:+.2f}{error}",
                f"{verdict.exact:.0%}",
                str(verdict.prompts),
                f"{verdict.seconds:.0f}",
            ]
        )
    header = [", ".join(varied) or "setting", "score", "against the best", "right", "texts", "seconds"]
    table = _table(header, rows)
    return f"{table}\n\n{_groups(study, best)}" if "scale_factors" in best["parameters"] else table


def elsewhere(calibration: Mapping[str, Any]) -> str:
    """One sentence: how what was found does on texts that it was not found on."""
    found = calibration["held_out"]
    said = f"On texts that it was not found on: {found['score']:.2f}, {found['exact']:.0%} right"
    if "standard_error" not in found:
        return f"{said}. No other setting was better beyond chance."
    ahead, error = found["ahead_of_the_first"], found["standard_error"]
    against = f"{ahead:+.2f} ± {error:.2f} against where the search began"
    if ahead <= 0:
        return f"{said}; {against}: what was gained is not there. Take the suggested setting, or ask more questions."
    return f"{said}; {against}."


def _varied(settings: Sequence[Mapping[str, Any]]) -> list[str]:
    """The keys in which settings differ."""
    flat = [_flat(setting) for setting in settings]
    keys = dict.fromkeys(key for each in flat for key in each)
    return [key for key in keys if any(each.get(key) != flat[0].get(key) for each in flat)]


def _flat(setting: Mapping[str, Any]) -> dict[str, Any]:
    return {**{key: value for key, value in setting.items() if key != "parameters"}, **setting["parameters"]}


def _values(setting: Mapping[str, Any], keys: Sequence[str]) -> str:
    flat = _flat(setting)
    return ", ".join(_value(flat.get(key)) for key in keys)


def _value(value: Any) -> str:
    if isinstance(value, dict):  # a region of `bands`, or an entry of `by_layer`
        return f"{' '.join(f'{key} {_value(own)}' for key, own in value.items())};"
    return " ".join(map(_value, value)) if isinstance(value, list) else str(value)


@dataclass(frozen=True)
class GroupCurve:
    """What the scales of one of DPE's groups do, the others being the best ones.

    Attributes:
        pairs: the group's first and last frequency pair.
        scale: the best one.
        ahead: by scale, how much higher than with the best one the answers' log-probability is.
        error: by scale, the standard error of that.
    """

    pairs: tuple[int, int]
    scale: int
    ahead: Mapping[int, float]
    error: Mapping[int, float]


def group_curves(study: Study, best: Mapping[str, Any]) -> list[GroupCurve]:
    """One for each of DPE's groups, from what was measured."""
    factors, borders = best["parameters"]["scale_factors"], best["parameters"]["dimension_groups"]
    # At the local window that the factors were searched at; the window itself is searched last.
    windows = Counter(setting["parameters"]["local_window"] for setting in study.tried)
    (window, _), *_ = windows.most_common()
    won = study.preset({"parameters": {**best["parameters"], "local_window": window}})
    curves = []
    for group, scale_won in enumerate(factors):
        ahead, error = {scale_won: 0.0}, {scale_won: 0.0}
        for setting in study.tried:
            tried = setting["parameters"]["scale_factors"]
            if setting["parameters"]["local_window"] != window:
                continue
            if [each for each in range(len(factors)) if tried[each] != factors[each]] == [group]:
                verdict = study.judge.verdict(study.preset(setting), won)
                ahead[tried[group]], error[tried[group]] = verdict.ahead, verdict.error or 0.0
        pairs = (borders[group], borders[group + 1] - 1)
        curves.append(GroupCurve(pairs, scale_won, dict(sorted(ahead.items())), error))
    return curves


def _groups(study: Study, best: Mapping[str, Any]) -> str:
    """DPE's groups by scales: how much worse than the best is each that differs from it in one group only."""
    curves = group_curves(study, best)
    scales = sorted({scale for curve in curves for scale in curve.ahead})
    rows = []
    for curve in curves:
        cells = [f"{curve.ahead[scale]:+.2f}" if scale in curve.ahead else "" for scale in scales]
        cells[scales.index(curve.scale)] = "best"
        rows.append([f"{curve.pairs[0]} to {curve.pairs[1]}", *cells])
    return _table(["frequency pairs", *(f"scale {scale}" for scale in scales)], rows)


def disturbances(solution: Solution, inv_freq: Sequence[float], trained: int, target: int) -> str:
    """How far each candidate alone, and the choice among them, disturbs rotary angles."""
    from ropext.converter.methods.dprope_solver import disturbance

    rows = []
    for number, name in enumerate(solution.candidates):
        alone = float(solution.divergences[number].mean()) * 360
        rows.append([name, str(2 * int((solution.choice == number).sum())), f"{1000 * alone:.2f}"])
    chosen = disturbance(inv_freq, solution.inv_freq, trained, target)
    rows.append(["the choice", str(2 * len(inv_freq)), f"{1000 * chosen:.2f}"])
    return _table(["candidate", "dimensions", "disturbance of all by it, thousandths"], rows)


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
