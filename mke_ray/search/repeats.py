"""The best trials trained again with other seeds, and the winner among them."""

import logging
from collections.abc import Sequence

from mke_ray.errors import ConfigError, DeviceMemoryError, TrainingError
from mke_ray.expansion.stages import fit_folder
from mke_ray.expansion.work import origin_of
from mke_ray.report.progress import stage_progress
from mke_ray.search.candidates import Candidate
from mke_ray.search.finals import Finalist, choose_finalists, finalist_of, winner_of
from mke_ray.search.ledger import TrialRecord
from mke_ray.search.paired import with_leads
from mke_ray.search.run import Search
from mke_ray.train.fits import FitStore
from mke_ray.train.launch import run_fits

logger = logging.getLogger(__name__)


def run_finals(search: Search, records: Sequence[TrialRecord]) -> tuple[list[Finalist], Finalist]:
    """Repeat the best trials over seeds, and return them with the winner.

    Args:
        search: The search.
        records: What became of all trials.

    Raises:
        ConfigError: Every trial failed.
    """
    run, keys = search.run, search.run.job.search
    chosen = choose_finalists(records, keys.finalists, cost=keys.cost)
    if not chosen:
        raise ConfigError(
            f"search: every trial failed, the first with: {records[0].reason}; mend that, and give "
            "search.name another name"
        )
    finalists = []
    for one in chosen:
        by_seed = {seed: search.candidates.candidate(one.values, seed) for seed in keys.final_seeds}
        try:
            _train_finals(search, list(by_seed.values()))
        except (TrainingError, DeviceMemoryError) as error:
            logger.warning("trial %d is no finalist: with another seed, %s", one.number, error)
            continue
        fits = {seed: candidate.fit.fingerprint() for seed, candidate in by_seed.items()}
        finalists.append(finalist_of(one.number, fits, FitStore(run.root), search.quality))
    if not finalists:
        raise TrainingError("search: no finalist could be trained with every seed; see above")
    logger.info("search: compares the finalists over samples of the select part")
    finalists = with_leads(search, finalists)
    return finalists, winner_of(finalists, cost=keys.cost)


def _train_finals(search: Search, wanted: Sequence[Candidate]) -> None:
    """Train a finalist with every seed, as far as it is not."""
    run, fits = search.run, [one.fit for one in wanted]
    run.refer(*(fit_folder(one.fingerprint()) for one in fits))
    if all(FitStore(run.root).has(one.fingerprint()) for one in fits):
        return
    run.connect()
    with stage_progress("finalists", unit="steps") as progress:
        run_fits(
            fits,
            root=run.root,
            launch="trainer" if run.job.search.workers_per_trial > 1 else "tasks",
            scaling={
                **wanted[0].scaling,
                "verbose": run.job.verbose,
                "is_autoscaling": run.job.ray.autoscaling,
                "silence_s": run.job.search.silence_s,
            },
            engine=wanted[0].engine,
            progress=progress,
            origin=origin_of(run, run.job.scaling.cpus_per_worker),
        )
