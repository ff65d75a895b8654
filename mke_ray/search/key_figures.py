"""Figures of the keys of a search: each alone, and all at once."""

# T trials, K keys.

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from mke_ray.report import style
from mke_ray.report.style import Picture, new_figure, to_picture
from mke_ray.search.ledger import FAILED, FINISHED, TrialRecord
from mke_ray.search.trial_colours import STOPPED_GREY, colour_words, look_of

_MOST_SLICES = 9
_LOG_RATIO = 8.0  # of the largest to the smallest value, from where on an axis is logarithmic
_MOST_LETTERS = 14
_MARK_X, _MARK_Y = 0.034, 0.05  # size of a mark, as a part of a small figure
_FAN = 0.05  # of the height of an axis, over which trials with the same value are spread
_ROOM = 0.15  # below and above the trials that are shown, of their range
_FAR = 2.0  # below the median, of the distance from there to the best: farther ones are cut off
_EDGE = 0.1  # of the width of a figure, beside the least and the largest value


def drawn_keys(records: Sequence[TrialRecord]) -> list[str]:
    """Return the names of what was drawn, in the order of the space, with two values or more.

    Args:
        records: What became of the trials.
    """
    names = dict.fromkeys(name for one in records for name in one.params)
    return [name for name in names if len({str(one.params.get(name)) for one in records}) > 1]


def comparable(records: Sequence[TrialRecord]) -> list[TrialRecord]:
    """Return trials as they were at the last look that every one of them came to.

    Args:
        records: What became of the trials; those that failed or have no look are left out.
    """
    seen = [one for one in records if one.curve and one.state != FAILED]
    num_looks = min((len(one.curve) for one in seen), default=0)
    return [replace(one, curve=one.curve[:num_looks]) for one in seen]


def slices(
    records: Sequence[TrialRecord], params: Sequence[str], winner: int, quality: str
) -> Picture:
    """Draw quality against each key alone.

    Args:
        records: The trials, as they can be compared.
        params: The keys.
        winner: Number of the trial of the winner.
        quality: What was looked for, in words.
    """
    shown = params[:_MOST_SLICES]
    columns = min(3, len(shown))
    rows = -(-len(shown) // columns)
    figure = new_figure(0.4 + 1.9 * rows, width_in=style.WIDTH_IN * 1.25)
    grid = figure.subplots(rows, columns, squeeze=False, sharey=True)
    for axes in grid.flat[len(shown) :]:
        axes.set_axis_off()
    for axes, name in zip(grid.flat, shown, strict=False):
        axes.set_ylim(shown_range(records))
        _slice(axes, records, name, winner)
    for row in grid:
        row[0].set_ylabel(quality)
    return to_picture(
        figure,
        name="slices",
        title="Each key alone",
        alt=f"{quality} of every trial against {', '.join(short_name(name) for name in shown)}",
        note=f"{_when(records)} Filled: trained to the end ({colour_words(winner)}). Hollow: "
        "stopped early; a triangle lies below the axis. Trials that would hide one another stand "
        "side by side.",
    )


def parallel(
    records: Sequence[TrialRecord], params: Sequence[str], winner: int, quality: str
) -> Picture:
    """Draw every trial as a line through all keys to its quality.

    Args:
        records: The trials, as they can be compared.
        params: The keys.
        winner: Number of the trial of the winner.
        quality: What was looked for, in words.
    """
    names = [*params, quality]
    figure = new_figure(3.4, width_in=style.WIDTH_IN * 1.25)
    axes = figure.subplots()
    columns = {name: _column(records, name) for name in params}
    columns[quality] = _quality_column(records)
    height_KT = np.stack([fanned(columns[name][0]) for name in names])
    last_T = columns[quality][0]
    order = sorted(range(len(records)), key=lambda i: (records[i].number == winner, last_T[i]))
    for place in order:
        colour, width = look_of(records[place], winner)
        known_K = np.flatnonzero(np.isfinite(height_KT[:, place]))
        axes.plot(known_K, height_KT[known_K, place], color=colour, linewidth=width, alpha=0.9)
    for x, name in enumerate(names):
        axes.axvline(x, color=style.MUTED, linewidth=0.8)
        for height, word in columns[name][1]:
            _name(axes, x, height, word)
    axes.set_xticks(range(len(names)), [_in_lines(name) for name in names])
    axes.tick_params(axis="x", labelsize=8)
    axes.set_yticks([])
    axes.set_xlim(-0.2, len(names) - 0.5)
    axes.spines[:].set_visible(False)
    return to_picture(
        figure,
        name="parallel",
        title="All keys at once",
        alt=f"one line per trial through its values of {', '.join(names)}",
        note=f"{_when(records)} {colour_words(winner).capitalize()}, grey: stopped early. Trials "
        "with the same value are spread a little. A line passes by a key that it lacks: it is "
        "asked only where another has some value.",
    )


def _when(records: Sequence[TrialRecord]) -> str:
    """Say at which step trials are compared."""
    steps = {one.curve[-1]["step"] for one in records}
    if len(steps) > 1:  # some key changes how many steps there are between looks
        return f"Quality at look {len(records[0].curve)}, the last that every trial came to."
    return f"Quality after step {steps.pop():,}, the last that every trial came to."


def short_name(name: str) -> str:
    """Return the name of a key without what most of them begin with."""
    parts = name.lstrip("+").split(".")
    return ".".join(parts[-2:])


def word_of(value: Any) -> str:
    """Return what was drawn as a word."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return str(value)


def shown_range(records: Sequence[TrialRecord]) -> tuple[float, float]:
    """Return between which qualities there is something to see; a few may lie far below.

    Args:
        records: The trials, as they can be compared.
    """
    known = [one.quality for one in records if one.quality is not None]
    high, middle = max(known), float(np.median(known))
    low = max(min(known), middle - _FAR * (high - middle)) if middle < high else min(known)
    room = _ROOM * (high - low) or 0.01
    return low - room, high + room


def side_by_side(x_T: np.ndarray, y_T: np.ndarray) -> np.ndarray:
    """Return where marks stand so that none hides another, moved sideways within the figure.

    Where there is no room left, marks stand where they belong.

    Args:
        x_T: Where they belong [T], as parts of the width of a figure.
        y_T: Where they belong [T], as parts of its height.
    """
    placed: list[tuple[float, float]] = []
    for x, y in zip(x_T, y_T, strict=True):
        near = [one for one, height in placed if abs(height - y) < _MARK_Y]
        ways = (x + sign * _MARK_X * step for step in range(len(x_T) + 1) for sign in (1, -1))
        ways = (way for way in ways if way == x or _MARK_X / 2 <= way <= 1 - _MARK_X / 2)
        free = (way for way in ways if all(abs(way - one) > 0.99 * _MARK_X for one in near))
        placed.append((next(free, x), y))
    return np.asarray([x for x, _ in placed])


def fanned(height_T: np.ndarray) -> np.ndarray:
    """Return heights [T] with equal ones spread a little around their value.

    Args:
        height_T: Heights in [0, 1]; NaN where there is none.
    """
    spread_T = height_T.copy()
    for value in np.unique(height_T[np.isfinite(height_T)]):
        same = np.flatnonzero(height_T == value)
        if len(same) > 1:
            spread_T[same] += np.linspace(-_FAN / 2, _FAN / 2, len(same))
    return spread_T


def _slice(axes: Axes, records: Sequence[TrialRecord], name: str, winner: int) -> None:
    """Draw quality against one key."""
    given = [one for one in records if name in one.params]
    place_T, words = _places([one.params[name] for one in given])
    low, high = axes.get_ylim()
    quality_T = np.asarray([one.quality for one in given], float)
    height_T = ((quality_T - low) / (high - low)).clip(_MARK_Y / 2, None)
    _limit(axes, place_T, words)
    to_part = axes.transScale + axes.transLimits  # of the width, whatever the scale
    at_T = to_part.transform(np.column_stack([place_T, quality_T]))[:, 0]
    for x, y, one in zip(side_by_side(at_T, height_T), height_T, given, strict=True):
        colour = look_of(one, winner)[0]
        edge = style.MUTED if colour == STOPPED_GREY else colour
        face = colour if one.state == FINISHED else "none"
        mark = "v" if (one.quality or 0.0) < low else "o"
        look = {"color": face, "markeredgecolor": edge, "markersize": 5, "clip_on": False}
        (drawn,) = axes.plot([x], [y], mark, transform=axes.transAxes, **look)
        drawn.set_in_layout(False)
    axes.set_title(short_name(name), fontsize=9)
    axes.grid(axis="y")


def _limit(axes: Axes, place_T: np.ndarray, words: Sequence[str] | None) -> None:
    """Give a figure of one key its horizontal axis."""
    if words is not None:
        axes.set_xticks(
            range(len(words)),
            [word[:_MOST_LETTERS] for word in words],
            fontsize=8,
            rotation=20 if len(words) > 3 else 0,
        )
        axes.set_xlim(-0.5, len(words) - 0.5)
        return
    low, high = float(place_T.min()), float(place_T.max())
    if _is_log(place_T):
        edge = (high / low) ** _EDGE
        axes.set_xlim(low / edge, high * edge)
        style.log_axis(axes, is_narrow=True)
    else:
        edge = _EDGE * (high - low) or 0.5
        axes.set_xlim(low - edge, high + edge)


def _name(axes: Axes, x: float, height: float, word: str) -> None:
    """Write what an axis has at some height."""
    axes.annotate(
        word[:_MOST_LETTERS],
        (x, height),
        xytext=(4, 0),
        textcoords="offset points",
        fontsize=7.5,
        color=style.INK,
        va="center",
        bbox={"facecolor": style.PAPER, "edgecolor": "none", "alpha": 0.75, "pad": 0.5},
    )


def _in_lines(name: str) -> str:
    """Return the name of a key in lines that are narrow enough to stand beside others."""
    return short_name(name).replace(".", ".\n").replace("_", "_\n")


def _quality_column(records: Sequence[TrialRecord]) -> tuple[np.ndarray, list[tuple[float, str]]]:
    """Return where every trial crosses the axis of quality [T], in [0, 1], and the ticks there."""
    low, high = shown_range(records)
    quality_T = np.asarray([one.quality for one in records], float)
    height_T = ((quality_T - low) / (high - low)).clip(0.0, 1.0)
    worst = "" if quality_T.min() >= low else "≤ "
    return height_T, [(0.0, f"{worst}{low:.3g}"), (1.0, f"{high:.3g}")]


def _column(
    records: Sequence[TrialRecord], name: str
) -> tuple[np.ndarray, list[tuple[float, str]]]:
    """Return where every trial crosses the axis of a key [T], in [0, 1], and the ticks there."""
    values = [one.params.get(name) for one in records]
    known = [one for one, record in zip(values, records, strict=True) if name in record.params]
    place_T, words = _places(known)
    if words is not None:
        at = {word: place / max(1, len(words) - 1) for place, word in enumerate(words)}
        height_T = [
            at[word_of(value)] if name in record.params else np.nan
            for value, record in zip(values, records, strict=True)
        ]
        return np.asarray(height_T), [(height, word) for word, height in at.items()]
    scaled = np.log if _is_log(place_T) else np.asarray
    low, high = place_T.min(), place_T.max()
    unit_T = (scaled(place_T) - scaled(low)) / max(float(scaled(high) - scaled(low)), 1e-12)
    found = iter(unit_T)
    height_T = [next(found) if name in record.params else np.nan for record in records]
    return np.asarray(height_T, float), [(0.0, f"{low:.3g}"), (1.0, f"{high:.3g}")]


def _places(values: Sequence[Any]) -> tuple[np.ndarray, list[str] | None]:
    """Return where values lie on an axis [T], and their words where they are no numbers."""
    if all(isinstance(one, int | float) and not isinstance(one, bool) for one in values):
        return np.asarray(values, float), None
    words = sorted({word_of(one) for one in values})
    return np.asarray([words.index(word_of(one)) for one in values], float), words


def _is_log(value_T: np.ndarray) -> bool:
    """Return whether an axis of these values is better logarithmic."""
    return bool(value_T.min() > 0 and value_T.max() / value_T.min() > _LOG_RATIO)
