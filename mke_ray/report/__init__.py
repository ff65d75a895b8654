"""The report of a run: figures, the page, metrics.json and the table on the terminal."""

from mke_ray.report.contact import sample_cards
from mke_ray.report.content import (
    DoublePair,
    FitHistory,
    RefinementRound,
    ReportContent,
    SampleCard,
    Throughput,
    UnreadableFile,
    metrics_of,
)
from mke_ray.report.figures import decision_boundaries
from mke_ray.report.page import write_report
from mke_ray.report.scenes import class_gain_picture, scenes_of, scenes_picture
from mke_ray.report.style import Picture
from mke_ray.report.terminal import terminal_report

__all__ = [
    "DoublePair",
    "FitHistory",
    "Picture",
    "RefinementRound",
    "ReportContent",
    "SampleCard",
    "Throughput",
    "UnreadableFile",
    "class_gain_picture",
    "decision_boundaries",
    "metrics_of",
    "sample_cards",
    "scenes_of",
    "scenes_picture",
    "terminal_report",
    "write_report",
]
