"""The stores of a run that a search reads, and its trials."""

import contextlib
import logging
import math
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

from mke_ray.config_schema import JobConfig
from mke_ray.data.manifest import META
from mke_ray.errors import ConfigError, StoreError, TrainingError
from mke_ray.expansion.checks import open_run
from mke_ray.expansion.demands import check_coming
from mke_ray.expansion.doubles import doubles_stage
from mke_ray.expansion.refining import refine_apart
from mke_ray.expansion.rounds import Refined
from mke_ray.expansion.run import Run, num_select
from mke_ray.expansion.stages import known_labels, known_teacher
from mke_ray.expansion.whole import refine_stage
from mke_ray.expansion.witnesses import pairs_weight_of_witnesses
from mke_ray.expansion.work import origin_of
from mke_ray.labels.living_nodes import living_nodes
from mke_ray.report.progress import quiet_stages, stage_progress
from mke_ray.schema import LabelKind, fingerprint
from mke_ray.search.candidates import Candidates, Compose, check_space
from mke_ray.search.counts import Counts, Plan, in_words
from mke_ray.search.ledger import USUAL, Ledger, TrialRecord
from mke_ray.search.searcher import LedgerSearcher, StudySettings
from mke_ray.search.silence import LEAST_SILENCE_S
from mke_ray.search.space import Space
from mke_ray.search.stopping import rungs_from, rungs_words, scheduler_of
from mke_ray.search.trial import TrialPlace
from mke_ray.search.tuning import num_at_once, run_trials, rungs_of
from mke_ray.search.watching import TrialsWatch

logger = logging.getLogger(__name__)

FOLDER = "search"

_MOST_STARTS = 3
_METRICS = {
    LabelKind.SINGLE: "accuracy",
    LabelKind.MULTI: "mean average precision",
    LabelKind.DENSE: "mean IoU",
}


@dataclass(frozen=True, slots=True)
class Search:
    """What the steps of a search need.

    Args:
        run: The run whose stores are read.
        space: What is searched.
        candidates: Makes the fits of trials.
        ledger: Where trials are written.
        usual: Values of the configuration as it is, as far as it has them.
        rungs: Looks after which trials of a network that learns at once are compared.
    """

    run: Run
    space: Space
    candidates: Candidates
    ledger: Ledger
    usual: Mapping[str, Any]
    rungs: tuple[int, ...]

    @property
    def seed(self) -> int:
        """Seed of the networks of all trials, the first of those of the finals."""
        return self.run.job.search.final_seeds[0]

    @property
    def quality(self) -> str:
        """What the select part of the probe is asked: ``metric`` or ``log_likelihood``."""
        kind = self.candidates.manifest.label_space.kind
        usual = "log_likelihood" if kind is LabelKind.SINGLE else "metric"
        return self.run.job.search.quality or usual

    @property
    def quality_words(self) -> str:
        """What the search looks for, in words."""
        if self.quality == "log_likelihood":
            return "log-likelihood"
        return _METRICS[LabelKind(self.candidates.manifest.label_space.kind)]

    @property
    def settings(self) -> StudySettings:
        """How Optuna looks for the next trial."""
        keys = self.run.job.search
        seed = self.run.job.seed if keys.seed is None else keys.seed
        return StudySettings(keys.sampler, seed, keys.cost)

    @property
    def chance(self) -> float:
        """What a network reaches that has learnt nothing; of mAP and mIoU 0, which is below it."""
        space, is_likelihood = (
            self.candidates.manifest.label_space,
            self.quality == "log_likelihood",
        )
        if space.kind is LabelKind.MULTI:  # a likelihood is the mean over classes, each yes or no
            return -math.log(2) if is_likelihood else 0.0
        if space.kind is LabelKind.SINGLE:
            return -math.log(space.num_classes) if is_likelihood else 1 / space.num_classes
        return 0.0


@contextlib.contextmanager
def opened(job: JobConfig, compose: Compose, usual: Mapping[str, Any]) -> Iterator[Search]:
    """Open the stores of a run and check a space on them, before Ray starts.

    Args:
        job: The configuration.
        compose: Returns the job with other values.
        usual: Values of the configuration as it is, as far as it has them.

    Raises:
        ConfigError: A key is misspelt, a value does not fit, or there is nothing to look at.
        StoreError: The run is not finished as far as is needed.
    """
    space, rungs = Space.parse(job.search.space), rungs_of(job.search)
    _check_numbers(job)
    scaling = asdict(job.scaling)
    check_coming(job, lambda nodes: num_at_once(job.search, scaling, nodes, is_autoscaling=False))
    with open_run(job) as run:
        check_space(space, run, compose)
        if not run.root.exists(f"manifest/{META}"):
            raise StoreError(
                f"{run.root.uri} holds no run; run jobs/expand.py first, with the same settings"
            )
        manifest = run.manifest()
        if num_select(run, manifest) == 0:
            raise ConfigError(
                "the select part of the probe is empty, and nothing else may choose; add rows with "
                "split=probe to the source, or raise gate.select_fraction"
            )
        teacher = known_teacher(run, manifest)
        labels = known_labels(run, manifest, teacher)
        manifest, _ = doubles_stage(run, manifest)
        with quiet_stages():  # what the run said of its labels is in its own report
            refined = refine_stage(run, manifest, labels, teacher, is_known=True)
        candidates = Candidates(run, manifest, labels, teacher, refined, compose, rungs[-1])
        seed = job.search.final_seeds[0]
        candidates.check(space, seed)
        if refined is not None and _learnt_pairs(job):
            candidates = replace(candidates, refined=_refined_apart(run, candidates))
            candidates.check(space, seed)  # of other labels other keys may be without effect
        folder = run.root.child(FOLDER, f"{job.search.name}-{_digest(job, candidates, seed)}")
        yield Search(run, space, candidates, Ledger(folder), usual, rungs)


def _learnt_pairs(job: JobConfig) -> bool:
    """Return whether what refined the labels of a run learnt labelled pairs of the select part."""
    weights = (job.expansion.paired_weight, pairs_weight_of_witnesses(job.expansion))
    return any(weight > 0 for weight in weights)


def _refined_apart(run: Run, known: Candidates) -> Refined | None:
    """Return labels by networks that learnt no labelled pair of the select part.

    A dry run makes none, and keeps those of the run.
    """
    why = "networks that learn no labelled pair of the select part, since that judges trials"
    if run.job.dry_run:
        logger.info("the labels would be refined once more, by %s", why)
        return known.refined
    given = (run, known.manifest, known.labels, known.teacher)
    with quiet_stages(), contextlib.suppress(StoreError):
        return refine_apart(*given, is_known=True)
    logger.info("search: refines the labels once more, by %s", why)
    run.connect()
    return refine_apart(*given)


def run_search_trials(
    search: Search, *, on_end: Callable[[TrialRecord], None]
) -> list[TrialRecord]:
    """Run the trials that have not ended, and return what became of all.

    Args:
        search: The search.
        on_end: Called with every trial that ended, those of an earlier start too.
    """
    run, keys, ledger = search.run, search.run.job.search, search.ledger
    ended = ledger.ended()
    for one in ended:
        on_end(one)
    if len(ended) >= keys.num_trials:
        logger.info("search: all %d trials have ended", len(ended))
        return ended
    if ended:
        logger.info("search: %d of %d trials have ended before", len(ended), keys.num_trials)
    run.connect()
    scaling = asdict(run.job.scaling)
    is_here = run.job.ray.address is None and not os.environ.get("RAY_ADDRESS")
    at_once = num_at_once(
        keys,
        scaling,
        living_nodes(),
        is_autoscaling=run.job.ray.autoscaling,
        num_cores=os.cpu_count() if is_here else None,
    )
    cost_per_hour = run.job.labelling.cost_per_hour
    plan = Plan.of(
        keys, scaling, at_once=at_once, cost_per_hour=cost_per_hour, quality=search.quality_words
    )
    logger.info("search: every trial that ends is in %s/trials.csv", ledger.folder.uri)
    with stage_progress("search", unit="trials") as progress:

        def tell(counts: Counts) -> None:
            run.check_lease()
            words, eta_s = in_words(counts, plan), plan.eta_s(counts)
            progress(counts.num_ended, keys.num_trials, words, eta_s=eta_s)

        since = Counts.of(ended)
        rest = partial(_run_rest, search, since=since, at_once=at_once, on_end=on_end, tell=tell)
        for _ in range(_MOST_STARTS):
            is_first = keys.scheduler == "asha" and all(one.number != USUAL for one in ended)
            rest(USUAL + 1 if is_first else keys.num_trials)
            ended = ledger.ended()
            if is_first and any(one.number == USUAL for one in ended) and keys.num_trials > 1:
                rest(keys.num_trials)
                ended = ledger.ended()
            if len(ended) >= keys.num_trials:
                return ended
    raise TrainingError(
        f"search: {keys.num_trials - len(ended)} trials were begun {_MOST_STARTS} times without an "
        "end; start the job again to go on"
    )


def _run_rest(
    search: Search,
    num_trials: int,
    *,
    since: Counts,
    at_once: int,
    on_end: Callable[[TrialRecord], None],
    tell: Callable[[Counts], None],
) -> None:
    """Run those of the first trials that have not ended, once.

    With ASHA the configuration as it is comes alone and first: its curve says from where on others
    can be compared with it. What is spent counts from where this start of the job began.
    """
    run, keys, ended = search.run, search.run.job.search, search.ledger.ended()
    usual = next((one for one in ended if one.number == USUAL), None)
    rungs = rungs_from(search.rungs, usual, chance=search.chance)
    if usual is not None and rungs != search.rungs:
        logger.info("search: %s", rungs_words(rungs, len(usual.curve)))
    place = TrialPlace(
        run.root,
        rungs,
        search.quality,
        origin_of(run, run.job.scaling.cpus_per_worker),
        run.job.verbose,
    )
    searcher = LedgerSearcher(
        search.ledger,
        search.space,
        search.settings,
        candidate=lambda values: search.candidates.candidate(values, search.seed),
        usual=search.usual,
        num_trials=num_trials,
        on_end=on_end,
    )
    counts = Counts.of(ended)
    counts.began_s, counts.before_s = since.began_s, since.before_s
    watch = TrialsWatch(
        searcher,
        last_look=rungs[-1],
        counts=counts,
        patience_s=keys.patience_s,
        silence_s=keys.silence_s,
        tell=tell,
    )
    run_trials(
        searcher,
        scheduler_of(keys, rungs, ended),
        place,
        search=keys,
        scaling=asdict(run.job.scaling),
        at_once=at_once,
        watch=watch,
    )


def _digest(job: JobConfig, candidates: Candidates, seed: int) -> str:
    """Return what changes whenever trials of another start could not be compared with these."""
    keys = replace(job.search, num_trials=0, finalists=0, max_concurrent=None, max_failures=0)
    keys = replace(keys, seed=job.seed if keys.seed is None else keys.seed)
    return fingerprint(
        [
            asdict(replace(keys, patience_s=0, silence_s=None)),
            candidates.candidate({}, seed).identity(),
        ]
    )[:12]


def _check_numbers(job: JobConfig) -> None:
    """Refuse numbers that make no sense.

    Raises:
        ConfigError: It names the key.
    """
    keys = job.search
    for name in ("num_trials", "finalists", "workers_per_trial", "max_concurrent"):
        if (value := getattr(keys, name)) is not None and value < 1:
            raise ConfigError(f"search.{name}={value}; give at least 1")
    if keys.max_failures < 0 or keys.patience_s <= 0:
        raise ConfigError(
            f"search.max_failures={keys.max_failures} and search.patience_s={keys.patience_s}; "
            "give at least 0, and more than 0 seconds"
        )
    if keys.silence_s is not None and keys.silence_s < LEAST_SILENCE_S:
        raise ConfigError(
            f"search.silence_s={keys.silence_s}; give at least {LEAST_SILENCE_S:g}, or null"
        )
    if not keys.final_seeds or len(set(keys.final_seeds)) < len(keys.final_seeds):
        raise ConfigError(f"search.final_seeds={keys.final_seeds}; give different seeds")
    if keys.quality not in (None, "metric", "log_likelihood"):
        raise ConfigError(f"search.quality={keys.quality!r}; choose null, metric or log_likelihood")
    if keys.cost not in (None, "seconds", "parameters"):
        raise ConfigError(f"search.cost={keys.cost!r}; choose null, seconds or parameters")
