"""The figures of neighbourhoods: whom wrong samples have near them, and how far that reaches."""

# N samples, W draws of the data, X radii.

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from mke_ray.report import style
from mke_ray.report.style import Picture, house_style, new_figure

WIDE_IN = 8.8

_SPACE_COLOURS = (style.RED, style.GREEN, style.PURPLE, style.AMBER)
_SPACE_LINES: tuple[Any, ...] = ((0, (4, 1.6)), (0, (1.2, 1.2)), (0, (5, 1, 1, 1)), (0, (8, 2)))
_BOTH_COLOUR = style.BLUE


@dataclass(frozen=True, slots=True, eq=False)
class Reach:
    """How far neighbourhoods reach in one space.

    Args:
        name: The space.
        radii_X: Radii, in strengths of noise.
        expansion_WX: Rightly labelled samples of the same class per wrong one, by draw.
        crossing_WX: Share of samples with another class in the neighbourhood, by draw.
        classes: Expansion of every class [X], the mean over draws.
    """

    name: str
    radii_X: np.ndarray
    expansion_WX: np.ndarray
    crossing_WX: np.ndarray
    classes: tuple[np.ndarray, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Plane:
    """Samples of two modalities of one number each, with one class's wrong ones in focus.

    Args:
        points_N2: The samples.
        own_N: Which are of the class.
        wrong_N: Which of these the teacher has wrong.
        reached: Per space which samples are in the neighbourhood of the wrong ones [N].
        radius: Radius of the neighbourhood.
        axes: Names of the two modalities.
    """

    points_N2: np.ndarray
    own_N: np.ndarray
    wrong_N: np.ndarray
    reached: Mapping[str, np.ndarray]
    radius: float
    axes: tuple[str, str]


def plane_picture(plane: Plane) -> Picture:
    """Draw what the neighbourhood of the teacher's wrong samples holds, space by space."""
    shares = {name: _counts(plane, reached_N) for name, reached_N in plane.reached.items()}
    with house_style():
        figure = new_figure(3.3, WIDE_IN)
        panels = figure.subplots(1, len(plane.reached), squeeze=False, sharex=True, sharey=True)[0]
        for axes, (name, reached_N) in zip(panels, plane.reached.items(), strict=True):
            _draw_plane(axes, plane, reached_N)
            right, other = shares[name]
            axes.set_title(f"{_space_title(name)}", weight="bold")
            axes.text(
                0.5,
                -0.05,
                f"modality {plane.axes[0]} →\n"
                f"per wrong one {right:.1f} right ones\nand {other:.1f} of the other class",
                transform=axes.transAxes,
                ha="center",
                va="top",
                fontsize=9.5,
            )
        panels[0].set_ylabel(f"modality {plane.axes[1]} →")
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(
            handles[::-1],
            labels[::-1],
            loc="outside lower center",
            ncols=len(handles),
            frameon=False,
            fontsize=9,
            columnspacing=1.0,
            handletextpad=0.0,
        )
    return style.to_picture(
        figure,
        name="neighbourhoods",
        title="Whom do the teacher's wrong samples have as neighbours?",
        alt="; ".join(
            f"in {name}, {right:.1f} rightly labelled samples and {other:.1f} of another class per "
            "wrong one"
            for name, (right, other) in shares.items()
        ),
        note=f"One class of one draw, and what lies within {plane.radius:g} strengths of noise of "
        f"samples that the teacher has wrong. The teacher reads {plane.axes[0]} alone: whatever "
        "lies on one vertical is the same to it.",
    )


def reach_picture(spaces: Sequence[Reach], *, alpha: float) -> Picture:
    """Draw expansion and crossing over the radius, and the one against the other.

    Args:
        spaces: The modalities alone, and all of them last.
        alpha: Noise that is trained with.
    """
    with house_style():
        figure = new_figure(3.15, WIDE_IN)
        expand, cross, trade = figure.subplots(1, 3)
        for number, space in enumerate(spaces):
            look = _space_look(number, len(spaces))
            for class_X in space.classes if len(space.classes) > 1 else ():
                expand.plot(space.radii_X, class_X, color=look["color"], lw=0.6, alpha=0.45)
            draw_band(expand, space.radii_X, space.expansion_WX, **look)
            draw_band(cross, space.radii_X, space.crossing_WX, **look)
            trade.plot(
                np.nanmean(space.crossing_WX, axis=0),
                np.nanmean(space.expansion_WX, axis=0),
                label=_space_title(space.name),
                marker=".",
                ms=5,
                **look,
            )
        for axes in (expand, cross):
            axes.axvline(alpha, color=style.MUTED, lw=1, ls=(0, (2, 2)), zorder=0)
            axes.set_xlabel("radius, in strengths of noise")
        cross.annotate(
            "alpha",
            (alpha, 0.04),
            xycoords=("data", "axes fraction"),
            xytext=(4, 0),
            textcoords="offset points",
            fontsize=9,
            color=style.MUTED,
        )
        expand.set_title("Expansion")
        expand.set_ylabel("right ones per wrong one")
        cross.set_title("Crossing (1 - separation)")
        trade.set_title("Expansion for its crossing")
        trade.set_xlabel("share that crosses")
        style.percent_axis(cross, "y")
        style.percent_axis(trade, "x")
        for axes in (expand, cross, trade):
            axes.grid()
            axes.tick_params(length=0)
            axes.set_ylim(bottom=0)
        expand.set_ylim(top=1.12 * max(float(one.expansion_WX.max()) for one in spaces) or 1.0)
        handles, labels = trade.get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=len(spaces), frameon=False)
    return style.to_picture(
        figure,
        name="expansion",
        title="What does the second modality change?",
        alt="; ".join(_reach_words(space, alpha) for space in spaces),
        note="Left: rightly labelled samples of the same class within a radius of one that the "
        "teacher has wrong, per wrong one (thin: single classes). Middle: samples that have one of "
        "another class within the radius. Right: the one against the other; up and to the left is "
        "better. Bands: one standard deviation over draws.",
    )


def draw_band(axes: Axes, at_X: np.ndarray, values_WX: np.ndarray, **look: Any) -> None:
    """Draw the mean over draws and a standard deviation around it."""
    mean_X, std_X = np.nanmean(values_WX, axis=0), np.nanstd(values_WX, axis=0)
    axes.fill_between(at_X, mean_X - std_X, mean_X + std_X, color=look["color"], alpha=0.14, lw=0)
    axes.plot(at_X, mean_X, **look)


def _draw_plane(axes: Axes, plane: Plane, reached_N: np.ndarray) -> None:
    """Draw one panel of the plane."""
    right_N = plane.own_N & ~plane.wrong_N
    groups = (
        (~plane.own_N & ~reached_N, "other class, not reached", ".", style.GRID, 3),
        (right_N & ~reached_N, "right, not reached", ".", style.MUTED, 3),
        (~plane.own_N & reached_N, "other class, reached", "s", style.ORANGE, 2.4),
        (right_N & reached_N, "right, reached", "o", style.BLUE, 3),
        (plane.wrong_N, "the teacher's wrong ones", "x", style.RED, 3.6),
    )
    for chosen_N, label, marker, colour, size in groups:
        x, y = plane.points_N2[chosen_N].T
        axes.plot(x, y, marker, color=colour, ms=size, label=label, mew=1.0)
    axes.tick_params(length=0, labelbottom=False, labelleft=False)
    axes.set_aspect("equal", adjustable="box")


def _counts(plane: Plane, reached_N: np.ndarray) -> tuple[float, float]:
    """Return reached samples that are right, and of another class, per wrong one."""
    num_wrong = max(int(plane.wrong_N.sum()), 1)
    right = int((plane.own_N & ~plane.wrong_N & reached_N).sum())
    return right / num_wrong, int((~plane.own_N & reached_N).sum()) / num_wrong


def _space_look(number: int, num_spaces: int) -> dict[str, Any]:
    """Return how the curve of a space is drawn; that of all modalities is the last."""
    if number == num_spaces - 1:
        return {"color": _BOTH_COLOUR, "ls": "-", "lw": 2.0}
    place = number % len(_SPACE_COLOURS)
    return {"color": _SPACE_COLOURS[place], "ls": _SPACE_LINES[place], "lw": 1.6}


def _space_title(name: str) -> str:
    """Return the name of a space for a person."""
    return f"{name}, together" if " + " in name else f"{name} alone"


def _reach_words(space: Reach, alpha: float) -> str:
    """Say a curve of a space in words."""
    expansion = np.interp(alpha, space.radii_X, np.nanmean(space.expansion_WX, axis=0))
    crossing = np.interp(alpha, space.radii_X, np.nanmean(space.crossing_WX, axis=0))
    return f"{_space_title(space.name)}: expansion {expansion:.2f}, {crossing:.0%} cross at alpha"
