"""Runs side by side: what differs between them, and by how much, with paired intervals."""

# N common test samples.

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from scipy import stats
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from mke_ray.errors import StoreError
from mke_ray.evaluation.results import TEACHER
from mke_ray.metrics import bootstrap_by_group
from mke_ray.report.stored import StoredRun

PAIRED, DRAWS = "paired", "draws"

_FEW_SHARED = 0.01  # of a test set: files of the same size and class occur by chance too

_SEEDS = ("seed", "data_seed", "data_seeds", "model_seeds", "source.data_seed")
# No source.table: another table may label other samples.
_PLACES = (
    "root",
    "name",
    "source.root",
    "source.made",
    "source.places",
    "source.storage_options",
    "source.endpoint_url",
    "source.region",
    "source.anonymous",
)
_MACHINES = ("ray", "tracking", "storage", "preflight")
# Of groups that also hold what changes a network (rows of a pass, precision, order of units) only
# these do not; a key that is new there counts as a setting until it is listed.
_NEUTRAL = {
    "scaling": (
        "launch",
        "num_workers",
        "cpus_per_worker",
        "gpus_per_worker",
        "pool",
        "max_failures",
        "checkpoint_every_steps",
        "checkpoints_kept",
        "resize_every_s",
        "cache_bytes",
        "feed",
        "feed_threads",
        "prefetch_batches",
        "prefetch_bytes",
        "feed_cpus",
        "feed_pool",
        "feed_timeout_s",
        "log_every_steps",
    ),
    "labelling": (
        "plan",
        "units_ahead",
        "min_actors",
        "max_actors",
        "num_cpus",
        "num_gpus",
        "pool",
        "teachers_pool",
        "max_bad_fraction",
        "cost_per_hour",
        "part_mb",
        "runner",
    ),
}
_SWITCHES = ("verbose", "dry_run", "refresh", "verify", "retry", "accept_loss", "allow_targets")


@dataclass(frozen=True, slots=True)
class Difference:
    """An arm of one run against the same arm of the first.

    Args:
        run: Number of the run.
        arm: The arm.
        base: Its score in the first run, on the common samples.
        value: Its score in this run, on the same samples.
        difference: What this run has more.
        ci95: 95% interval of that by group, simultaneous over the runs that are compared with the
            first (Bonferroni); None where all samples are of one group.
    """

    run: int
    arm: str
    base: float
    value: float
    difference: float
    ci95: tuple[float, float] | None


@dataclass(frozen=True, slots=True)
class Spread:
    """An arm over runs.

    Args:
        arm: The arm.
        num: Runs that have it.
        mean: Mean of its metric over them.
        std: Standard deviation over them, None of one run.
        gain: Mean gain over the teacher.
        gain_ci95: 95% t-interval of the mean gain over runs, None of one run, and of draws that
            share test samples.
        above: Share of the runs in which it is better than the teacher.
    """

    arm: str
    num: int
    mean: float
    std: float | None
    gain: float
    gain_ci95: tuple[float, float] | None
    above: float


@dataclass(frozen=True, slots=True, eq=False)
class Comparison:
    """What several runs amount to side by side.

    Args:
        kind: ``paired`` where they have test samples in common, else ``draws``.
        names: A short name of each run.
        runs: The runs.
        num_common: Test samples that all have.
        num_groups: Groups of these; samples that any run has in one group are in one. 0 of draws.
        shared: The largest share of a draw's test samples that another draw has too.
        differences: Each run against the first, arm by arm; none of draws.
        spreads: Every arm over the runs, where they differ in seeds alone; else none.
        settings: Keys of the configuration that differ, with the value of each run.
    """

    kind: str
    names: Sequence[str]
    runs: Sequence[StoredRun]
    num_common: int = 0
    num_groups: int = 0
    shared: float = 0.0
    differences: Sequence[Difference] = ()
    spreads: Sequence[Spread] = ()
    settings: Mapping[str, Sequence[Any]] = field(default_factory=dict)

    @property
    def metric(self) -> str:
        """The metric of the arms."""
        return self.runs[0].content.evaluation.metric

    @property
    def shares_samples(self) -> bool:
        """Whether these are draws that have test samples in common, not by chance alone."""
        return self.kind == DRAWS and self.shared > _FEW_SHARED

    @property
    def arms(self) -> list[str]:
        """All arms, in the order of the runs."""
        found = (arm for one in self.runs for arm in one.content.evaluation.arms)
        return list(dict.fromkeys(found))


def compare(runs: Sequence[StoredRun]) -> Comparison:
    """Put runs side by side.

    Where they have test samples in common, every run is paired with the first, sample by sample.
    Runs of different draws of the same data are compared by their spread.

    Args:
        runs: At least two finished runs.

    Raises:
        StoreError: Two of them cannot be compared; it names both and why.
    """
    first = runs[0]
    for one in runs[1:]:
        _check_alike(first, one)
    names = short_names([one.uri for one in runs])
    settings = _differing([one.content.config for one in runs])
    is_alike = all(is_of_seeds(key) for key in settings)
    if _are_draws(runs):
        if not is_alike:
            raise StoreError(_mixed(runs, settings))
        return _of_draws(runs, names, settings)
    common = _common_rows(runs)
    groups_N = _joined_groups(runs, common)
    return Comparison(
        PAIRED,
        names,
        runs,
        num_common=len(groups_N),
        num_groups=len(np.unique(groups_N)),
        differences=_differences(runs, common, groups_N),
        spreads=_spreads(runs) if is_alike and _have_own_seeds(settings, len(runs)) else [],
        settings=settings,
    )


def _of_draws(
    runs: Sequence[StoredRun], names: Sequence[str], settings: Mapping[str, Sequence[Any]]
) -> Comparison:
    """Return the spread over draws, with an interval where their test samples are their own.

    Scores on one test list depend on each other through it: their spread holds nothing of what
    other samples would have given. The correction of Nadeau and Bengio (Inference for the
    Generalization Error, Machine Learning 2003) is for splits drawn anew, and none for that.
    """
    keys = [set(_versions(one.scores)) for one in runs]
    shared = max(
        len(keys[one] & keys[two]) / max(min(len(keys[one]), len(keys[two])), 1)
        for one, two in combinations(range(len(runs)), 2)
    )
    found = Comparison(
        DRAWS,
        names,
        runs,
        num_common=len(set.intersection(*keys)),
        shared=shared,
        spreads=_spreads(runs),
        settings=settings,
    )
    if not found.shares_samples:
        return found
    return replace(found, spreads=[replace(one, gain_ci95=None) for one in found.spreads])


def short_names(uris: Sequence[str]) -> list[str]:
    """Return the end of each path that tells it from the others."""
    parts = [uri.rstrip("/").split("/") for uri in uris]
    for length in range(1, max(map(len, parts))):
        names = ["/".join(one[-length:]) for one in parts]
        if len(set(names)) == len(names):
            return names
    return list(uris)


def is_of_seeds(key: str) -> bool:
    """Return whether a key says which draw or where, and not how."""
    if key in (*_SEEDS, *_SWITCHES) or _is_place(key):
        return True
    group, _, rest = key.partition(".")
    return group in _MACHINES or rest.split(".", 1)[0] in _NEUTRAL.get(group, ())


def arm_scores(scores: pa.Table, arm: str) -> NDArray | None:
    """Return the score of an arm on every test sample, the mean over its seeds [N], or None."""
    columns = [name for name in scores.column_names if name.rpartition("/")[0] == arm]
    if not columns:
        return None
    stacked = np.stack([scores.column(one).to_numpy() for one in columns])
    return np.asarray(stacked.mean(axis=0, dtype=np.float64))


def _check_alike(first: StoredRun, other: StoredRun) -> None:
    """Refuse runs that answer different questions.

    Raises:
        StoreError: It names both.
    """
    one, two = first.content, other.content
    if list(one.classes) != list(two.classes):
        raise StoreError(
            f"{other.uri} has the classes {_shown(two.classes)}, {first.uri} has "
            f"{_shown(one.classes)}: another label space; compare runs of the same classes in the "
            "same order"
        )
    if one.evaluation.metric != two.evaluation.metric:
        raise StoreError(
            f"{other.uri} is measured by {two.evaluation.metric}, {first.uri} by "
            f"{one.evaluation.metric}; compare runs of one metric"
        )


def _are_draws(runs: Sequence[StoredRun]) -> bool:
    """Return whether runs are of several draws of the same data, each of another.

    Raises:
        StoreError: Some are of the same draw and some are not.
    """
    seeds = [one.content.drawn.get("data_seed") for one in runs]
    if len(set(seeds)) == 1:
        return False
    for number, one in enumerate(runs):
        if one.content.drawn.get("source") != runs[0].content.drawn.get("source"):
            raise StoreError(_other_data(runs[0], one, "its source is another"))
        if seeds[number] in seeds[:number]:
            before = runs[seeds.index(seeds[number])].uri
            raise StoreError(
                f"{one.uri} is of the same draw of the data as {before} (data_seed="
                f"{seeds[number]}), others are not; compare runs of one draw, or one run of each"
            )
    return True


def _common_rows(runs: Sequence[StoredRun]) -> list[NDArray]:
    """Return the rows of the test samples that all runs have, in one order.

    Raises:
        StoreError: A run has none of them, or is of another source and has not all.
    """
    keys = [_keys(one.scores) for one in runs]
    for one, mine in zip(runs[1:], keys[1:], strict=True):
        num = len(keys[0].keys() & mine.keys())
        is_same = one.content.drawn.get("source") == runs[0].content.drawn.get("source")
        if num == 0 or (not is_same and num < min(len(keys[0]), len(mine))):
            shared = f"of {len(mine):,} test samples it shares {num:,} (by id, size and labels)"
            raise StoreError(_other_data(runs[0], one, shared))
    common = set.intersection(*(set(one) for one in keys))
    if not common:
        raise StoreError(
            f"no test sample is common to all of {', '.join(one.uri for one in runs)}; compare two "
            "of them at a time"
        )
    ordered = [one for one in keys[0] if one in common]
    return [np.array([mine[one] for one in ordered]) for mine in keys]


def _joined_groups(runs: Sequence[StoredRun], common: Sequence[NDArray]) -> NDArray:
    """Return the group of each common sample [N], the finest that no run's groups cut across.

    A run that was listed without its groups has one for every sample; to trust it alone would call
    samples of one speaker independent.
    """
    num = len(common[0])
    starts, ends = [], []
    for one, rows in zip(runs, common, strict=True):
        names = one.scores.column("group").take(pa.array(rows)).to_pylist()
        first: dict[str | None, int] = {}
        starts += [first.setdefault(name, place) for place, name in enumerate(names)]
        ends += range(num)
    links = coo_array((np.ones(len(starts)), (starts, ends)), shape=(num, num))
    return np.asarray(connected_components(links, directed=False)[1])


def _keys(scores: pa.Table) -> dict[tuple[int, int], int]:
    """Return the row of each sample by its id and the digest of its size and labels."""
    ids, digests = (scores.column(name).to_pylist() for name in ("sample_id", "digest"))
    return {pair: row for row, pair in enumerate(zip(ids, digests, strict=True))}


def _versions(scores: pa.Table) -> list[tuple[int, ...]]:
    """Return what tells the samples of draws apart: id, digest and, of newer reports, version."""
    names = ("sample_id", "digest", "version")
    known = [scores.column(one).to_pylist() for one in names if one in scores.column_names]
    return list(zip(*known, strict=True))


def _differences(
    runs: Sequence[StoredRun], common: Sequence[NDArray], groups_N: NDArray
) -> list[Difference]:
    """Return every arm of every run against the same arm of the first."""
    found = []
    num_compared = len(runs) - 1  # the best of several is looked for, and would often win by chance
    for number, (one, rows) in enumerate(zip(runs[1:], common[1:], strict=True), start=1):
        for arm in _arms_of_all([runs[0], one]):
            base_N, value_N = arm_scores(runs[0].scores, arm), arm_scores(one.scores, arm)
            if base_N is None or value_N is None:
                continue
            base_N, value_N = base_N[common[0]], value_N[rows]
            interval = bootstrap_by_group(
                value_N - base_N,
                groups_N,
                num_resamples=2000 * num_compared,
                confidence=1.0 - 0.05 / num_compared,
            )
            ends = interval.ends()
            found.append(
                Difference(
                    run=number,
                    arm=arm,
                    base=float(base_N.mean()),
                    value=float(value_N.mean()),
                    difference=interval.value,
                    ci95=None if ends is None else (ends[0], ends[1]),
                )
            )
    return found


def _have_own_seeds(settings: Mapping[str, Sequence[Any]], num: int) -> bool:
    """Return whether no two runs have the same seeds, as copies of one run do."""
    seeds = {str([settings[key][n] for key in _SEEDS if key in settings]) for n in range(num)}
    return len(seeds) == num


def _spreads(runs: Sequence[StoredRun]) -> list[Spread]:
    """Return every arm that all runs have, over them."""
    return [_spread(arm, runs) for arm in _arms_of_all(runs)]


def _spread(arm: str, runs: Sequence[StoredRun]) -> Spread:
    """Return an arm over runs."""
    results = [one.content.evaluation.arms[arm] for one in runs]
    value_N = np.array([one.value for one in results])
    gain_N = np.array([one.gain for one in results])
    std, ends = None, None
    if len(results) > 1:
        std = float(value_N.std(ddof=1))
        half = float(stats.t.ppf(0.975, len(results) - 1) * stats.sem(gain_N))
        ends = None if arm == TEACHER else (gain_N.mean() - half, gain_N.mean() + half)
    mean, gain = float(value_N.mean()), float(gain_N.mean())
    return Spread(arm, len(results), mean, std, gain, ends, float((gain_N > 0).mean()))


def _arms_of_all(runs: Sequence[StoredRun]) -> list[str]:
    """Return the arms that all runs have, in the order of the first."""
    arms = runs[0].content.evaluation.arms
    return [arm for arm in arms if all(arm in one.content.evaluation.arms for one in runs)]


def _differing(configs: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """Return the keys of configurations whose values differ, apart from where runs are."""
    flat = [_flat(one) for one in configs]
    keys = dict.fromkeys(key for one in flat for key in one)
    values = {key: [one.get(key) for one in flat] for key in keys}
    return {
        key: row
        for key, row in values.items()
        if not _is_place(key) and any(value != row[0] for value in row)
    }


def _is_place(key: str) -> bool:
    """Return whether a key, or the one that it is below, says where data and runs are."""
    return any(key == place or key.startswith(f"{place}.") for place in _PLACES)


def _flat(node: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    """Return a nested configuration by dotted keys."""
    found: dict[str, Any] = {}
    for name, one in node.items():
        key = f"{above}.{name}" if above else str(name)
        found |= _flat(one, key) if isinstance(one, Mapping) and one else {key: one}
    return found


def _other_data(first: StoredRun, other: StoredRun, why: str) -> str:
    """Say that two runs are of different data."""
    return (
        f"{other.uri} was tested on other data than {first.uri}: {why}; compare runs of the same "
        "test samples, or of several draws (data_seed) of the same source"
    )


def _mixed(runs: Sequence[StoredRun], settings: Mapping[str, Sequence[Any]]) -> str:
    """Say that runs of different draws differ in more than that."""
    keys = [key for key in settings if not is_of_seeds(key)]
    other = next(n for n in range(len(runs)) if settings[keys[0]][n] != settings[keys[0]][0])
    return (
        f"{runs[other].uri} is of another draw of the data than {runs[0].uri} and differs from it "
        f"in {', '.join(keys[:5])} too, so that neither can be told from the other; compare "
        "settings on one draw, or draws of one setting"
    )


def _shown(classes: Sequence[str]) -> str:
    """Return the first few of many classes."""
    more = f" and {len(classes) - 6} more" if len(classes) > 6 else ""
    return f"[{', '.join(classes[:6])}]{more}"
