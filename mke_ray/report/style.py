"""One look for all figures: colours that everybody can tell apart, and pictures as PNG and SVG."""

import io
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

WIDTH_IN = 5.6
PNG_DPI = 200
_MOST_DECIMALS = 3  # of percents at ticks

INK = "#1d2430"
MUTED = "#5b6573"
GRID = "#dfe3e8"
PAPER = "#ffffff"
BLUE = "#0b6bb0"
ORANGE = "#b85200"
GREEN = "#258b5d"
PURPLE = "#542368"
INDIGO = "#341286"
AMBER = "#8f6400"
SLATE = "#605e74"
BROWN = "#470201"
RED = "#ae132c"

# Inline SVG takes its colours from the page, so that one drawing serves light and dark.
CSS_NAMES = {
    INK: "--ink",
    MUTED: "--muted",
    GRID: "--grid",
    PAPER: "--card",
    BLUE: "--blue",
    ORANGE: "--orange",
    GREEN: "--green",
    PURPLE: "--purple",
    INDIGO: "--indigo",
    AMBER: "--amber",
    SLATE: "--slate",
    BROWN: "--brown",
    RED: "--red",
}

ARM_TITLES = {
    "teacher": "Teacher",
    "um_student": "Unimodal student",
    "noisy_student": "Noisy student (unimodal)",
    "mm_student_no_reg": "Multimodal, no regularisation",
    "mke": "MKE as published",
    "relabel_only": "Relabelling only",
    "mm_student": "Multimodal student",
    "mm_labelled_only": "Multimodal, paired labels only",
    "mm_supervised": "Multimodal, all true labels",
}
_ARM_SHORT_TITLES = {
    "um_student": "Unimodal",
    "noisy_student": "Noisy student",
    "mm_student_no_reg": "No regularisation",
    "mke": "MKE",
    "mm_student": "Student",
    "mm_labelled_only": "Paired labels only",
    "mm_supervised": "All true labels",
}
ARM_COLOURS = {
    "teacher": INK,
    "um_student": SLATE,
    "noisy_student": RED,
    "mm_student_no_reg": GREEN,
    "mke": ORANGE,
    "relabel_only": PURPLE,
    "mm_student": BLUE,
    "mm_labelled_only": INDIGO,
    "mm_supervised": BROWN,
}

# A second sign beside the colour: one modality is dashed, what learns from true labels is dotted.
_ARM_LINES: dict[str, Any] = {
    **dict.fromkeys(("teacher", "um_student", "noisy_student"), (0, (4, 1.6))),
    **dict.fromkeys(("mm_labelled_only", "mm_supervised"), (0, (1.2, 1.2))),
}

_RC: dict[Any, Any] = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 10.5,
    "text.color": INK,
    "text.parse_math": False,  # names of classes and runs are text, whatever dollars they have
    "axes.labelcolor": MUTED,
    "axes.edgecolor": GRID,
    "axes.titlelocation": "left",
    "axes.titlesize": 10.5,
    "axes.titlecolor": INK,
    "axes.labelsize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.facecolor": "none",
    "axes.axisbelow": True,
    "figure.facecolor": "none",
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "xtick.color": GRID,
    "ytick.color": GRID,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "xtick.labelsize": 9.5,
    "ytick.labelsize": 9.5,
    "svg.fonttype": "path",
    "svg.hashsalt": "mke_ray",
}


@dataclass(frozen=True, slots=True)
class Picture:
    """A figure as the report keeps it.

    Args:
        name: File name without suffix, unique in a report.
        title: Heading on the page.
        alt: What the figure shows, for those who do not see it.
        png: The picture for papers and slides.
        svg: Inline SVG for the page, None where the page shows the PNG.
        note: How to read it, one or two sentences.
    """

    name: str
    title: str
    alt: str
    png: bytes
    svg: str | None = None
    note: str = ""


@contextmanager
def house_style() -> Iterator[None]:
    """Draw with the style of the report, and leave the user's own settings alone."""
    with mpl.rc_context(_RC):
        yield


def new_figure(height_in: float, width_in: float = WIDTH_IN) -> Figure:
    """Return an empty figure without pyplot, so that nothing global is touched."""
    figure = Figure(figsize=(width_in, height_in), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def arm_title(arm: str) -> str:
    """Return the name of an arm for a person."""
    return ARM_TITLES.get(arm, arm.replace("_", " "))


def arm_short(arm: str) -> str:
    """Return a short name of an arm, for labels inside figures."""
    return _ARM_SHORT_TITLES.get(arm, arm_title(arm))


def arm_colour(arm: str) -> str:
    """Return the colour of an arm, the same in all figures."""
    return ARM_COLOURS.get(arm, SLATE)


def arm_line(arm: str) -> Any:
    """Return how the line of an arm is drawn, as matplotlib wants it."""
    return _ARM_LINES.get(arm, "-")


def to_picture(figure: Figure, *, name: str, title: str, alt: str, note: str = "") -> Picture:
    """Return a figure as PNG and as SVG for the page.

    Args:
        figure: Drawn under ``house_style``.
        name: File name without suffix.
        title: Heading on the page.
        alt: What it shows.
        note: How to read it.
    """
    png, svg = io.BytesIO(), io.StringIO()
    with house_style():
        figure.savefig(png, format="png", dpi=PNG_DPI, facecolor=PAPER)
        figure.savefig(svg, format="svg", transparent=True, metadata={"Date": None})
    inline = _inline_svg(svg.getvalue(), name=name, alt=alt)
    return Picture(name, title=title, alt=alt, png=png.getvalue(), svg=inline, note=note)


def spread_labels(positions: list[float], gap: float) -> list[float]:
    """Move label positions apart as little as it takes.

    Args:
        positions: Where the labels should be.
        gap: Least distance between two of them.

    Returns:
        New positions in the order given.
    """
    order = sorted(range(len(positions)), key=positions.__getitem__)
    blocks: list[list[int]] = []
    for label in order:
        blocks.append([label])
        while len(blocks) > 1 and _overlap(blocks[-2], blocks[-1], positions, gap):
            last = blocks.pop()
            blocks[-1] += last
    moved = list(positions)
    for block in blocks:
        for rank, label in enumerate(block):
            moved[label] = _block_start(block, positions, gap) + rank * gap
    return moved


def write_beside(axes: Axes, row: float, text: str) -> None:
    """Write a text at the height of a row, at the right of the axes."""
    axes.annotate(
        text,
        (1.0, row),
        xycoords=("axes fraction", "data"),
        xytext=(6, 0),
        textcoords="offset points",
        va="center_baseline",
        annotation_clip=False,
    )


def named_line(axes: Axes, x: float, name: str) -> None:
    """Draw a dashed vertical line with its name above the axes."""
    axes.axvline(x, color=MUTED, lw=1.2, ls=(0, (4, 3)), zorder=1)
    axes.annotate(
        name,
        (x, 1.0),
        xycoords=axes.get_xaxis_transform(),
        xytext=(0, 3),
        textcoords="offset points",
        ha="center",
        va="bottom",
        color=MUTED,
        fontsize=9.5,
        annotation_clip=False,
    )


def percent_axis(axes: Axes, axis: str) -> None:
    """Write the ticks of an axis of shares as percents, with as few decimals as are exact."""
    chosen = axes.xaxis if axis == "x" else axes.yaxis

    def written(share: float, _: int | None) -> str:
        return f"{share:.{_percent_decimals(chosen.get_majorticklocs())}%}"

    chosen.set_major_formatter(FuncFormatter(written))


def log_axis(axes: Axes, *, is_narrow: bool = False) -> None:
    """Make the horizontal axis logarithmic, once its limits are set, with plain numbers.

    Args:
        axes: The axes.
        is_narrow: Whether there is room for few numbers only.
    """
    axes.set_xscale("log")
    low, high = axes.get_xlim()
    if high < 100 * low:
        axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 3.0) if is_narrow else (1.0, 2.0, 5.0)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())


def _percent_decimals(shares: Iterable[float]) -> int:
    """Return how many decimals the percents of shares need, none for whole ones."""
    percents = [100 * one for one in shares]
    for decimals in range(_MOST_DECIMALS):
        if all(abs(round(one, decimals) - one) < 1e-9 for one in percents):
            return decimals
    return _MOST_DECIMALS


def _block_start(block: list[int], positions: list[float], gap: float) -> float:
    """Return the first position of a block of touching labels, centred on what they label."""
    centre = sum(positions[label] for label in block) / len(block)
    return centre - gap * (len(block) - 1) / 2


def _overlap(below: list[int], above: list[int], positions: list[float], gap: float) -> bool:
    """Return whether two neighbouring blocks of labels touch."""
    end = _block_start(below, positions, gap) + gap * len(below)
    return end > _block_start(above, positions, gap)


def _inline_svg(text: str, *, name: str, alt: str) -> str:
    """Return an SVG that can stand in a page beside others: own ids, the page's colours, a text."""
    body = text[text.index("<svg") :]
    body = re.sub(r"<metadata>.*?</metadata>", "", body, flags=re.DOTALL)
    body = re.sub(r'\bid="([^"]+)"', rf'id="{name}-\1"', body)
    body = re.sub(r'xlink:href="#([^"]+)"', rf'href="#{name}-\1"', body)
    body = re.sub(r"url\(#([^)]+)\)", rf"url(#{name}-\1)", body)
    for colour, css in CSS_NAMES.items():
        body = body.replace(colour, f"var({css})")
    head, rest = body.split(">", 1)
    head = re.sub(r'\s(width|height)="[^"]*"', "", head)
    return f'{head} role="img" aria-label="{_attribute(alt)}">{rest}'


def _attribute(text: str) -> str:
    """Return a text that may stand in a quoted attribute."""
    pairs = {"&": "&amp;", '"': "&quot;", "<": "&lt;", ">": "&gt;"}
    return "".join(pairs.get(letter, letter) for letter in text)
