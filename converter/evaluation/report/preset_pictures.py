"""Pictures of presets: the distances that attention sees, and the angles between which DPRoPE chose."""

from __future__ import annotations

import math
import textwrap
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ropext.converter.methods.dprope_solver import count_angles

from .drawing import WIDTH, Picture, legend, line_style, tokens
from .position_map import PositionMap, Target, name_of, position_map

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import SubFigure

__all__ = ["preset_pictures"]

_POINTS = 1200
"""Of a curve: more cannot be told apart on paper."""
_PANELS = 6
_TURNS = 20
"""A pair that makes more turns in the trained window has every angle in it, whatever is done to it."""
_BINS = 60
_LONGEST_NAME = 46

Array = npt.NDArray[np.float64]


def preset_pictures(target: Target, length: int | None = None) -> list[Picture]:
    """A preset's position map, and for DPRoPE its angles.

    Args:
        target: the preset on its model.
        length: of the text whose last token looks back, tokens; the preset's target window by default.
    """
    found = [_distances(target, position_map(target, length))]
    return [*found, _angles(target)] if target.preset.method == "dprope" else found


# The position map


def _distances(target: Target, seen: PositionMap) -> Picture:
    preset = target.preset
    ends = "; ".join(f"{group.name} see {group.seen[-1]:,.0f}" for group in seen.groups)
    what = f"{preset.name}: distance seen against true distance, from the last of {seen.length:,} tokens"
    alt = f"Lines. {what}, for each group of frequency pairs. At {seen.distances[-1]:,.0f} tokens: {ends}."
    wide = max(len(_short(group.name)) for group in seen.groups) > 24
    columns = 2 if wide else 3
    rows = math.ceil((len(seen.groups) + 2) / columns)

    def draw(part: SubFigure) -> None:
        _draw_distances(part, target, seen, columns)

    return Picture(what, alt, 3.4 + 0.17 * rows, draw, caption=_beyond(target, seen))


def _beyond(target: Target, seen: PositionMap) -> str:
    """Why lines beyond the trained length are right, or are not; nothing where none is there."""
    far = [pair for group in seen.groups if group.seen[-1] >= target.preset.initial_window for pair in group.pairs]
    turned = np.flatnonzero(np.asarray(target.inv_freq) * target.preset.initial_window >= 2 * math.pi)
    if not far:
        return ""
    known = f"Pairs 0 to {turned[-1]} turn full circle within the trained length" if len(turned) else "No pair turns"
    every = f"{known}: every angle of theirs is known, at any distance."
    others = sorted(set(far) - {*turned.tolist()})
    name = name_of(others, len(target.inv_freq))
    return f"{every} {name[0].upper()}{name[1:]} never saw some of these angles." if others else every


def _draw_distances(part: SubFigure, target: Target, seen: PositionMap, columns: int) -> None:
    preset = target.preset
    axes = part.subplots()
    points = np.unique(np.linspace(0, seen.length - 1, _POINTS).round().astype(int))
    x = seen.distances[points]
    axes.plot(x, x, color="0.8", linewidth=5, label="RoPE: as it is", zorder=1)  # wide, to be seen below another
    for number, group in enumerate(seen.groups):
        style = line_style(number)
        every = (len(points) // 20 * (number + 1) // len(seen.groups), len(points) // 10)
        axes.plot(x, group.seen[points], label=_short(group.name), markevery=every, **style)
    axes.set_xlim(0, seen.length)
    axes.set_ylim(0, seen.length)
    beyond = f"beyond the trained {tokens(preset.initial_window)}"
    bottom = preset.initial_window
    axes.axhspan(bottom, seen.length, facecolor="none", edgecolor="0.85", hatch="////", zorder=0, label=beyond)
    axes.axhline(bottom, color="0.5", linewidth=0.8, linestyle=":", zorder=0)
    if why := _beyond(target, seen):
        box = {"facecolor": "white", "edgecolor": "none", "pad": 2}
        axes.text(
            0.02, 0.97, "\n".join(textwrap.wrap(why, 62)), transform=axes.transAxes, fontsize=6.5, va="top", bbox=box
        )
    _token_ticks(axes, seen.length)
    axes.set_xlabel("distance between two tokens")
    axes.set_ylabel("distance that attention sees, tokens")
    of = "some of its groups of pairs; pair 0" if seen.chosen else "pair 0"
    axes.set_title(f"{preset.name} ({of} has the highest frequency)")
    legend(part, axes, columns)


def _token_ticks(axes: Axes, length: int) -> None:
    steps = np.linspace(0, length, 5)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_ticks(steps, [tokens(round(step)) for step in steps])


def _short(name: str) -> str:
    """A name that a legend has room for."""
    return name if len(name) <= _LONGEST_NAME else f"{name[:_LONGEST_NAME].rpartition(',')[0]}, …"


# DPRoPE


def _angles(target: Target) -> Picture:
    preset = target.preset
    pairs = _interesting(target)
    ratios = np.asarray(target.inv_freq) / np.asarray(target.baked.inv_freq)
    names = {pair: _choice(ratios[pair], _factor(target)) for pair in pairs}
    what = f"{preset.name}: rotary angles of some frequency pairs, in training and at {preset.target_window:,} tokens"
    choices = "; ".join(f"pair {pair} {name}" for pair, name in names.items())
    alt = f"Histograms. {what}, extrapolated and interpolated. Chosen is what is nearer to training: {choices}."

    def draw(part: SubFigure) -> None:
        panels = part.subplots(2, _PANELS // 2, squeeze=False)
        for axes in panels.flat:
            axes.set_visible(False)
        for axes, (pair, name) in zip(panels.flat, names.items(), strict=False):
            axes.set_visible(True)
            _draw_angles(axes, target, pair)
            axes.set_title(f"pair {pair}: {name}")
        part.supylabel("positions, percent per degree", fontsize=8)
        for axes in panels[-1]:
            axes.set_xlabel("angle, degrees")
        part.suptitle(f"{preset.name}: rotary angles", fontsize=9)
        legend(part, panels[0, 0], 4)

    return Picture(what, alt, 0.55 * WIDTH, draw)


def _interesting(target: Target) -> list[int]:
    """Pairs that do not have every angle in training, from high to low frequency, of both choices if need be."""
    old, new = np.asarray(target.inv_freq), np.asarray(target.baked.inv_freq)
    turns = old * target.preset.initial_window / (2 * math.pi)
    first = min(int((turns > _TURNS).sum()), max(0, len(turns) - _PANELS))
    chosen = sorted({int(pair) for pair in np.linspace(first, len(turns) - 1, _PANELS).round()})
    kept = np.isclose(old, new, rtol=1e-6)
    others = np.flatnonzero(kept != kept[chosen[0]])
    if len(others) and len({bool(kept[pair]) for pair in chosen}) == 1:
        chosen[0] = int(others[-1])  # of the lowest frequency: where the choice mattered most
    return sorted(chosen)


def _factor(target: Target) -> float:
    return float(target.baked.parameters["scaling_factor"])


def _choice(ratio: float, factor: float) -> str:
    """What was done to a frequency."""
    if math.isclose(ratio, 1.0, rel_tol=1e-6):
        return "extrapolated"
    return "interpolated" if math.isclose(ratio, factor, rel_tol=1e-6) else f"divided by {ratio:.3g}"


def _draw_angles(axes: Axes, target: Target, pair: int) -> None:
    preset, old, new = target.preset, target.inv_freq[pair], target.baked.inv_freq[pair]
    reach = min(360.0, 1.05 * math.degrees(old * preset.target_window))
    intervals = max(_BINS, round(_BINS * 360 / reach))

    def shares(frequency: float, length: int) -> tuple[Array, Array]:
        counts = count_angles(np.array([frequency]), length, intervals)[0, :_BINS]
        return 100 * counts / length * intervals / 360, np.arange(_BINS + 1) * 360 / intervals

    trained, edges = shares(old, preset.initial_window)
    axes.stairs(
        trained, edges, fill=True, facecolor="0.8", label=f"trained ({tokens(preset.initial_window)})", zorder=1
    )
    reached = {
        "chosen": (new, {"color": "#F0C987", "linewidth": 4.5}),  # wide and pale, to be seen below another
        "extrapolated": (old, {"color": "#D55E00", "linewidth": 1.0, "linestyle": (0, (4, 1.5))}),
        "interpolated": (old / _factor(target), {"color": "#0072B2", "linewidth": 1.2, "linestyle": (0, (1, 1))}),
    }
    for number, (name, (frequency, style)) in enumerate(reached.items()):
        values, _ = shares(frequency, preset.target_window)
        axes.stairs(values, edges, baseline=None, label=name, zorder=2 + number, **style)
    axes.set_xlim(0, edges[-1])
    axes.set_ylim(bottom=0)
