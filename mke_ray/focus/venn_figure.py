"""The modality Venn diagram of a pre-flight, drawn to scale, and how strong each modality is."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.patches import Circle
from matplotlib_venn import venn2, venn2_circles
from matplotlib_venn.layout.venn2 import DefaultLayoutAlgorithm

from mke_ray.report import style
from mke_ray.report.style import Picture, house_style, new_figure

_METRICS = {"accuracy": "Accuracy", "map": "Mean average precision"}
_PARTS = (("10", style.INK, 0.35), ("01", style.ORANGE, 0.5), ("11", style.BLUE, 0.6))
_LEAST_SHOWN = 0.005  # of what is known; less cannot be seen
_NEARLY_NOTHING = 0.03  # of all there is to know; shares of less say nothing


def venn_picture(
    evidence: Mapping[str, Any], *, teacher: str, witnesses: Sequence[str]
) -> Picture | None:
    """Draw who knows what of the class, areas to scale.

    Where nearly nothing is known, all there is to know is drawn around it.

    Args:
        evidence: Plain data of ``Evidence.to_dict``.
        teacher: Modality of the teacher.
        witnesses: Modalities of the witnesses.

    Returns:
        None where nobody knows anything alone.

    Source:
        The diagram of modality-general and modality-specific decisive features: Xue et al., The
        Modality Focusing Hypothesis, ICLR 2023, figure 2.
    """
    bits = evidence["information_bits"]
    names = (teacher, " + ".join(witnesses))
    parts = [max(0.0, bits[one]) for one in ("teacher_only", "witness_only", "shared")]
    if sum(parts) <= 0:
        return None
    shares = (parts[0] / bits["both"], parts[1] / bits["both"], parts[2] / bits["both"])
    with house_style():
        figure = new_figure(3.3)
        axes = figure.subplots()
        _draw_circles(axes, shares, bits)
        axes.set_axis_off()
        _name_parts(axes, names, shares, bits)
    return style.to_picture(
        figure,
        name="preflight_venn",
        title="Who knows what of the class?",
        alt=_alt(names, shares, bits),
        note=_note(evidence, names),
    )


def strength_picture(
    evidence: Mapping[str, Any], *, teacher: str, witnesses: Sequence[str]
) -> Picture:
    """Draw how good teacher, witnesses and both together are on the select part.

    Args:
        evidence: Plain data of ``Evidence.to_dict``.
        teacher: Modality of the teacher.
        witnesses: Modalities of the witnesses.
    """
    names = " + ".join(witnesses)
    rows = [
        (f"{teacher}, the teacher", evidence["teacher"], style.INK),
        (f"{names} alone", evidence["witness"], style.ORANGE),
        ("joined", evidence["joined"], style.BLUE),
    ]
    if evidence["trial"] is not None:
        rows.append(("trial student", evidence["trial"], style.GREEN))
    metric = _METRICS[evidence["metric"]]
    with house_style():
        figure = new_figure(0.95 + 0.38 * len(rows))
        axes = figure.subplots()
        style.named_line(axes, evidence["nobody"], "frequencies alone")
        for number, (_, one, colour) in enumerate(rows):
            _draw_strength(axes, number, one, colour)
        axes.set_yticks(range(len(rows)), [name for name, _, _ in rows])
        axes.set_ylim(len(rows) - 0.5, -0.6)
        axes.set_xlabel(f"{metric} on the select part of the probe, with 95% intervals")
        axes.grid(axis="x")
        axes.spines["left"].set_visible(False)
        axes.tick_params(length=0)
        axes.tick_params(axis="y", labelcolor=style.INK)
        style.percent_axis(axes, "x")
    return style.to_picture(
        figure,
        name="preflight_strength",
        title="How strong is each alone, and both together?",
        alt=f"{metric} on the select part: "
        + "; ".join(f"{name} {one['value']:.1%}" for name, one, _ in rows),
        note="Joined by the posterior from which our student's labels come, fitted on other groups "
        "than it is measured on; the trial student learnt the first samples alone. The dashed line "
        "knows only how frequent classes are.",
    )


def _draw_strength(axes: Axes, row: int, one: Mapping[str, Any], colour: str) -> None:
    """Draw a metric and its interval, and write it beside the axes."""
    low, high = one["ci95"] or (one["value"], one["value"])
    axes.plot([low, high], [row, row], color=colour, lw=2.4, solid_capstyle="round")
    axes.plot([one["value"]], [row], "o", ms=7.5, color=colour)
    style.write_beside(axes, row, f"{one['value']:.1%}")


def _is_nearly_nothing(bits: Mapping[str, float]) -> bool:
    """Return whether of all there is to know nearly nothing is known."""
    return bits["both"] < _NEARLY_NOTHING * bits["entropy"]


def _draw_circles(
    axes: Axes, shares: tuple[float, float, float], bits: Mapping[str, float]
) -> None:
    """Draw two circles whose areas, and that of their overlap, are to scale."""
    shown = sum(shares) * bits["both"] / bits["entropy"]
    area = shown if _is_nearly_nothing(bits) else 1.0
    layout = DefaultLayoutAlgorithm(normalize_to=area)
    drawn = venn2(subsets=shares, set_labels=None, ax=axes, layout_algorithm=layout)
    for part, colour, alpha in _PARTS:
        if (patch := drawn.get_patch_by_id(part)) is not None:
            patch.set(facecolor=colour, alpha=alpha, edgecolor="none")
        if (label := drawn.get_label_by_id(part)) is not None:
            label.set_visible(False)
    for circle in venn2_circles(subsets=shares, ax=axes, linewidth=1.4, layout_algorithm=layout):
        circle.set_edgecolor(style.INK)
    if _is_nearly_nothing(bits):
        _draw_all_there_is(axes)


def _draw_all_there_is(axes: Axes) -> None:
    """Draw a circle of area 1 around what is known."""
    radius = math.sqrt(1 / math.pi)
    axes.add_patch(Circle((0, 0), radius, fill=False, ec=style.MUTED, lw=1.2, ls=(0, (4, 3))))
    axes.text(0, -0.7 * radius, "all there is to know", ha="center", color=style.MUTED)
    axes.set_xlim(-2 * radius, 2 * radius)
    axes.set_ylim(-1.05 * radius, 1.05 * radius)


def _name_parts(
    axes: Axes,
    names: tuple[str, str],
    shares: tuple[float, float, float],
    bits: Mapping[str, float],
) -> None:
    """Write beside the circles what each part is, so that no text lies in a thin sliver."""
    said = (
        (0.0, "left", f"only {names[0]}", shares[0], style.INK),
        (0.5, "center", "both (gamma)", shares[2], style.BLUE),
        (1.0, "right", f"only {names[1]}", shares[1], style.ORANGE),
    )
    beside: dict[str, Any] = {"transform": axes.transAxes, "va": "center"}
    for place, side, name, share, colour in said:
        axes.text(place, 1.14, name, ha=side, color=colour, fontweight="bold", **beside)
        if not _is_nearly_nothing(bits):
            number = f"{share:.0%}" if share >= _LEAST_SHOWN or share == 0 else "<1%"
            axes.text(place, 1.03, number, ha=side, fontsize=13, **beside)
    if _is_nearly_nothing(bits):
        axes.text(0.5, 1.03, "nearly nothing is known", ha="center", fontsize=13, **beside)
    axes.text(0.5, -0.04, f"{_known(bits)} known", ha="center", color=style.MUTED, **beside)


def _known(bits: Mapping[str, float]) -> str:
    """Return how much is known of all there is to know."""
    return f"{bits['both']:.2f} of {bits['entropy']:.2f} bits"


def _alt(
    names: tuple[str, str], shares: tuple[float, float, float], bits: Mapping[str, float]
) -> str:
    """Say the diagram in words."""
    if _is_nearly_nothing(bits):
        return (
            f"Venn diagram of what is known of the class, by only {names[0]}, both and only "
            f"{names[1]}: nearly nothing, {_known(bits)}."
        )
    return (
        f"Venn diagram of what is known of the class: only {names[0]} {shares[0]:.0%}, both "
        f"{shares[2]:.0%}, only {names[1]} {shares[1]:.0%}, {_known(bits)} in all."
    )


def _note(evidence: Mapping[str, Any], names: tuple[str, str]) -> str:
    """Return how the diagram is read."""
    bits, gamma = evidence["information_bits"], evidence["gamma"]
    said = (
        "Areas are usable information about the class, as teacher and witnesses make use of it: "
        f"{_known(bits)} together."
    )
    if _is_nearly_nothing(bits):
        return said
    if gamma is not None and gamma["ci95"] is not None:
        low, high = gamma["ci95"]
        said += f" Gamma, the shared part, is {gamma['value']:.0%} ({low:.0%} to {high:.0%})."
    if bits["together_only"] / bits["both"] >= _LEAST_SHOWN:
        share = bits["together_only"] / bits["both"]
        said += f" A further {share:.0%} only {names[0]} and {names[1]} together tell."
    return said
