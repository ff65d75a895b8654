"""Where the time of a run went, how fast its pass was, and what that cost."""

from collections.abc import Mapping
from typing import Any

from mke_ray.labels.pass_words import bytes_text
from mke_ray.report import style
from mke_ray.report.content import ReportContent, Throughput, cost_of
from mke_ray.report.style import Picture, house_style, new_figure

TOTAL = "total"


def stage_rows(content: ReportContent) -> list[dict[str, Any]]:
    """Return seconds, share and cost of every stage, the longest first, and of all together."""
    total_s = content.seconds.get(TOTAL, 0.0)
    by_stage = {name: one for name, one in content.seconds.items() if name != TOTAL}
    ordered = sorted(by_stage.items(), key=lambda one: -one[1])
    return [
        {
            "name": name,
            "seconds": spent_s,
            "share": spent_s / total_s if total_s else None,
            "cost": cost_of(spent_s, content.cost_per_hour),
        }
        for name, spent_s in [*ordered, (TOTAL, total_s)]
    ]


def seconds_picture(seconds: Mapping[str, float]) -> Picture | None:
    """Draw the wall-clock time of every stage, None where no stage took any."""
    by_stage = {n: s for n, s in seconds.items() if n != TOTAL and s > 0}
    if not by_stage:
        return None
    ordered = sorted(by_stage.items(), key=lambda one: -one[1])
    total_s = sum(by_stage.values())
    with house_style():
        figure = new_figure(0.5 + 0.34 * len(ordered))
        axes = figure.subplots()
        axes.barh(range(len(ordered)), [one for _, one in ordered], height=0.6, color=style.BLUE)
        axes.set_yticks(range(len(ordered)), [name for name, _ in ordered])
        axes.tick_params(axis="y", length=0, labelcolor=style.INK)
        axes.invert_yaxis()
        for row, (_, spent_s) in enumerate(ordered):
            said = f"{duration(spent_s)}, {spent_s / total_s:.0%}"
            axes.annotate(
                said,
                (spent_s, row),
                xytext=(6, 0),
                textcoords="offset points",
                va="center_baseline",
            )
        axes.set_xlim(0, 1.35 * ordered[0][1])
        axes.xaxis.set_visible(False)
        for side in ("left", "bottom"):
            axes.spines[side].set_visible(False)
    return style.to_picture(
        figure,
        name="seconds",
        title="Where the time went",
        alt="; ".join(f"{name} {duration(one)}" for name, one in ordered),
    )


def throughput_rows(found: Throughput | None, cost_per_hour: float | None) -> list[tuple[str, str]]:
    """Return what the pass over the source took, in words, none where that is unknown."""
    if found is None:
        return []
    is_known = found.samples_per_s is not None or not found.num_untold  # what a time brought
    starts = "" if found.num_starts < 2 else f" in {found.num_starts} starts"
    rows = [("Samples worked on", f"{found.num_samples + found.num_untold:,}{starts}")]
    if found.num_untold:
        rows.append(("Of them without a report", f"{found.num_untold:,}; a start was ended before"))
    if found.samples_per_s:
        rows.append(("Samples per second", f"{found.samples_per_s:,.1f}"))
    if found.media_s:
        rows.append(("Media decoded", f"{found.media_s / 3600:,.2f} h"))
        rows.append(("Mean length", f"{found.media_s / max(found.num_decoded, 1):.2f} s"))
        if found.wall_s and is_known:
            rows.append(("Media per wall-clock hour", f"{found.media_s / found.wall_s:,.1f} h"))
    if found.num_bytes_read:
        rows.append(("Read from the source", bytes_text(found.num_bytes_read)))
    if found.num_bytes_written:
        rows.append(("Written to the stores", bytes_text(found.num_bytes_written)))
    rows += [(f"Workers' time: {name}", f"{share:.0%}") for name, share in found.shares.items()]
    cost = cost_of(found.wall_s, cost_per_hour)
    if cost is not None and found.num_samples:
        rows.append(("Cost of the pass", f"{cost:,.2f}{' or more' if found.num_untold else ''}"))
    if cost is not None and found.num_samples and is_known:
        rows.append(("Cost per 1,000 samples", f"{1000 * cost / found.num_samples:,.4f}"))
    return rows


def duration(seconds: float) -> str:
    """Return a time span for a person."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"
