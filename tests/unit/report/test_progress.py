"""Progress of long stages."""

import io
import logging

from rich.console import Console

from mke_ray.report.progress import stage_progress


def test_a_log_file_gets_few_lines_and_always_the_last(caplog) -> None:
    with (
        caplog.at_level(logging.INFO),
        stage_progress("label", unit="samples", console=Console(file=io.StringIO())) as report,
    ):
        for done in range(101):
            report(done, 100)
        report(100, 100)
    lines = [record.getMessage() for record in caplog.records]
    assert 1 <= len(lines) <= 3
    assert lines[-1].startswith("label: 100%, 100 of 100 samples")


def test_a_terminal_gets_a_bar_with_an_eta() -> None:
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=120)
    with stage_progress("label", unit="samples", console=console) as report:
        report(50, 100, "clip.mp4")
    assert "50/100" in screen.getvalue()
    assert "ETA" in screen.getvalue()
