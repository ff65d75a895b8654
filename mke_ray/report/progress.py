"""Progress of long stages: a bar with ETA on a terminal, a line now and then in a log file."""

import contextlib
import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.progress import TimeRemainingColumn as EtaColumn

logger = logging.getLogger(__name__)

Report = Callable[..., None]

SECONDS_BETWEEN_LINES = 10.0


@contextlib.contextmanager
def stage_progress(title: str, *, unit: str, console: Console | None = None) -> Iterator[Report]:
    """Show the progress of one stage.

    Args:
        title: What the stage does.
        unit: What is counted, for example ``samples``.
        console: Where to show it; stderr by default.

    Yields:
        ``report(done, total, text="")``, which may be called from any thread; extra arguments
        after the text are ignored.
    """
    console = console or Console(stderr=True)
    if not console.is_terminal:
        yield _LineProgress(title, unit)
        return
    columns = (
        TextColumn("[bold]{task.description:<22}"),
        BarColumn(bar_width=32),
        MofNCompleteColumn(),
        TextColumn(f"{unit}  "),
        TimeElapsedColumn(),
        TextColumn("ETA"),
        EtaColumn(),
        TextColumn("[dim]{task.fields[text]}"),
    )
    with Progress(*columns, console=console) as bar:
        task = bar.add_task(title, total=None, text="")

        def report(done: int, total: int, text: object = "", *_: object) -> None:
            bar.update(task, completed=done, total=total, text=text if text else "")

        yield report


@dataclass(slots=True)
class _LineProgress:
    """Writes a log line at most every few seconds, and one at the end."""

    title: str
    unit: str
    started_s: float = field(default_factory=time.monotonic)
    first_done: int | None = None
    last_line_s: float = 0.0
    is_finished: bool = False

    def __call__(self, done: int, total: int, text: object = "", *_: object) -> None:
        """Report that some of the total is done."""
        now_s = time.monotonic()
        self.first_done = done if self.first_done is None else self.first_done
        is_due = now_s - self.last_line_s >= SECONDS_BETWEEN_LINES
        if not total or self.is_finished or not (is_due or done >= total):
            return
        self.is_finished = done >= total
        self.last_line_s = now_s
        rate = (done - self.first_done) / max(now_s - self.started_s, 1e-9)
        eta = f"ETA {(total - done) / rate:,.0f} s" if rate > 0 and done < total else ""
        share = f"{100 * done / total:.0f}%"
        said = " ".join(part for part in (eta, str(text) if text else "") if part)
        logger.info("%s: %s, %d of %d %s %s", self.title, share, done, total, self.unit, said)
