"""Where the time of a feed went, and what to change where training waited for data."""

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

logger = logging.getLogger(__name__)

WAIT = "wait_s"
LOOK_WAIT = "look_wait_s"

_KINDS = ("fetch_s", "decode_s", "gather_s", WAIT, LOOK_WAIT)
_TOO_MUCH = 0.1  # of the time of a fit
_WORTH_A_LINE_S = 5.0

_WAY_OUT = {
    "fetch_s": "reading units; raise scaling.cache_bytes or scaling.feed_threads, or bring the "
    "store nearer",
    "decode_s": "decoding; raise scaling.feed_threads and scaling.cpus_per_worker, set "
    "scaling.feed=ray where other nodes have CPUs, or store frames raw (decode.<modality>.codec)",
    "gather_s": "putting batches together; raise scaling.feed_threads",
}
_WAY_OUT_OF_POOL = "its pool of CPUs; raise scaling.feed_cpus, or scaling.prefetch_bytes"


class FeedTimes:
    """Seconds that the parts of a feed took, summed over its threads.

    Attributes:
        seconds: By part: ``fetch_s`` (reading units), ``decode_s``, ``gather_s`` (rows into
            batches, without what it decoded), ``wait_s`` (of the loop, between steps) and
            ``look_wait_s`` (of looks at the probe).
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = dict.fromkeys(_KINDS, 0.0)
        self._lock = threading.Lock()

    def __reduce__(self) -> tuple[type["FeedTimes"], tuple[()]]:
        """Pickle as one that has counted nothing."""
        return (FeedTimes, ())

    def add(self, kind: str, seconds: float) -> None:
        """Add seconds to one part."""
        with self._lock:
            self.seconds[kind] += seconds

    @contextmanager
    def counted(self, kind: str) -> Iterator[None]:
        """Count the time of a block."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self.add(kind, time.perf_counter() - began)

    def since(self, before: dict[str, float]) -> dict[str, float]:
        """Return the seconds of each part after a copy of ``seconds`` was taken."""
        return {kind: self.seconds[kind] - before[kind] for kind in _KINDS}


def feed_facts(seconds: dict[str, float], fit_s: float) -> dict[str, Any]:
    """Return what is worth knowing of a fit's feed, as plain data.

    Args:
        seconds: Seconds by part, of ``FeedTimes``, of this rank and since the last start.
        fit_s: Seconds of training in that time.
    """
    rounded = {kind: round(value, 6) for kind, value in seconds.items()}
    return {**rounded, "wait_share": round(seconds[WAIT] / max(fit_s, 1e-9), 4)}


def warn_of_waiting(
    name: str, seconds: dict[str, float], fit_s: float, *, feed: str = "local"
) -> bool:
    """Say which key to change where a fit waited for its data, 5 seconds at least.

    Args:
        name: Name of the fit.
        seconds: Seconds by part, of ``FeedTimes``.
        fit_s: Seconds of training.
        feed: ``local`` or ``ray``.

    Returns:
        Whether there was something to say.
    """
    wait_s = seconds[WAIT]
    if wait_s < _WORTH_A_LINE_S or wait_s < _TOO_MUCH * fit_s:
        return False
    kind = max(_WAY_OUT, key=lambda one: seconds[one])
    way_out = _WAY_OUT[kind] if feed == "local" else _WAY_OUT_OF_POOL
    logger.warning(
        "fit %s waited for data %.0f%% of its time (%.0f of %.0f s), mostly for %s",
        name,
        100 * wait_s / fit_s,
        wait_s,
        fit_s,
        way_out,
    )
    return True
