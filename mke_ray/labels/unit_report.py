"""What came of one unit of a pass, and what it took."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field

from mke_ray.schema import StatusCounts
from mke_ray.storage import TRAFFIC


@dataclass(slots=True)
class UnitReport:
    """What came of one unit.

    Args:
        unit: Id of the unit.
        counts: How many of its samples ended in each status.
        seconds: Time by stage: ``fetch``, ``decode`` (with encoding), ``unpack`` (samples as the
            teacher reads them), ``teacher``, ``write``, and ``read`` where the samples were stored
            already.
        num_bytes_read: Bytes fetched from the source; 0 where the samples were stored already.
        num_bytes_needed: Bytes of those that hold the samples.
        duration_s: Seconds of media that were decoded.
        num_bytes_written: Bytes written to the stores.
        num_decoded: Samples in use that were fetched and decoded; the others were stored already.
        num_units: Units of this work, which is more than one where they are compacted.
    """

    unit: str
    counts: StatusCounts
    seconds: dict[str, float] = field(default_factory=dict)
    num_bytes_read: int = 0
    num_bytes_needed: int = 0
    duration_s: float = 0.0
    num_bytes_written: int = 0
    num_decoded: int = 0
    num_units: int = 1

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Add the time of a block to a stage, and what it wrote to what was written."""
        start_s, num_written = time.perf_counter(), TRAFFIC.num_bytes_written
        try:
            yield
        finally:
            elapsed_s = time.perf_counter() - start_s
            self.seconds[stage] = self.seconds.get(stage, 0.0) + elapsed_s
            self.num_bytes_written += TRAFFIC.num_bytes_written - num_written

    def to_json(self) -> str:
        """Return text that ``from_json`` reads back."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "UnitReport":
        """Read what ``to_json`` wrote."""
        plain = json.loads(text)
        return cls(**(plain | {"counts": StatusCounts(**plain["counts"])}))
