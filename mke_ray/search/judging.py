"""What the winner and the configuration as it is are worth on the test split, looked at once."""

# N samples.

import json
import logging
from collections.abc import Mapping
from typing import Any

import numpy as np

from mke_ray.evaluation import Evaluation, EvaluationPlan, FitColumn, evaluate
from mke_ray.expansion.stages import predict_columns, truth_reader
from mke_ray.metrics import bootstrap_by_group
from mke_ray.schema import Split
from mke_ray.search.finals import Finalist, interval
from mke_ray.search.ledger import USUAL
from mke_ray.search.run import Search

logger = logging.getLogger(__name__)

TEST_NAMES = "test-trial-"
WINNER, AS_IT_IS = "winner", "as configured"


def result_on_test(
    search: Search, winner: Finalist, finalists: Mapping[int, Finalist]
) -> dict[str, Any]:
    """Return the result on the test split; what was found of a winner is not looked at again.

    A search that goes on with more trials may have another winner: each has a file of its own, and
    each says how many were looked at.

    Args:
        search: The search, which is over.
        winner: Its winner.
        finalists: All finalists by the numbers of their trials.

    Returns:
        ``metric``, and of the winner and the configuration as it is their ``value`` over all seeds,
        its interval ``ci95`` over groups and the value of each of the ``seeds``; ``gain`` of the
        winner with ``ci95`` over groups (None where the metric is no mean over samples) and
        ``seeds_ci95`` over seeds; ``looks`` at the test split by this search so far.
    """
    folder, name = search.ledger.folder, f"{TEST_NAMES}{winner.number}.json"
    if not folder.exists(name):
        logger.info("search: looks at the test split, now that the winner is known")
        found = _measured(search, winner, finalists.get(USUAL))
        folder.create(name, json.dumps(found, indent=1).encode())
    looked = [one for one in folder.names(recursive=False) if one.startswith(TEST_NAMES)]
    return {**json.loads(folder.read(name)), "looks": len(looked)}


def _measured(search: Search, winner: Finalist, usual: Finalist | None) -> dict[str, Any]:
    """Measure both on the test split."""
    named = {WINNER: winner, **({} if usual is None else {AS_IT_IS: usual})}
    columns = [
        FitColumn(name, seed, fit) for name, one in named.items() for seed, fit in one.fits.items()
    ]
    own = search.candidates
    plan = EvaluationPlan(
        manifest=own.manifest,
        labels=own.labels.labels,
        predictions=predict_columns(
            search.run, own.manifest, own.labels, columns, splits=(Split.TEST,)
        ),
        columns=columns,
        shipped=WINNER,
        samples=truth_reader(search.run, own.manifest, own.labels),
        decode=search.run.job.decode,
        splits=(Split.TEST,),
    )
    evaluation = evaluate(plan)
    arms = {
        name: {
            "trial": one.number,
            "value": evaluation.arms[name].value,
            "ci95": evaluation.arms[name].ci95,
            "seeds": dict(evaluation.arms[name].seeds),
        }
        for name, one in named.items()
    }
    found = {"metric": evaluation.metric, "num_test": evaluation.test.num_samples, **arms}
    found["teacher"] = evaluation.arms["teacher"].value
    return found if usual is None else {**found, **_gain(evaluation, winner, usual)}


def _gain(evaluation: Evaluation, winner: Finalist, usual: Finalist) -> dict[str, Any]:
    """Return the paired difference of the winner to the configuration as it is."""
    mine, theirs = evaluation.arms[WINNER], evaluation.arms[AS_IT_IS]
    by_seed = [mine.seeds[seed] - theirs.seeds[seed] for seed in mine.seeds if seed in theirs.seeds]
    found: dict[str, Any] = {"gain": mine.value - theirs.value, "ci95": None}
    found["seeds_ci95"] = interval(by_seed) if len(by_seed) > 1 else None
    if evaluation.metric == "accuracy":
        scores = evaluation.test.scores
        mine_N, theirs_N = (
            np.mean([scores[fit] for fit in one.fits.values()], axis=0) for one in (winner, usual)
        )
        resampled = bootstrap_by_group(mine_N - theirs_N, evaluation.test.group_N)
        found["ci95"] = resampled.ends()
    return found
