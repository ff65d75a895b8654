"""What a trial does on its worker: one fit, and now and then a report on which it may be ended."""

import contextlib
import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from ray import tune
from ray.exceptions import RayTaskError

from mke_ray.errors import DeviceMemoryError, MkeRayError, TrainingError
from mke_ray.labels.origin import Origin
from mke_ray.models.device import training_device
from mke_ray.storage import Root
from mke_ray.train.accumulation import StepRules
from mke_ray.train.assemble import Workplace
from mke_ray.train.feeding import Feeding
from mke_ray.train.fits import FitSpec, FitStore
from mke_ray.train.loop import FitParts, FitState
from mke_ray.train.run import run_fit
from mke_ray.train.validation import LIKELIHOOD

LOOK, QUALITY, CURVE, FAILURE = "look", "quality", "curve", "failure"

METRIC_KEYS = ("select_accuracy", "select_map", "select_miou")

_HAIR = 1e-6
_MOST_NATS = 100.0
_SECONDS_BETWEEN_SIGNS = 10.0

_workplaces: dict[str, Workplace] = {}  # of this process: decoded units are kept between trials


@dataclass(frozen=True, slots=True)
class TrialPlace:
    """Where trials are trained; the same for all trials of a search.

    Args:
        root: Root of the run.
        rungs: Looks after which a trial may be ended.
        quality: ``metric`` or ``log_likelihood``.
        origin: Where samples are read again if their store keeps no media.
        verbose: Whether libraries may talk.
    """

    root: Root
    rungs: tuple[int, ...]
    quality: str = "metric"
    origin: Origin | None = None
    verbose: bool = False


def train_trial(config: Mapping[str, Any], *, place: TrialPlace) -> None:
    """Train the fit of a trial in this process and report to Ray Tune.

    Args:
        config: ``fit``, ``engine`` and ``scaling``, all plain.
        place: Where it is trained.
    """
    if not place.verbose:
        logging.getLogger("mke_ray").setLevel(logging.WARNING)
    spec = FitSpec.from_dict(config["fit"])
    torch.set_num_threads(max(1, int(config["scaling"]["cpus_per_worker"])))
    watch = TrialWatch(spec, place, tune.report)
    with told_failures(tune.report):
        if not FitStore(place.root).has(spec.fingerprint()):
            run_fit(spec, workplace_of(config, place), watch=watch)
        watch.end()


@contextlib.contextmanager
def told_failures(report: Callable[[dict[str, Any]], None]) -> Iterator[None]:
    """Report an error that we raise on purpose as the end of a trial: no repetition would mend it.

    Args:
        report: Called with the failure, a quality that no trial has, and the look 0.
    """
    try:
        yield
    except (MkeRayError, RayTaskError) as error:
        cause = error.cause if isinstance(error, RayTaskError) else error
        if not isinstance(cause, MkeRayError):
            raise
        kind = "out of memory: " if isinstance(cause, DeviceMemoryError) else ""
        report({LOOK: 0, QUALITY: -math.inf, FAILURE: f"{kind}{cause}"})


def workplace_of(config: Mapping[str, Any], place: TrialPlace) -> Workplace:
    """Return the workplace of a trial; that of the one before where nothing of it differs."""
    scaling, engine = config["scaling"], config["engine"]
    rules = StepRules.of(scaling)
    known = f"{place.root.uri} {scaling['cache_bytes']} {Feeding.from_scaling(scaling)}"
    if known not in _workplaces:
        _workplaces.clear()
        _workplaces[known] = Workplace(
            place.root,
            engine,
            device=training_device(scaling["gpus_per_worker"]),
            cache_bytes=scaling["cache_bytes"],
            feeding=Feeding.from_scaling(scaling),
            verbose=place.verbose,
            origin=place.origin,
        )
    workplace = _workplaces[known]
    workplace.engine, workplace.rules = engine, rules
    return workplace


def rows_per_step(facts: Mapping[str, Any]) -> int:
    """Return the rows of a step of a finished fit.

    Args:
        facts: What is known of the fit, see ``FitStore.facts``.
    """
    asked, there = facts["spec"]["global_batch"], facts["num_rows"]
    return min(asked, there) if asked else there


def quality_of(look: Mapping[str, Any], metric: float, wanted: str) -> float:
    """Return what trials are compared by.

    Of trials with the same metric, of which there are many on a small select part, the one that
    makes the true labels likelier is better by a hair.

    Args:
        look: A look at the select part of the probe.
        metric: Its metric.
        wanted: ``metric`` or ``log_likelihood``.
    """
    if wanted == "log_likelihood":
        return look.get(LIKELIHOOD, -_MOST_NATS)  # missing where a logit is not finite
    return metric + _HAIR * max(look.get(LIKELIHOOD, 0.0), -_MOST_NATS)


@dataclass(slots=True)
class TrialWatch:
    """Reports the looks of a fit at the select part of the probe at the rungs, and signs of life.

    Args:
        spec: The fit.
        place: Where it is trained.
        report: Called with what was seen; a trial that is to end does not come back from it.
        num_parameters: Parameters of the network, known at the end.
    """

    spec: FitSpec
    place: TrialPlace
    report: Callable[[dict[str, Any]], None]
    num_parameters: int = 0
    _num_seen: int = 0
    _rows_per_step: int = 0
    _full_samples: int = 0
    _curve: list[dict[str, Any]] = field(default_factory=list)
    _told_s: float = field(default_factory=time.monotonic)

    @property
    def log_every_steps(self) -> int:
        """Steps between logged losses: none but at looks are wanted."""
        return self.spec.validate_every_steps

    def log(self, record: Mapping[str, Any], *, num_steps: int) -> None:
        """Leave losses to the history of the fit."""

    def resumed(self, state: FitState, *, num_steps: int) -> None:
        """Never called: a trial that was lost begins again."""

    def after_step(self, parts: FitParts, state: FitState) -> None:
        """Report if this step was looked at and is a rung; else now and then that it was made."""
        if state.cursor % self.spec.validate_every_steps:
            self._give_sign()
            return
        look = state.cursor // self.spec.validate_every_steps
        self._rows_per_step = parts.feed.plan.global_batch
        num_steps = self.spec.total_steps(parts.feed.batches_per_epoch)
        self._full_samples = num_steps * self._rows_per_step
        self._see(state.history, state.seconds)
        if look in self.place.rungs[:-1]:  # the last is the end, wherever that is
            self._tell(look)
        else:
            self._give_sign()

    def end(self) -> None:
        """Report the end of the fit, from what was stored of it."""
        store, fit = FitStore(self.place.root), self.spec.fingerprint()
        facts = store.facts(fit)
        self._rows_per_step = rows_per_step(facts)
        self._full_samples = facts["num_steps"] * self._rows_per_step
        self._see(store.history(fit), facts["seconds"])
        self.num_parameters = facts["num_parameters"]
        self._tell(self.place.rungs[-1])

    def _see(self, history: list[dict[str, Any]], seconds: float) -> None:
        """Take note of the looks that are new in a history."""
        looks = [one for one in history if any(name in one for name in METRIC_KEYS)]
        for one in looks[self._num_seen :]:
            metric = next(one[name] for name in METRIC_KEYS if name in one)
            quality = quality_of(one, metric, self.place.quality)
            self._curve.append(
                {
                    "look": len(self._curve) + 1,
                    "step": one["step"],
                    "quality": quality,
                    "metric": metric,
                    "seconds": seconds,
                    "samples": one["step"] * self._rows_per_step,
                }
            )
        self._num_seen = len(looks)

    def _tell(self, look: int) -> None:
        """Report what was seen so far."""
        if not self._curve:
            raise TrainingError(
                f"{self.spec.name}: the select part of the probe has no usable sample to look at"
            )
        last, self._told_s = self._curve[-1], time.monotonic()
        self.report(
            {
                LOOK: look,
                QUALITY: last["quality"],
                CURVE: list(self._curve),
                "num_parameters": self.num_parameters,
                "full_samples": self._full_samples,
                "seconds": last["seconds"],
            }
        )

    def _give_sign(self) -> None:
        """Report what is known, without a quality, by which nothing is compared."""
        if time.monotonic() - self._told_s < _SECONDS_BETWEEN_SIGNS:
            return
        self._told_s = time.monotonic()
        self.report({LOOK: 0, CURVE: list(self._curve)})
