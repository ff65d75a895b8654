"""How far finalists lead the configuration as it is, sample by sample of the select part."""

# N samples of the select part, C classes.

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from mke_ray.evaluation import FitColumn
from mke_ray.evaluation.average_precision import sample_average_precision
from mke_ray.expansion.select_part import SelectPart, select_part
from mke_ray.expansion.stages import predict_columns
from mke_ray.labels.derived import logits_of
from mke_ray.metrics import (
    bootstrap_by_group,
    fit_temperature,
    lower_bound_by_group,
    sample_log_likelihood,
)
from mke_ray.schema import LabelKind, Split
from mke_ray.search.finals import Finalist, Lead
from mke_ray.search.ledger import USUAL
from mke_ray.search.run import Search


def with_leads(search: Search, finalists: Sequence[Finalist]) -> list[Finalist]:
    """Return finalists that know how far they lead the configuration as it is.

    Nothing is known where labels are dense or the configuration as it is is no finalist.

    Args:
        search: The search.
        finalists: The finalists, trained with every seed.
    """
    own = search.candidates
    is_dense = own.manifest.label_space.kind is LabelKind.DENSE
    if is_dense or len(finalists) < 2 or USUAL not in {one.number for one in finalists}:
        return list(finalists)
    part = select_part(
        own.manifest, own.labels.labels, fraction=search.run.job.gate.select_fraction
    )
    scores = _scores(search, finalists, part)
    is_known_N = np.isfinite(list(scores.values())).all(axis=0)
    if not is_known_N.any():
        return list(finalists)
    usual_N = scores[USUAL]
    groups, confidence = np.asarray(part.groups)[is_known_N], search.run.job.gate.confidence
    return [
        one
        if one.number == USUAL
        else replace(
            one,
            lead=lead_of((scores[one.number] - usual_N)[is_known_N], groups, confidence=confidence),
        )
        for one in finalists
    ]


def lead_of(lead_N: NDArray, group_N: Sequence[str] | NDArray, *, confidence: float) -> Lead:
    """Return a lead with its interval and its bound over groups.

    Args:
        lead_N: By how much each sample is better [N].
        group_N: Group of each sample [N].
        confidence: Confidence of the bound.
    """
    found = bootstrap_by_group(lead_N, group_N)
    bound = lower_bound_by_group(lead_N, group_N, confidence=confidence)
    return Lead(found.value, (found.low, found.high), bound)


def sample_quality(
    logits_NC: NDArray, truth_NC: NDArray, quality: str, *, is_multi: bool
) -> NDArray:
    """Return the quality of each sample [N], NaN where a network had no answer.

    Args:
        logits_NC: Logits [N, C], NaN where there is no answer.
        truth_NC: Whether each sample is of each class [N, C].
        quality: ``log_likelihood``, at the temperature that makes the truth likeliest, or
            ``metric``: right or wrong, of many classes the average precision of the sample.
        is_multi: Whether a sample may have many classes.
    """
    quality_N = np.full(len(logits_NC), np.nan)
    is_there_N = np.isfinite(logits_NC).all(axis=1)
    logits_NC, truth_NC = logits_NC[is_there_N], truth_NC[is_there_N]
    if not len(logits_NC):
        return quality_N
    truth = truth_NC if is_multi else truth_NC.argmax(axis=1)
    if quality == "log_likelihood":
        temperature = fit_temperature(logits_NC, truth)
        quality_N[is_there_N] = sample_log_likelihood(logits_NC / temperature, truth)
    elif is_multi:
        quality_N[is_there_N] = sample_average_precision(logits_NC, truth_NC)
    else:
        quality_N[is_there_N] = logits_NC.argmax(axis=1) == truth
    return quality_N


def _scores(search: Search, finalists: Sequence[Finalist], part: SelectPart) -> dict[int, NDArray]:
    """Return the quality of every sample [N] by the finalist's number, the mean over its seeds."""
    own = search.candidates
    columns = [
        FitColumn(str(one.number), seed, fit) for one in finalists for seed, fit in one.fits.items()
    ]
    store = predict_columns(search.run, own.manifest, own.labels, columns, splits=(Split.PROBE,))
    space = own.manifest.label_space
    fits = {one.fit for one in columns}
    said: dict[str, list[NDArray]] = {fit: [] for fit in fits}
    for ref in part.refs:
        table = store.read(ref.unit, columns=["sample_id", *fits])
        for fit in fits:
            said[fit].append(logits_of(table, fit, space.num_classes)[part.rows[ref.unit]])
    is_multi = space.kind is LabelKind.MULTI
    by_fit = {
        fit: sample_quality(np.concatenate(one), part.truth_NC, search.quality, is_multi=is_multi)
        for fit, one in said.items()
    }
    return {
        one.number: np.mean([by_fit[fit] for fit in one.fits.values()], axis=0) for one in finalists
    }
