"""Progress of long stages: a bar with ETA on a terminal, a line now and then in a log file."""

import contextlib
import contextvars
import logging
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from types import EllipsisType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

logger = logging.getLogger(__name__)

Report = Callable[..., None]

SECONDS_BETWEEN_LINES = 10.0

# An ETA is believed once this share of the work is done, or work has gone on for so long.
_ENOUGH_SHARE = 0.05
_ENOUGH_S = 60.0

_NUMBERS = re.compile(r"[\d.,]+")

_IS_QUIET = contextvars.ContextVar("is_quiet", default=False)


@contextlib.contextmanager
def stage_progress(title: str, *, unit: str, console: Console | None = None) -> Iterator[Report]:
    """Show the progress of one stage.

    Args:
        title: What the stage does.
        unit: What is counted, for example ``samples``.
        console: Where to show it; stderr by default.

    Yields:
        ``report(done, total, text="", eta_s=...)``, which may be called from any thread. The
        seconds left are None where the caller cannot tell yet; without them they follow from the
        rate since something was first done, so that the start of workers does not count.
    """
    if _IS_QUIET.get():
        yield _say_nothing
        return
    console = console or Console(stderr=True)
    clock = _Clock()
    if not console.is_terminal:
        yield _LineProgress(title, unit, clock)
        return
    columns = (
        TextColumn("{task.description:<16}", style="bold", markup=False),
        BarColumn(bar_width=10),
        MofNCompleteColumn(),
        TextColumn(f"{unit}  "),
        TimeElapsedColumn(),
        TextColumn("{task.fields[eta]}"),
        TextColumn("{task.fields[text]}", style="dim", markup=False),
    )
    with Progress(*columns, console=console) as bar:
        task = bar.add_task(title, total=None, text="", eta="")

        def report(
            done: int, total: int, text: str = "", eta_s: float | EllipsisType | None = ...
        ) -> None:
            left_s = clock.left_s(done, total) if eta_s is ... else eta_s
            bar.update(task, completed=done, total=total or None, text=text, eta=_eta(left_s))

        yield report


@dataclass(slots=True)
class PassShown:
    """Shows how far a pass is, and what it waits for before anything is done.

    Args:
        report: What shows it.
        num_done: Samples done so far.
        num_wanted: Samples wanted.
        eta_s: Seconds left, None where that cannot be told.
    """

    report: Report
    num_done: int = 0
    num_wanted: int = 0
    eta_s: float | None = None

    def tell(self, done: int, total: int, eta_s: float | None, text: str) -> None:
        """Show samples done, samples wanted, the seconds left and how the pass goes."""
        self.num_done, self.num_wanted, self.eta_s = done, total, eta_s
        self.report(done, total, text, eta_s=eta_s)

    def say(self, text: str) -> None:
        """Show what is waited for."""
        self.report(self.num_done, self.num_wanted, text, eta_s=self.eta_s)


@contextlib.contextmanager
def quiet_stages() -> Iterator[None]:
    """Show nothing of the stages within a block but warnings, where one progress shows them all.

    Progress that was begun before the block goes on.
    """
    package = logging.getLogger("mke_ray")
    before, own = package.level, logger.level
    token = _IS_QUIET.set(True)
    logger.setLevel(logger.getEffectiveLevel())
    package.setLevel(logging.WARNING)
    try:
        yield
    finally:
        package.setLevel(before)
        logger.setLevel(own)
        _IS_QUIET.reset(token)


def _say_nothing(done: int, total: int, text: str = "", eta_s: object = ...) -> None:
    """Report nothing."""


@dataclass(slots=True)
class _Clock:
    """Tells the seconds left from the rate since something was first done."""

    began_s: float | None = None
    first_done: int | None = None

    def left_s(self, done: int, total: int) -> float | None:
        """Return the seconds left, None where too little is done to tell."""
        now_s = time.monotonic()
        if self.first_done is None:
            self.first_done = done
        if self.began_s is None:
            if done > self.first_done:
                self.began_s, self.first_done = now_s, done
            return None
        num_since, spent_s = done - self.first_done, now_s - self.began_s
        is_enough = num_since >= _ENOUGH_SHARE * (total - self.first_done) or spent_s >= _ENOUGH_S
        return spent_s * (total - done) / num_since if num_since > 0 and is_enough else None


@dataclass(slots=True)
class _LineProgress:
    """Writes a log line at most every few seconds, one at the end, and what it waits for."""

    title: str
    unit: str
    clock: _Clock
    last_line_s: float = -SECONDS_BETWEEN_LINES
    awaited: str = ""
    first_done: int | None = None
    is_finished: bool = False

    def __call__(
        self, done: int, total: int, text: str = "", eta_s: float | EllipsisType | None = ...
    ) -> None:
        """Report that some of the total is done."""
        left_s = self.clock.left_s(done, total) if eta_s is ... else eta_s
        is_waiting = done in (0, self.first_done)
        self.first_done = done if self.first_done is None else self.first_done
        now_s, awaited = time.monotonic(), _NUMBERS.sub("", text)
        if is_waiting and awaited not in ("", self.awaited):
            self.awaited = awaited
            logger.info("%s: %s", self.title, text)
            self.last_line_s = now_s
            if done < total or not total:
                return
        is_due = now_s - self.last_line_s >= SECONDS_BETWEEN_LINES
        if not total or self.is_finished or not (is_due or done >= total):
            return
        self.is_finished = done >= total
        self.last_line_s = now_s
        share = f"{100 * done / total:.0f}%"
        said = " ".join(part for part in ("" if self.is_finished else _eta(left_s), text) if part)
        logger.info("%s: %s, %d of %d %s %s", self.title, share, done, total, self.unit, said)


def _eta(left_s: float | None) -> str:
    """Return the time left as it is shown, nothing where it is not known."""
    if left_s is None:
        return ""
    left = timedelta(seconds=round(left_s))
    return f"ETA {left.days} d {left.seconds // 3600} h" if left.days else f"ETA {left}"
