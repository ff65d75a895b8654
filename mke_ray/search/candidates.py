"""From values of keys to the fit that a trial trains, made on the driver."""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from typing import Any

from mke_ray.config import build
from mke_ray.config_schema import JobConfig
from mke_ray.data.manifest import Manifest
from mke_ray.errors import ConfigError
from mke_ray.expansion.checks import check_networks
from mke_ray.expansion.rounds import Refined
from mke_ray.expansion.run import Run
from mke_ray.expansion.stages import Labels, TaughtTeacher, arm_settings, of_today
from mke_ray.expansion.token_keys import fill_in_tokens
from mke_ray.expansion.witnesses import expansion_objective
from mke_ray.models.student import build_student
from mke_ray.search.space import Space
from mke_ray.train.arms import ArmSettings, ExpansionSettings
from mke_ray.train.engine import precision_of
from mke_ray.train.fits import FitSpec
from mke_ray.train.scaling import Scaling, check_fits

_RESERVED = (
    "scaling.cpus_per_worker",
    "scaling.gpus_per_worker",
    "scaling.num_workers",
    "scaling.launch",
    "scaling.feed",
)

_WANTS_INTEGER = "could not be converted to Integer"  # says OmegaConf

Compose = Callable[[Mapping[str, Any]], JobConfig]
"""Returns the job with some values in the place of its own."""


def check_space(space: Space, run: Run, compose: Compose) -> None:
    """Try every choice and both ends of every range, each alone, before any store is read.

    What a key does to the student of the run is known with its labels only, see
    ``Candidates.check``.

    Args:
        space: The space.
        run: The run, nothing of which is read.
        compose: Returns the job with other values.

    Raises:
        ConfigError: A key is not there or not to be searched, or a value does not fit.
    """
    for key in space.keys:
        if key.lstrip("+").startswith(_RESERVED):
            raise ConfigError(
                f"search.space.{key}: a trial takes what scaling.cpus_per_worker, "
                "scaling.gpus_per_worker and search.workers_per_trial say; set them beside the "
                "space"
            )
    for key, value in space.alternatives():
        with _named(key, value):
            job = compose({**space.keys[key].when, key: value})
            fill_in_tokens(job)
            check_networks(replace(run, job=replace(job, model_seeds=job.model_seeds[:1])))


@contextmanager
def _named(key: str, value: Any) -> Iterator[None]:
    """Name a key of the space in the error of a value that does not fit.

    Raises:
        ConfigError: The value does not fit; torch refuses sizes by other errors.
    """
    try:
        yield
    except (ConfigError, RuntimeError, ValueError) as error:
        way = "; whole numbers have type: integer" if _WANTS_INTEGER in str(error) else ""
        raise ConfigError(f"search.space.{key}={value!r}: {error}{way}") from error


@dataclass(frozen=True, slots=True)
class Candidate:
    """What a trial trains, as plain data that may cross to a worker.

    Args:
        fit: The fit.
        engine: What trains it.
        scaling: What it is trained on.
    """

    fit: FitSpec
    engine: Mapping[str, Any]
    scaling: Mapping[str, Any]

    def identity(self) -> str:
        """Return what changes whenever a trial could come out otherwise, or cost otherwise."""
        return json.dumps([self.fit.fingerprint(), self.engine, self.scaling], sort_keys=True)


@dataclass(frozen=True, slots=True)
class Candidates:
    """Makes the fits of trials from the stores of a run.

    The student that the gate would judge is searched, without the labelled pairs of the select
    part, which judges it, and on labels of networks that learnt none of them either.

    Args:
        run: The run.
        manifest: Its samples.
        labels: The teacher's labels.
        teacher: The teacher.
        refined: What our student learns from; None where the published one is searched.
        compose: Returns the job with other values.
        num_looks: Looks at the select part in the course of a trial.
    """

    run: Run
    manifest: Manifest
    labels: Labels
    teacher: TaughtTeacher
    refined: Refined | None
    compose: Compose
    num_looks: int

    def candidate(self, values: Mapping[str, Any], seed: int) -> Candidate:
        """Return what a trial of some values trains.

        Args:
            values: Per dotted key its value.
            seed: Seed of the network.

        Raises:
            ConfigError: The values do not fit.
        """
        job = self.job_of(values)
        workers = self.run.job.search.workers_per_trial
        engine = job.engine if workers > 1 else single_process(job.engine)
        run = replace(self.run, job=replace(job, engine=engine))
        (fit,) = self._settings(run).fits([run.shipped], [seed])
        fit = of_today(self._with_looks(fit), self.manifest, self.labels.samples)
        scaling = {**asdict(job.scaling), "num_workers": workers, "feed": "local"}
        launch = "trainer" if workers > 1 else "local"
        check_fits([fit], launch=launch, scaling=Scaling.from_dict(scaling), engine=engine)
        return Candidate(fit, engine, scaling)

    def job_of(self, values: Mapping[str, Any]) -> JobConfig:
        """Return the job with some values in the place of its own, and what its tokenizers say.

        Args:
            values: Per dotted key its value.

        Raises:
            ConfigError: The values do not fit.
        """
        if not values:
            return self.run.job
        job = self.compose(values)
        fill_in_tokens(job)
        return job

    def check(self, space: Space, seed: int) -> None:
        """Try every choice and both ends of every range, each alone.

        Args:
            space: The space.
            seed: Seed of the networks.

        Raises:
            ConfigError: A value does not fit, or a key changes nothing of the student.
        """
        num_classes = self.manifest.label_space.num_classes
        usual = self.candidate({}, seed).identity()
        effects: dict[str, set[str]] = {key: {usual} for key in space.keys}
        for key, value in space.alternatives():
            with _named(key, value):
                one = self.candidate({**space.keys[key].when, key: value}, seed)
                build_student(one.fit.student, num_classes, build=build)
                build(one.fit.objective)
            effects[key].add(one.identity())
        for key, found in effects.items():
            if len(found) == 1:
                raise ConfigError(
                    f"search.space.{key} changes nothing of {self.run.shipped}, which is "
                    "trained from the labels of the run and without labelled pairs of the select "
                    f"part; {self._way_out(key)}"
                )

    def _way_out(self, key: str) -> str:
        """Return what to do about a key that changes nothing."""
        is_of_ours = key.lstrip("+").startswith("expansion.")
        if is_of_ours and self.refined is None:
            return "it is of our student: search a run of objective=expansion, or leave it out"
        return "leave it out"

    def _settings(self, run: Run) -> ArmSettings:
        """Return what the arms of a job share."""
        return arm_settings(
            run, self.manifest, self.labels, self.teacher, expansion=self._expansion(run.job)
        )

    def _expansion(self, job: JobConfig) -> ExpansionSettings | None:
        """Return what our student learns from, by the keys of a job; never from labelled pairs."""
        if self.refined is None:
            return None
        keys, kind = job.expansion, self.manifest.label_space.kind
        return replace(
            self.refined.settings,
            objective=expansion_objective(job, kind, is_by_witnesses=self.refined.is_by_witnesses),
            labelled_share=keys.labelled_share,
            paired_weight=0.0,
        )

    def _with_looks(self, fit: FitSpec) -> FitSpec:
        """Return a fit that looks at the select part as often as is wanted."""
        every_steps = max(1, -(-self.num_steps(fit) // self.num_looks))
        return replace(fit, validate_every_steps=every_steps)

    def num_steps(self, fit: FitSpec) -> int:
        """Return the steps of a fit; where it is told its epochs, rows that are bad count too."""
        if fit.num_steps is not None:
            return fit.num_steps
        num_rows = sum(self.manifest.meta["counts"].get(split, 0) for split in fit.splits)
        batches = 1 if fit.global_batch == 0 else max(1, -(-num_rows // fit.global_batch))
        return (fit.num_epochs or 1) * batches


def single_process(engine: Mapping[str, Any]) -> dict[str, Any]:
    """Return the engine of a trial of one process: plain torch, which trains the same there.

    Args:
        engine: The section ``engine`` of the job.
    """
    if engine["type"] != "deepspeed":
        return dict(engine)
    common = {key: engine[key] for key in ("checkpoint_activations", "compile") if key in engine}
    is_bf16 = precision_of(engine) == "bfloat16"
    return {"type": "torch", **({"bf16": True} if is_bf16 else {}), **common}
