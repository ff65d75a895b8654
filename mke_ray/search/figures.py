"""The figures of a search: every trial by step, what mattered, each key alone, all keys at once."""

# T trials, K keys.

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import optuna
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from optuna.importance import get_param_importances

from mke_ray.report import style
from mke_ray.report.style import Picture, house_style, new_figure, to_picture
from mke_ray.search.ledger import FINISHED, STOPPED, TrialRecord

STOPPED_GREY = "#b4bcc6"

_MOST_SLICES = 9
_ROW_IN = 0.34
_LOG_RATIO = 8.0  # of the largest to the smallest value, from where on an axis is logarithmic
_MOST_LETTERS = 14


def search_pictures(
    records: Sequence[TrialRecord], winner: int, study: optuna.Study, quality: str
) -> list[Picture]:
    """Return the figures of a search.

    Args:
        records: What became of all trials.
        winner: Number of the trial of the winner.
        study: The same trials as Optuna knows them.
        quality: What was looked for, in words.
    """
    seen = [one for one in records if one.quality is not None]
    with house_style():
        pictures = [_curves(seen, winner, quality)]
        if importances := importances_of(study):
            pictures.append(_importances(importances))
        params = _params(seen)
        if params:
            pictures.append(_slices(seen, params, winner, quality))
        if len(params) > 1:
            pictures.append(_parallel(seen, params, winner, quality))
    return pictures


def importances_of(study: optuna.Study) -> dict[str, float]:
    """Return the share of the variance of quality that each key explains, the largest first.

    Only keys that every trial was given can be compared; fewer than four trials tell nothing.

    Args:
        study: The trials.

    Source:
        Hutter, Hoos, Leyton-Brown, An Efficient Approach for Assessing Hyperparameter Importance,
        ICML 2014; as Optuna has it.
    """
    done = [one for one in study.trials if one.values or one.intermediate_values]
    known = optuna.create_study(direction="maximize")
    known.add_trials([_complete(one) for one in done])
    values = {one.value for one in known.trials}
    if len(known.trials) < 4 or len(values) < 2:
        return {}
    evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
    return dict(get_param_importances(known, evaluator=evaluator))


def _complete(trial: optuna.trial.FrozenTrial) -> optuna.trial.FrozenTrial:
    """Return a trial by its last quality, whether it was stopped or not."""
    last = trial.values[0] if trial.values else list(trial.intermediate_values.values())[-1]
    return optuna.trial.create_trial(
        value=last, params=trial.params, distributions=trial.distributions
    )


def _params(records: Sequence[TrialRecord]) -> list[str]:
    """Return the names of what was drawn, in the order of the space, with two values or more."""
    names = dict.fromkeys(name for one in records for name in one.params)
    return [name for name in names if len({str(one.params.get(name)) for one in records}) > 1]


def _curves(records: Sequence[TrialRecord], winner: int, quality: str) -> Picture:
    """Draw the quality of every trial by step."""
    figure = new_figure(3.0)
    axes = figure.subplots()
    for one in sorted(records, key=lambda x: (x.number == winner, x.number == 0)):
        colour, width = _look_of(one, winner)
        steps = [look["step"] for look in one.curve]
        values = [look["quality"] for look in one.curve]
        axes.plot(steps, values, color=colour, linewidth=width, marker="o", markersize=width * 1.6)
    axes.set_xlabel("step")
    axes.set_ylabel(quality)
    axes.grid(axis="y")
    num_stopped = sum(one.state == STOPPED for one in records)
    _legend(axes, records, winner)
    return to_picture(
        figure,
        name="trials",
        title="Every trial",
        alt=f"{quality} on the select part by training step, one line per trial",
        note=f"{num_stopped} of {len(records)} trials were stopped early.",
    )


def _look_of(record: TrialRecord, winner: int) -> tuple[str, float]:
    """Return colour and width of a trial: winner, the configuration as it is, ended, stopped."""
    if record.number == winner:
        return style.BLUE, 2.2
    if record.number == 0:
        return style.ORANGE, 2.2
    return (style.MUTED, 1.2) if record.state == FINISHED else (STOPPED_GREY, 1.0)


def _legend(axes: Axes, records: Sequence[TrialRecord], winner: int) -> None:
    """Name what colours mean, beside the axes."""
    named = {"winner": style.BLUE, "as configured": style.ORANGE, "to the end": style.MUTED}
    if not any(one.number == 0 for one in records) or winner == 0:
        named.pop("as configured")
    if any(one.state == STOPPED for one in records):
        named["stopped"] = STOPPED_GREY
    lines = [Line2D([], [], color=colour, linewidth=2) for colour in named.values()]
    axes.legend(lines, list(named), frameon=False, loc="lower right", fontsize=8.5)


def _importances(importances: Mapping[str, float]) -> Picture:
    """Draw what share of the variance each key explains."""
    names = list(importances)[::-1]
    figure = new_figure(0.7 + _ROW_IN * len(names))
    axes = figure.subplots()
    axes.barh(range(len(names)), [importances[name] for name in names], color=style.BLUE)
    axes.set_yticks(range(len(names)), [_short(name) for name in names])
    axes.set_xlabel("share of the variance of quality")
    style.percent_axis(axes, "x")
    axes.grid(axis="x")
    return to_picture(
        figure,
        name="importances",
        title="What mattered",
        alt="; ".join(f"{name} {importances[name]:.0%}" for name in importances),
        note="Functional ANOVA over all trials by their last look. Of few trials it is a hint.",
    )


def _slices(
    records: Sequence[TrialRecord], params: Sequence[str], winner: int, quality: str
) -> Picture:
    """Draw quality against each key alone."""
    shown = params[:_MOST_SLICES]
    columns = min(3, len(shown))
    rows = -(-len(shown) // columns)
    figure = new_figure(0.4 + 1.9 * rows, width_in=style.WIDTH_IN * 1.25)
    grid = figure.subplots(rows, columns, squeeze=False, sharey=True)
    for axes in grid.flat[len(shown) :]:
        axes.set_axis_off()
    for axes, name in zip(grid.flat, shown, strict=False):
        _slice(axes, records, name, winner)
    for row in grid:
        row[0].set_ylabel(quality)
    return to_picture(
        figure,
        name="slices",
        title="Each key alone",
        alt=f"{quality} of every trial against {', '.join(_short(name) for name in shown)}",
        note="Filled: trained to the end. Hollow: stopped early, at its last look.",
    )


def _slice(axes: Axes, records: Sequence[TrialRecord], name: str, winner: int) -> None:
    """Draw quality against one key."""
    given = [one for one in records if name in one.params]
    values = [one.params[name] for one in given]
    place_T, words = _places(values)
    for place, one in zip(place_T, given, strict=True):
        colour = _look_of(one, winner)[0]
        edge = style.MUTED if colour == STOPPED_GREY else colour
        face = colour if one.state == FINISHED else "none"
        look = {"color": face, "markeredgecolor": edge, "markersize": 5}
        axes.plot([place], [one.quality or 0.0], "o", **look)
    axes.set_title(_short(name), fontsize=9)
    axes.grid(axis="y")
    if words is not None:
        axes.set_xticks(
            range(len(words)),
            [word[:_MOST_LETTERS] for word in words],
            fontsize=8,
            rotation=20 if len(words) > 3 else 0,
        )
        axes.set_xlim(-0.5, len(words) - 0.5)
    elif _is_log(place_T):
        axes.set_xscale("log")


def _parallel(
    records: Sequence[TrialRecord], params: Sequence[str], winner: int, quality: str
) -> Picture:
    """Draw every trial as a line through all keys to its quality."""
    names = [*params, quality]
    figure = new_figure(3.4, width_in=style.WIDTH_IN * 1.25)
    axes = figure.subplots()
    columns = {name: _column(records, name) for name in params}
    last = np.asarray([one.quality for one in records], float)
    columns[quality] = (_unit(last), [(0.0, f"{last.min():.3g}"), (1.0, f"{last.max():.3g}")])
    order = sorted(range(len(records)), key=lambda i: (records[i].number == winner, last[i]))
    for place in order:
        one = records[place]
        colour, width = _look_of(one, winner)
        height_K = np.asarray([columns[name][0][place] for name in names])
        known_K = np.flatnonzero(np.isfinite(height_K))
        axes.plot(known_K, height_K[known_K], color=colour, linewidth=width, alpha=0.9)
    for x, name in enumerate(names):
        axes.axvline(x, color=style.MUTED, linewidth=0.8)
        for height, word in columns[name][1]:
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
    axes.set_xticks(range(len(names)), [_short(name).replace(".", ".\n") for name in names])
    axes.tick_params(axis="x", labelsize=8)
    axes.set_yticks([])
    axes.set_xlim(-0.2, len(names) - 0.5)
    axes.spines[:].set_visible(False)
    return to_picture(
        figure,
        name="parallel",
        title="All keys at once",
        alt=f"one line per trial through its values of {', '.join(names)}",
        note="A line passes by a key that it lacks: it is asked only where another has some value.",
    )


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


def word_of(value: Any) -> str:
    """Return what was drawn as a word."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return str(value)


def _unit(value_T: np.ndarray) -> np.ndarray:
    """Return values [T] stretched to [0, 1]."""
    return (value_T - value_T.min()) / max(float(np.ptp(value_T)), 1e-12)


def _is_log(value_T: np.ndarray) -> bool:
    """Return whether an axis of these values is better logarithmic."""
    return bool(value_T.min() > 0 and value_T.max() / value_T.min() > _LOG_RATIO)


def _short(name: str) -> str:
    """Return the name of a key without what most of them begin with."""
    parts = name.lstrip("+").split(".")
    return ".".join(parts[-2:])
