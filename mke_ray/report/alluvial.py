"""The flow from the teacher's answers to the student's, as bands between two columns of classes."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Patch, PathPatch, Rectangle
from matplotlib.path import Path

from mke_ray.evaluation.diagnosis import Move
from mke_ray.evaluation.results import Flow
from mke_ray.report import style
from mke_ray.report.style import Picture, arm_short, house_style, new_figure

MOST_NODES = 12

# What becomes of an answer, in the order in which bands lie on each other.
KEPT, CORRECTED, CORRUPTED, WRONG = "right", "corrected", "corrupted", "wrong"
_OUTCOMES = {
    KEPT: ("stays right", style.MUTED, 0.22),
    CORRECTED: ("corrected", style.BLUE, 0.85),
    CORRUPTED: ("corrupted", style.ORANGE, 0.9),
    WRONG: ("stays wrong", style.PURPLE, 0.7),
}
_OTHERS = -2
_LEFT, _RIGHT, _NODE_WIDTH = 0.0, 1.0, 0.022
_GAP = 0.16  # of all nodes together, of the height of the answers
_MAX_NAME = 18


@dataclass(frozen=True, slots=True)
class Band:
    """Answers that go from one node to another.

    Args:
        left: Node of the teacher.
        right: Node of the student.
        outcome: What becomes of them.
        num: How many.
    """

    left: int
    right: int
    outcome: str
    num: float


def alluvial_picture(
    moves: Sequence[Move], flow: Flow | None, classes: Sequence[str], *, arm: str
) -> Picture | None:
    """Draw what became of the teacher's answers, by class where samples have one.

    Args:
        moves: From the teacher's class to the student's; empty where there can be many.
        flow: Right and wrong answers, which are drawn where there are no moves.
        classes: Names of the classes.
        arm: The student's arm.

    Returns:
        None where there is neither.
    """
    if moves:
        bands, names = _bands_by_class(moves, classes)
        where = "on the test set"
    elif flow is not None and flow.num:
        bands, names = _bands_of_flow(flow), {1: "right", 0: "wrong"}
        where = "on the unlabeled set"
    else:
        return None
    with house_style():
        figure = new_figure(1.25 + 0.36 * max(len(names), 4))
        axes = figure.subplots()
        _draw(axes, bands, names)
        axes.set_title("Teacher said", loc="left")
        axes.set_title(f"{arm_short(arm)} says", loc="right")
        seen = {one.outcome for one in bands if one.num}
        figure.legend(
            handles=[
                Patch(color=colour, alpha=alpha, label=label)
                for name, (label, colour, alpha) in _OUTCOMES.items()
                if name in seen
            ],
            loc="outside lower center",
            ncols=4,
            frameon=False,
            fontsize=9.5,
            handlelength=1.2,
        )
    return style.to_picture(
        figure,
        name="flow",
        title="From the teacher's answer to the student's",
        alt=_alt(bands, where),
        note=f"A band is as high as its answers {where} are many"
        + (", by the class that was named." if moves else "."),
    )


def totals(bands: Iterable[Band]) -> dict[str, float]:
    """Return how many answers have each outcome."""
    summed: dict[str, float] = dict.fromkeys(_OUTCOMES, 0.0)
    for one in bands:
        summed[one.outcome] += one.num
    return summed


def bands_of_move(move: Move, left: int, right: int) -> list[Band]:
    """Return the answers of a move by what becomes of them, none that are empty."""
    if move.teacher == move.student:
        num = {KEPT: move.num_right_before, WRONG: move.num - move.num_right_before}
    else:
        rest = move.num - move.num_right_before - move.num_right_after
        num = {CORRECTED: move.num_right_after, CORRUPTED: move.num_right_before, WRONG: rest}
    return [Band(left, right, outcome, one) for outcome, one in num.items() if one]


def _bands_by_class(
    moves: Sequence[Move], classes: Sequence[str]
) -> tuple[list[Band], dict[int, str]]:
    """Return bands between classes, those that changed least put together."""
    changed: dict[int, int] = defaultdict(int)
    for one in moves:
        for end in (one.teacher, one.student):
            changed[end] += one.num if one.teacher != one.student else 0
    shown = sorted(changed, key=lambda end: (-changed[end], end))
    if len(shown) > MOST_NODES:
        shown = shown[: MOST_NODES - 1]
    summed: dict[tuple[int, int, str], float] = defaultdict(float)
    for one in moves:
        left, right = (end if end in shown else _OTHERS for end in (one.teacher, one.student))
        for band in bands_of_move(one, left, right):
            summed[band.left, band.right, band.outcome] += band.num
    names = {end: _name(end, classes) for end in sorted(shown, key=lambda end: (end < 0, end))}
    if len(changed) > len(shown):
        names[_OTHERS] = f"{len(changed) - len(shown)} more"
    return [Band(*key, num) for key, num in summed.items()], names


def _bands_of_flow(flow: Flow) -> list[Band]:
    """Return bands between right and wrong."""
    num = {
        (1, 1, KEPT): flow.num_right - flow.num_corrupted,
        (0, 1, CORRECTED): flow.num_corrected,
        (1, 0, CORRUPTED): flow.num_corrupted,
        (0, 0, WRONG): flow.num_wrong - flow.num_corrected,
    }
    return [Band(*key, one) for key, one in num.items() if one]


def _name(end: int, classes: Sequence[str]) -> str:
    """Return the name of a node of bounded length."""
    name = "no answer" if end < 0 else classes[end]
    return name if len(name) <= _MAX_NAME else name[: _MAX_NAME - 1] + "…"


def _draw(axes: Axes, bands: Sequence[Band], names: Mapping[int, str]) -> None:
    """Draw nodes with their names and the bands between them."""
    order = {end: place for place, end in enumerate(names)}
    ranked = {name: place for place, name in enumerate(_OUTCOMES)}
    by_left = sorted(bands, key=lambda b: (order[b.left], order[b.right], ranked[b.outcome]))
    by_right = sorted(bands, key=lambda b: (order[b.right], order[b.left], ranked[b.outcome]))
    gap = _GAP * sum(one.num for one in bands) / len(names)
    starts = _stacked(by_left, [b.left for b in by_left], gap)
    ends = _stacked(by_right, [b.right for b in by_right], gap)
    for outcome in (KEPT, WRONG, CORRECTED, CORRUPTED):  # what changed lies above
        for band in (one for one in bands if one.outcome == outcome):
            _draw_band(axes, starts[band], ends[band], band)
    for x, side, placed in ((_LEFT, "left", starts), (_RIGHT, "right", ends)):
        _draw_nodes(axes, x, side, placed, names)
    bottom = max(place + band.num for one in (starts, ends) for band, place in one.items())
    axes.set_xlim(_LEFT - 0.02, _RIGHT + 0.02)
    axes.set_ylim(bottom * 1.01, -bottom * 0.01)
    axes.set_axis_off()


def _stacked(bands: Sequence[Band], nodes: Sequence[int], gap: float) -> dict[Band, float]:
    """Return where each band begins, with a gap between nodes."""
    place, last, starts = 0.0, None, {}
    for band, node in zip(bands, nodes, strict=True):
        place += gap if last is not None and node != last else 0.0
        starts[band], last = place, node
        place += band.num
    return starts


def _draw_band(axes: Axes, start: float, end: float, band: Band) -> None:
    """Draw one band as two curves."""
    _, colour, alpha = _OUTCOMES[band.outcome]
    x0, x1, middle = _LEFT + _NODE_WIDTH, _RIGHT - _NODE_WIDTH, (_LEFT + _RIGHT) / 2
    points = [
        *((x0, start), (middle, start), (middle, end), (x1, end)),
        *((x1, end + band.num), (middle, end + band.num), (middle, start + band.num)),
        *((x0, start + band.num), (x0, start)),
    ]
    curve = [Path.CURVE4] * 3
    codes = [Path.MOVETO, *curve, Path.LINETO, *curve, Path.CLOSEPOLY]
    axes.add_patch(PathPatch(Path(points, codes), fc=colour, alpha=alpha, lw=0))


def _draw_nodes(
    axes: Axes, x: float, side: str, placed: Mapping[Band, float], names: Mapping[int, str]
) -> None:
    """Draw the nodes of one column with their names and numbers beside them."""
    is_left = side == "left"
    for node, name in names.items():
        mine = {b: place for b, place in placed.items() if getattr(b, side) == node}
        if not mine:
            continue
        low = min(mine.values())
        num = sum(band.num for band in mine)
        corner = (x if is_left else x - _NODE_WIDTH, low)
        axes.add_patch(Rectangle(corner, _NODE_WIDTH, num, fc=style.INK, lw=0))
        axes.annotate(
            f"{name}  {num:,.0f}",
            (x, low + num / 2),
            xytext=(-6 if is_left else 6, 0),
            textcoords="offset points",
            ha="right" if is_left else "left",
            va="center_baseline",
            fontsize=9.5,
            annotation_clip=False,
        )


def _alt(bands: Sequence[Band], where: str) -> str:
    """Say the figure in words."""
    num = np.fromiter(totals(bands).values(), float)
    parts = [f"{one:,.0f} {_OUTCOMES[name][0]}" for name, one in zip(_OUTCOMES, num, strict=True)]
    return f"Of {num.sum():,.0f} answers of the teacher {where}: " + ", ".join(parts)
