"""The figures of a search: every trial by step, what mattered, and those of its keys."""

from collections.abc import Mapping, Sequence

import optuna
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from optuna.importance import get_param_importances

from mke_ray.report import style
from mke_ray.report.style import Picture, house_style, new_figure, to_picture
from mke_ray.search.key_figures import comparable, drawn_keys, parallel, short_name, slices
from mke_ray.search.ledger import STOPPED, USUAL, TrialRecord
from mke_ray.search.trial_colours import STOPPED_GREY, look_of

_LATE = 0.6  # of the steps, from where on the end is drawn larger
_ROW_IN = 0.34


def search_pictures(
    records: Sequence[TrialRecord], winner: int, study: optuna.Study, quality: str
) -> list[Picture]:
    """Return the figures of a search.

    Args:
        records: What became of all trials.
        winner: Number of the trial of the winner.
        study: The same trials, as they can be compared, as Optuna knows them.
        quality: What was looked for, in words.
    """
    seen = [one for one in records if one.quality is not None]
    with house_style():
        pictures = [_curves(seen, winner, quality)]
        if importances := importances_of(study):
            pictures.append(_importances(importances))
        params, alike = drawn_keys(seen), comparable(seen)
        if params:
            pictures.append(slices(alike, params, winner, quality))
        if len(params) > 1:
            pictures.append(parallel(alike, params, winner, quality))
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


def _curves(records: Sequence[TrialRecord], winner: int, quality: str) -> Picture:
    """Draw the quality of every trial by step."""
    figure = new_figure(3.0, width_in=style.WIDTH_IN * 1.25)
    axes, late = figure.subplots(1, 2, width_ratios=(3, 2))
    last_step = max(one.curve[-1]["step"] for one in records)
    for one in sorted(records, key=lambda x: (x.number == winner, x.number == USUAL)):
        colour, width = look_of(one, winner)
        steps = [look["step"] for look in one.curve]
        values = [look["quality"] for look in one.curve]
        for panel in (axes, late):
            panel.plot(steps, values, color=colour, linewidth=width)
            panel.plot(steps[-1:], values[-1:], "o", color=colour, markersize=width * 2)
    shown = [x["quality"] for one in records for x in one.curve if x["step"] >= _LATE * last_step]
    room = 0.08 * (max(shown) - min(shown)) or 0.01
    late.set_xlim(_LATE * last_step, 1.03 * last_step)
    late.set_ylim(min(shown) - room, max(shown) + room)
    late.set_title("the end, larger", fontsize=9)
    axes.set_ylabel(quality)
    for panel in (axes, late):
        panel.set_xlabel("step")
        panel.grid(axis="y")
    num_stopped = sum(one.state == STOPPED for one in records)
    _legend(axes, records, winner)
    return to_picture(
        figure,
        name="trials",
        title="Every trial",
        alt=f"{quality} on the select part by training step, one line per trial",
        note=f"{num_stopped} of {len(records)} trials were stopped early.",
    )


def _legend(axes: Axes, records: Sequence[TrialRecord], winner: int) -> None:
    """Name what colours mean, beside the axes."""
    named = {"winner": style.BLUE, "as configured": style.ORANGE, "to the end": style.MUTED}
    if not any(one.number == USUAL for one in records):
        named.pop("as configured")
    if winner == USUAL:
        named = {"as configured": style.BLUE, "to the end": style.MUTED}
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
    axes.set_yticks(range(len(names)), [short_name(name) for name in names])
    axes.set_xlabel("share of the variance of quality")
    style.percent_axis(axes, "x")
    axes.grid(axis="x")
    return to_picture(
        figure,
        name="importances",
        title="What mattered",
        alt="; ".join(f"{name} {importances[name]:.0%}" for name in importances),
        note="Functional ANOVA over all trials by the last look that every one of them came to: "
        "where most were stopped early it tells what makes the start fast. Few trials tell little.",
    )
