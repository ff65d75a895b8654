"""The figures of the report: arms, training curves, what was corrected, decision boundaries."""

# N points, G points of a grid.

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patheffects import withStroke

from mke_ray.report import style
from mke_ray.report.style import Picture, arm_colour, arm_line, arm_title, house_style, new_figure

Predictor = Callable[[np.ndarray], np.ndarray]

_EARLY = 0.9  # of the longest curve
_MAX_CURVE_POINTS = 200
_MARGIN = 0.35
_GRID_SIDE = 101


@dataclass(frozen=True, slots=True)
class ArmBar:
    """One row of the figure of arms.

    Args:
        arm: Name of the arm.
        value: Its metric on test, in [0, 1].
        low: Lower end of its 95% interval.
        high: Upper end.
        seeds: Value of every seed.
    """

    arm: str
    value: float
    low: float
    high: float
    seeds: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Curve:
    """One training curve.

    Args:
        arm: Name of the arm.
        seed: Seed of the fit.
        steps: Steps, rising.
        values: Value at each step.
    """

    arm: str
    seed: int
    steps: Sequence[float]
    values: Sequence[float]


@dataclass(frozen=True, slots=True)
class FlowBar:
    """What one arm did to the teacher's answers, as counts.

    Args:
        arm: Name of the arm.
        num_right: Answers of the teacher that were right.
        num_wrong: Answers that were wrong.
        num_corrected: Wrong ones that the arm has right.
        num_corrupted: Right ones that the arm has wrong.
    """

    arm: str
    num_right: float
    num_wrong: float
    num_corrected: float
    num_corrupted: float

    @property
    def num(self) -> float:
        """All answers."""
        return self.num_right + self.num_wrong


def arms_picture(bars: Sequence[ArmBar], *, shipped: str, metric: str) -> Picture:
    """Draw every arm on test with its 95% interval, the teacher as a line.

    Args:
        bars: The arms, from top to bottom.
        shipped: Arm that is put in front of the gate; it is highlighted.
        metric: Name of the metric, for the axis.
    """
    with house_style():
        figure = new_figure(0.95 + 0.42 * len(bars))
        axes = figure.subplots()
        teacher = next((bar for bar in bars if bar.arm == "teacher"), None)
        if teacher is not None:
            axes.axvline(teacher.value, color=style.MUTED, lw=1.2, ls=(0, (4, 3)), zorder=1)
        for row, bar in enumerate(bars):
            _draw_arm(axes, row, bar, is_shipped=bar.arm == shipped)
        axes.set_yticks(range(len(bars)), [arm_title(bar.arm) for bar in bars])
        _emphasise(axes, [bar.arm == shipped for bar in bars])
        axes.set_ylim(len(bars) - 0.5, -0.6)
        _room_for_values(axes, bars)
        axes.set_xlabel(f"{metric} on the test set, with 95% intervals")
        axes.grid(axis="x")
        axes.spines["left"].set_visible(False)
        axes.tick_params(length=0)
        style.percent_axis(axes, "x")
    return style.to_picture(
        figure,
        name="arms",
        title="How good is each arm?",
        alt=_arms_alt(bars, metric),
        note="Dots are means over the seeds (small rings: single seeds), lines 95% intervals over "
        "groups of test samples. The dashed line is the teacher.",
    )


def curves_picture(
    losses: Sequence[Curve], selects: Sequence[Curve], *, metric: str = "Accuracy"
) -> Picture:
    """Draw loss and the metric on the select part of the probe over the steps of every arm.

    Args:
        losses: Training losses.
        selects: Values on the select part; the panel is left out where there are none.
        metric: Name of the metric.
    """
    panels = [(losses, "Training loss"), (selects, f"{metric} on the select part of the probe")]
    panels = [(curves, title) for curves, title in panels if curves]
    with house_style():
        figure = new_figure(2.95 * len(panels))
        for axes, (curves, title) in zip(
            figure.subplots(len(panels), squeeze=False)[:, 0], panels, strict=True
        ):
            _draw_curves(axes, curves)
            axes.set_title(title)
            axes.grid(axis="y")
            axes.tick_params(length=0)
            axes.set_xlabel("training step")
            if curves is selects:
                style.percent_axis(axes, "y")
    arms = list(dict.fromkeys(curve.arm for curve in [*losses, *selects]))
    return style.to_picture(
        figure,
        name="curves",
        title="How did training go?",
        alt=f"Training curves of {', '.join(arm_title(arm) for arm in arms)}; the final values "
        "are in the table of curves.",
        note="Smoothed; thin lines are single seeds, dashed ones read one modality, dotted ones "
        "learn from true labels alone. The arms fit different targets, so compare "
        "the shape of the losses, not their height.",
    )


def flow_picture(bars: Sequence[FlowBar]) -> Picture:
    """Draw what every arm corrected and corrupted of the teacher's answers."""
    with house_style():
        figure = new_figure(0.55 + 0.62 * len(bars))
        axes = figure.subplots()
        corrected = [bar.num_corrected / bar.num for bar in bars]
        corrupted = [bar.num_corrupted / bar.num for bar in bars]
        rows = range(len(bars))
        axes.barh(rows, corrected, height=0.4, color=style.BLUE)
        axes.barh(rows, [-one for one in corrupted], height=0.4, color=style.ORANGE)
        axes.vlines(0, -0.62, len(bars) - 0.6, color=style.INK, lw=1)
        span = max(max(corrected) + max(corrupted), 0.01)
        pad = 0.012 * span
        for row, bar in enumerate(bars):
            _label_flow(axes, row, bar, pad=pad)
        axes.text(pad, -0.85, "corrected →", color=style.BLUE, weight="bold", va="center")
        axes.text(
            -pad, -0.85, "← corrupted", color=style.ORANGE, weight="bold", va="center", ha="right"
        )
        axes.set_xlim(-max(corrupted) - 0.36 * span, max(corrected) + 0.36 * span)
        axes.set_ylim(len(bars) - 0.6, -1.1)
        axes.set_axis_off()
    return style.to_picture(
        figure,
        name="corrected",
        title="What became of the teacher's answers?",
        alt="; ".join(
            f"{arm_title(bar.arm)} corrected {_share(bar.num_corrected, bar.num_wrong)} of the "
            f"wrong answers and corrupted {_share(bar.num_corrupted, bar.num_right)} of the right"
            for bar in bars
        ),
        note="Length: share of all pseudo-labels with a known truth, so the difference of the two "
        "bars is the gain in accuracy. In brackets: share of the wrong ones that were corrected, "
        "of the right ones that were corrupted.",
    )


def decision_boundaries(
    points_N2: np.ndarray, labels_N: np.ndarray, predictors: Mapping[str, Predictor]
) -> Picture:
    """Draw what classifiers say over the plane, as in the TwoMoon figure of the MKE paper.

    Args:
        points_N2: Test points [N, 2].
        labels_N: True class of each point [N], 0 or 1.
        predictors: Title of a panel and a function from points [G, 2] to the probability of class
            1 [G].

    Source:
        Xue et al., Multimodal Knowledge Expansion, ICCV 2021, figure 2.
    """
    num_columns = min(len(predictors), 2)
    num_rows = -(-len(predictors) // num_columns)
    with house_style():
        width, height = np.ptp(points_N2, axis=0) + 2 * _MARGIN
        panel_in = style.WIDTH_IN / num_columns * height / width
        figure = new_figure(num_rows * (panel_in + 0.3))
        panels = figure.subplots(
            num_rows, num_columns, squeeze=False, sharex=True, sharey=True
        ).ravel()
        for axes, (title, predictor) in zip(panels, predictors.items(), strict=False):
            _draw_boundary(axes, points_N2, labels_N, predictor)
            axes.set_title(title)
        for axes in panels[len(predictors) :]:
            axes.set_visible(False)
    return style.to_picture(
        figure,
        name="boundaries",
        title="Where does each classifier draw the line?",
        alt=f"Decision boundaries over the plane with {len(labels_N)} test points: "
        + ", ".join(predictors),
        note="Test points by true class (blue dots, orange squares) on the class that each "
        "classifier gives; the line is where it is undecided. Crosses are its mistakes.",
    )


def smooth(values: Sequence[float], span: int) -> np.ndarray:
    """Return a centred moving average whose window is cut at the ends.

    Args:
        values: Numbers in order.
        span: Points on each side.
    """
    padded = np.concatenate([[0.0], np.cumsum(np.asarray(values, float))])
    position = np.arange(len(values))
    first, end = np.maximum(position - span, 0), np.minimum(position + span + 1, len(values))
    return (padded[end] - padded[first]) / (end - first)


def _draw_arm(axes: Axes, row: int, bar: ArmBar, *, is_shipped: bool) -> None:
    """Draw one arm: interval, mean, seeds."""
    colour = style.BLUE if is_shipped else style.MUTED
    width = 3.0 if is_shipped else 1.8
    axes.plot(
        [bar.low, bar.high], [row, row], color=colour, lw=width, solid_capstyle="round", zorder=2
    )
    if len(bar.seeds) > 1:
        axes.plot(
            bar.seeds, [row + 0.27] * len(bar.seeds), "o", ms=3.6, mfc="none", mec=colour, mew=0.8
        )
    axes.plot([bar.value], [row], "o", ms=8.5 if is_shipped else 6.5, color=colour, zorder=4)


def _room_for_values(axes: Axes, bars: Sequence[ArmBar]) -> None:
    """Write the values in a column at the right edge."""
    low, high = min(bar.low for bar in bars), max(bar.high for bar in bars)
    span = max(high - low, 0.02)
    axes.set_xlim(low - 0.06 * span, high + 0.06 * span)
    for row, bar in enumerate(bars):
        style.write_beside(axes, row, f"{bar.value:.1%}")


def _emphasise(axes: Axes, chosen: Sequence[bool]) -> None:
    """Set the label of the shipped student in bold ink, the others in plain ink."""
    for label, is_chosen in zip(axes.get_yticklabels(), chosen, strict=True):
        label.set_color(style.BLUE if is_chosen else style.INK)
        label.set_fontweight("bold" if is_chosen else "normal")


def _draw_curves(axes: Axes, curves: Sequence[Curve]) -> None:
    """Draw single seeds thin, their mean thick, and name each arm at its end."""
    ends: list[tuple[str, float, float]] = []
    for arm in dict.fromkeys(curve.arm for curve in curves):
        seeds = [_thinned(curve) for curve in curves if curve.arm == arm]
        for steps, values in seeds if len(seeds) > 1 else []:
            axes.plot(steps, values, color=arm_colour(arm), lw=0.7, alpha=0.35)
        steps, values = _mean_curve(seeds)
        axes.plot(steps, values, color=arm_colour(arm), lw=1.8, ls=arm_line(arm))
        ends.append((arm, float(steps[-1]), float(values[-1])))
    _name_ends(axes, ends)


def _thinned(curve: Curve) -> tuple[np.ndarray, np.ndarray]:
    """Return a smoothed curve of a few hundred points."""
    values = smooth(curve.values, max(1, len(curve.values) // 40) if len(curve.values) > 20 else 0)
    keep = np.unique(np.linspace(0, len(values) - 1, _MAX_CURVE_POINTS).astype(int))
    return np.asarray(curve.steps, float)[keep], values[keep]


def _mean_curve(seeds: list[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean over seeds at the steps of the first."""
    steps = seeds[0][0]
    return steps, np.mean([np.interp(steps, x, y) for x, y in seeds], axis=0)


def _name_ends(axes: Axes, ends: Sequence[tuple[str, float, float]]) -> None:
    """Write the names of the arms in a column at the right, each with a line to its curve.

    A curve that ends early is named at its end: a line across the others would look like a curve.
    """
    low, high = axes.get_ylim()
    last = max(x for _, x, _ in ends)
    early, ends = (
        [one for one in ends if one[1] < _EARLY * last],
        [one for one in ends if one[1] >= _EARLY * last],
    )
    gap = (high - low) * 0.095
    _name_early(axes, early, gap=gap, last=last, top=high)
    places = style.spread_labels([y for _, _, y in ends], gap=gap)
    overshoot = max(0.0, max(places) - high)
    axes.set_ylim(low - max(0.0, low - min(places)), high + overshoot)
    for (arm, x, y), place in zip(ends, places, strict=True):
        axes.annotate(
            style.arm_short(arm),
            xy=(x, y),
            xytext=(last * 1.05, place),
            color=arm_colour(arm),
            fontsize=9.5,
            va="center",
            annotation_clip=False,
            arrowprops={
                "arrowstyle": "-",
                "relpos": (0, 0.5),
                "color": arm_colour(arm),
                "lw": 0.7,
                "alpha": 0.6,
            },
        )
    axes.set_xlim(0, last)


def _name_early(
    axes: Axes, ends: Sequence[tuple[str, float, float]], *, gap: float, last: float, top: float
) -> None:
    """Name curves that end early beside their ends, none above another, all below the top."""
    places = style.spread_labels([y for _, _, y in ends], gap=gap)
    lower = max(0.0, max(places, default=top) - top)
    places = [one - lower for one in places]
    for (arm, x, _), place in zip(ends, places, strict=True):
        axes.text(
            x + 0.015 * last, place, style.arm_short(arm), color=arm_colour(arm), fontsize=9.5,
            va="center", path_effects=[withStroke(linewidth=3, foreground=style.PAPER)], zorder=9,
        )  # fmt: skip


def _label_flow(axes: Axes, row: int, bar: FlowBar, *, pad: float) -> None:
    """Write the arm above its bars and both shares beside them."""
    corrected, corrupted = bar.num_corrected / bar.num, bar.num_corrupted / bar.num
    right = f"{corrected:.1%} ({_share(bar.num_corrected, bar.num_wrong)})"
    left = f"({_share(bar.num_corrupted, bar.num_right)}) {corrupted:.1%}"
    axes.text(corrected + pad, row, right, va="center", ha="left", fontsize=9.5)
    axes.text(-corrupted - pad, row, left, va="center", ha="right", fontsize=9.5)
    axes.text(pad, row - 0.38, arm_title(bar.arm), va="center", color=style.INK)


def _draw_boundary(
    axes: Axes, points_N2: np.ndarray, labels_N: np.ndarray, predictor: Predictor
) -> None:
    """Draw one panel."""
    low, high = points_N2.min(axis=0) - _MARGIN, points_N2.max(axis=0) + _MARGIN
    x, y = np.meshgrid(
        np.linspace(low[0], high[0], _GRID_SIDE), np.linspace(low[1], high[1], _GRID_SIDE)
    )
    grid_G2 = np.stack([x.ravel(), y.ravel()], axis=1).astype(np.float32)
    prob = np.asarray(predictor(grid_G2), float).reshape(x.shape)
    for colour, share in ((style.BLUE, 1 - prob), (style.ORANGE, prob)):
        for level, alpha in ((0.5, 0.18), (0.8, 0.16)):
            axes.contourf(x, y, share, levels=[level, 1.01], colors=[colour], alpha=alpha)
    axes.contour(x, y, prob, levels=[0.5], colors=[style.INK], linewidths=1.4)
    said_N = np.asarray(predictor(points_N2.astype(np.float32))) > 0.5
    right_N = said_N == (labels_N == 1)
    for label, colour, marker in ((0, style.BLUE, "o"), (1, style.ORANGE, "s")):
        for is_right, form in ((True, marker), (False, "x")):
            chosen = points_N2[(labels_N == label) & (right_N == is_right)]
            axes.plot(chosen[:, 0], chosen[:, 1], form, color=colour, ms=3.2 + 1.6 * (not is_right))
    axes.text(
        0.97, 0.04, f"{right_N.mean():.1%}", transform=axes.transAxes, ha="right", weight="bold"
    )
    axes.tick_params(length=0, labelbottom=False, labelleft=False)
    axes.set_aspect("equal", adjustable="box")


def _arms_alt(bars: Sequence[ArmBar], metric: str) -> str:
    """Say the figure of arms in words."""
    parts = [f"{arm_title(b.arm)} {b.value:.1%} ({b.low:.1%} to {b.high:.1%})" for b in bars]
    return f"{metric} on the test set with 95% intervals: " + "; ".join(parts)


def _share(part: float, whole: float) -> str:
    """Return a share as a percentage, or that there is none."""
    return f"{part / whole:.1%}" if whole else "none"
