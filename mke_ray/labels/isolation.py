"""Reading untrusted samples in a process of their own, so that one that kills it costs one sample.

All samples of a unit are read side by side first. If the process dies, stalls or takes too much
memory meanwhile, those that it did not answer are read again one at a time, and the one that does
it again is to blame.
"""

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mke_ray.errors import MkeRayError
from mke_ray.labels.decode_child import Outcome, Setup
from mke_ray.labels.decode_process import DecodeProcess, Failure, SampleLimits, start_process
from mke_ray.labels.rows import StoredRow, unreadable
from mke_ray.schema import DecodeSpec, ManifestRow, Status

_LOOK_EVERY_S = 0.1
_OF_MEMORY = ("crashed", "too_large")
# The alarm of the process itself is for the case that its worker died, so it comes later.
_ALARM_FACTOR, _ALARM_MARGIN_S = 1.5, 5.0

_logger = logging.getLogger(__name__)


@dataclass(slots=True)
class IsolatedDecoder:
    """Reads samples in another process, which is started when needed and again when it ended.

    Args:
        source: What ``mke_ray.config.build`` makes the source from.
        decode: What is stored of every modality.
        num_threads: Samples read side by side.
        limits: What one sample may take.
    """

    source: Mapping[str, Any]
    decode: DecodeSpec
    num_threads: int = 1
    limits: SampleLimits = field(default_factory=SampleLimits)
    _process: DecodeProcess | None = None

    def read(self, rows: Sequence[ManifestRow]) -> list[StoredRow]:
        """Return what is stored of some samples, whatever they do.

        Raises:
            MkeRayError: The source cannot be built, or the reader met a mistake of the user's.
        """
        done: dict[int, StoredRow] = {}
        failure = self._attempt(rows, done)
        if failure is not None:
            left = len(rows) - len(done)
            _logger.info("%s; reading %d samples one at a time", failure.detail, left)
        for number, row in enumerate(rows):
            if number not in done:
                done[number] = self._read_alone(row)
        return [done[number] for number in range(len(rows))]

    def close(self) -> None:
        """End the process; the next read starts another."""
        if self._process is not None:
            self._process.end()
            self._process = None

    def _read_alone(self, row: ManifestRow) -> StoredRow:
        """Return what is stored of one sample; it is to blame for what its own process does.

        In a process that read others before, what they left in its memory may show only now.
        """
        done: dict[int, StoredRow] = {}
        is_first = self._process is None
        failure = self._attempt([row], done)
        if failure is not None and failure.reason in _OF_MEMORY and not is_first:
            failure = self._attempt([row], done)
        if failure is None:
            return done[0]
        return self._unreadable(row, failure)

    def _attempt(self, rows: Sequence[ManifestRow], done: dict[int, StoredRow]) -> Failure | None:
        """Read samples side by side and fill in what was read; end a process that fails."""
        process = self._process = self._process or self._start()
        failure: Failure | None = None
        looked_s = time.monotonic()
        try:
            process.send(rows)
            while len(done) < len(rows) and failure is None:
                answer = process.receive(_LOOK_EVERY_S)
                if answer is not None:
                    number, outcome = answer
                    done[number] = self._row_of(rows[number], outcome)
                is_due = answer is None or time.monotonic() - looked_s >= _LOOK_EVERY_S
                if is_due and len(done) < len(rows):  # a look costs as much as a small sample
                    failure, looked_s = process.failure(self.limits), time.monotonic()
        finally:
            if len(done) < len(rows):
                process.end()
                self._process = None
        return failure

    def _start(self) -> DecodeProcess:
        alarm_s = _ALARM_FACTOR * self.limits.timeout_s + _ALARM_MARGIN_S
        return start_process(Setup(self.source, self.decode, self.num_threads, alarm_s))

    def _row_of(self, row: ManifestRow, outcome: Outcome) -> StoredRow:
        """Return what is stored of a sample that was answered."""
        if isinstance(outcome, MkeRayError):
            raise outcome
        if isinstance(outcome, StoredRow):
            return outcome
        _logger.warning("%s: reading raised\n%s", row.key, outcome.traceback)
        reason = "too_large" if outcome.kind == MemoryError.__name__ else "crashed"
        return self._unreadable(row, Failure(Status.BAD, reason, f"{outcome.kind}: {outcome.text}"))

    def _unreadable(self, row: ManifestRow, failure: Failure) -> StoredRow:
        """Return the row of a sample that did not survive its reader."""
        text = f"{failure.reason}: {failure.detail}"
        _logger.warning("%s: %s", row.key, text)
        return unreadable(failure.status, failure.reason, text, self.decode)
