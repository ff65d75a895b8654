"""The numbers of a pass as Ray metrics, for Prometheus.

They are exported by the driver: it sees the report of every unit once, whereas actors come and go,
and one that is ended takes what it counted since its last export with it. A driver that is started
again counts from 0 again, as ``rate()`` and ``increase()`` expect.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import ray
from ray.util.metrics import Counter, Gauge, Histogram

from mke_ray.labels.pass_state import PassState
from mke_ray.labels.worker import UnitReport

PREFIX = "mke_ray_label_"

_UNIT_BOUNDS_S = (0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0, 3000.0)
_COUNTERS = {
    "samples": ("Samples that ended in a status.", "status"),
    "bytes": ("Bytes read from the source, needed of these, and written to the stores.", "kind"),
    "stage_seconds": ("Time of the workers by stage.", "stage"),
    "media_seconds": ("Seconds of media worked on.", ""),
}
_GAUGES = {
    "samples_done": "Samples done, with those of earlier starts.",
    "samples_wanted": "Samples of the whole pass.",
    "eta_seconds": "Seconds left.",
    "cost": "Cost of all starts so far.",
    "cost_to_come": "Cost of what is left.",
    "bytes_to_come": "Bytes that will be written.",
}


@dataclass(frozen=True, slots=True)
class _Exported:
    """The metrics of this process; one of a name can be made anew, Ray knows it by the name."""

    counters: Mapping[str, Counter]
    gauges: Mapping[str, Gauge]
    unit_seconds: Histogram


@dataclass(slots=True)
class RayMetrics:
    """Exports how a pass goes; without Ray it does nothing. A watcher of ``run_pass``.

    Args:
        run: Name of the run, a tag of every metric.
    """

    run: str
    _exported: _Exported | None = None

    def __call__(self, report: UnitReport, state: PassState) -> None:
        """Count a unit and set how far the pass is."""
        if not ray.is_initialized():
            return
        exported = self._exported = self._exported or _make()
        run = {"run": self.run}
        for name, by_tag in increments_of(report).items():
            key = _COUNTERS[name][1]
            for tag, value in by_tag.items():
                if value > 0:  # Ray refuses to add nothing
                    exported.counters[name].inc(value, {**run, key: tag} if key else run)
        exported.unit_seconds.observe(sum(report.seconds.values()), run)
        for name, value in levels_of(state).items():
            exported.gauges[name].set(value, run)


def _make() -> _Exported:
    """Make every metric."""
    counters = {
        name: Counter(PREFIX + name, said, ("run", tag) if tag else ("run",))
        for name, (said, tag) in _COUNTERS.items()
    }
    gauges = {name: Gauge(PREFIX + name, said, ("run",)) for name, said in _GAUGES.items()}
    said, bounds = "Time of the workers for one unit.", list(_UNIT_BOUNDS_S)
    return _Exported(counters, gauges, Histogram(PREFIX + "unit_seconds", said, bounds, ("run",)))


def increments_of(report: UnitReport) -> Mapping[str, Mapping[str, float]]:
    """Return by how much a unit raises every counter, by the value of the counter's own tag."""
    counts = report.counts
    return {
        "samples": {one: getattr(counts, one) for one in ("ok", "partial", "bad", "retry")},
        "bytes": {
            "read": report.num_bytes_read,
            "needed": report.num_bytes_needed,
            "written": report.num_bytes_written,
        },
        "stage_seconds": report.seconds,
        "media_seconds": {"": report.duration_s},
    }


def levels_of(state: PassState) -> dict[str, float]:
    """Return the value of every gauge that can be told."""
    levels = {
        "samples_done": state.num_done,
        "samples_wanted": state.num_wanted,
        "eta_seconds": state.eta_s,
        "cost": state.cost,
        "cost_to_come": state.cost_to_come,
        "bytes_to_come": state.num_bytes_to_come,
    }
    return {name: float(value) for name, value in levels.items() if value is not None}
