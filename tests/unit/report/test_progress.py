"""Progress of long stages."""

import io
import logging
import re
from types import SimpleNamespace

import pytest
from rich.console import Console

from mke_ray.report import progress
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
        report(50, 100, "clip.mp4", eta_s=75.0)
    assert "50/100" in screen.getvalue()
    assert "ETA 0:01:15" in screen.getvalue()


def test_a_terminal_of_150_columns_shows_a_pass_of_days_whole() -> None:
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=150)
    text = "312.5 samples/s, 1,000 of about 2,500 h, decode 70%, cost 2,222 + 3,200"
    with stage_progress("label", unit="samples", console=console) as report:
        report(600_000, 1_500_000, text, eta_s=360_000.0)
    shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", screen.getvalue())
    assert text in shown and "600000/1500000" in shown and "ETA 4 d 4 h" in shown


@pytest.fixture
def now(monkeypatch):
    """A clock that stands until it is set."""
    clock = SimpleNamespace(s=1000.0)
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: clock.s))
    return clock


def lines_of(caplog, now, calls):
    """Return the log lines of reports, each at a time of its own in seconds."""
    console = Console(file=io.StringIO())
    with (
        caplog.at_level(logging.INFO),
        stage_progress("label", unit="samples", console=console) as report,
    ):
        for at_s, *call in calls:
            now.s = 1000.0 + at_s
            report(*call)
    return [record.getMessage() for record in caplog.records]


def test_what_is_waited_for_is_said_at_once_and_once(caplog, now):
    waiting = "starting 3 workers"
    lines = lines_of(caplog, now, [(0, 0, 100), (1, 0, 100, waiting), (2, 0, 100, waiting)])
    assert lines[1:] == [f"label: {waiting}"]


def test_of_what_is_waited_for_a_new_number_alone_is_not_said_at_once(caplog, now):
    calls = [(1 + n, 0, 24, f"2 running, {n}.50 CPU-minutes") for n in range(9)]
    lines = lines_of(caplog, now, [*calls, (12, 0, 24, "2 running, 9.50 CPU-minutes")])
    assert lines == [
        "label: 2 running, 0.50 CPU-minutes",
        "label: 0%, 0 of 24 samples 2 running, 9.50 CPU-minutes",
    ]


def test_the_start_of_workers_does_not_count_for_the_eta(caplog, now):
    lines = lines_of(caplog, now, [(0, 0, 100), (300, 10, 100), (320, 30, 100)])
    assert "ETA" not in lines[1] and lines[2].endswith("30 of 100 samples ETA 0:01:10")


def test_no_eta_is_shown_before_a_sensible_part_is_done_or_a_minute_is_over(caplog, now):
    lines = lines_of(
        caplog, now, [(0, 0, 1000), (20, 10, 1000), (40, 20, 1000), (85, 30, 1000), (100, 9, 9)]
    )
    assert ["ETA" in line for line in lines] == [False, False, False, True, False]


def test_stages_within_a_quiet_block_say_nothing_and_the_one_around_them_goes_on(caplog) -> None:
    package = logging.getLogger("mke_ray")
    before = package.level, progress.logger.level
    console = Console(file=io.StringIO())
    with caplog.at_level(logging.INFO), stage_progress("all", unit="runs", console=console) as all_:
        with progress.quiet_stages():
            with stage_progress("label", unit="samples", console=console) as report:
                report(5, 5)
            logging.getLogger("mke_ray.expansion.work").info("label: done")
            logging.getLogger("mke_ray.expansion.work").warning("few samples")
            all_(1, 1)
        with stage_progress("later", unit="samples", console=console) as report:
            report(2, 2)
    said = [record.getMessage().split(",")[0] for record in caplog.records]
    assert said == ["few samples", "all: 100%", "later: 100%"]
    assert (package.level, progress.logger.level) == before
