"""The report of a run: figures, the page, metrics.json and the table on the terminal."""

from mke_ray.report.contact import sample_cards
from mke_ray.report.content import (
    DoublePair,
    FitHistory,
    ReportContent,
    SampleCard,
    UnreadableFile,
    metrics_of,
)
from mke_ray.report.figures import decision_boundaries
from mke_ray.report.page import write_report
from mke_ray.report.style import Picture
from mke_ray.report.terminal import terminal_report

__all__ = [
    "DoublePair",
    "FitHistory",
    "Picture",
    "ReportContent",
    "SampleCard",
    "UnreadableFile",
    "decision_boundaries",
    "metrics_of",
    "sample_cards",
    "terminal_report",
    "write_report",
]
