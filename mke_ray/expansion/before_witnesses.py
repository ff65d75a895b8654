"""What is known of the unlabeled samples before any witness: their folds, their classes' shares."""

# B rows of a unit, C classes.

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mke_ray.data.manifest import Manifest, UnitRef, group_sizes
from mke_ray.errors import ConfigError
from mke_ray.labels.dense import DenseForm, packed_rows
from mke_ray.labels.derived import logits_of
from mke_ray.labels.folds import FoldDivision, balanced_folds, even_folds
from mke_ray.labels.posterior import probabilities
from mke_ray.labels.store import UnitStore
from mke_ray.labels.unit_reading import read_in_order
from mke_ray.report.progress import stage_progress
from mke_ray.schema import Split

_MOST_GROUPS = 100_000  # of more, hashes alone make folds even


def folds_of(manifest: Manifest, number: int, *, seed: int) -> FoldDivision:
    """Return the folds of the unlabeled samples; labelled pairs fall into them too.

    Args:
        manifest: The samples.
        number: Number of folds.
        seed: Seed of the folds.

    Raises:
        ConfigError: There are fewer groups than folds.
    """
    sizes = group_sizes(manifest, Split.UNLABELED, most=_MOST_GROUPS)
    if sizes is None:
        return even_folds(number, seed=seed)
    return balanced_folds(list(sizes), list(sizes.values()), number, seed=seed)


def prior_of(
    manifest: Manifest,
    store: UnitStore,
    *,
    temperature: float | NDArray,
    refs: Sequence[UnitRef] | None = None,
) -> NDArray:
    """Return the mean of the teacher's probabilities over the unlabeled samples [C].

    Args:
        manifest: The samples.
        store: The teacher's labels.
        temperature: Divides the teacher's logits; a number, or one for each class [C].
        refs: Units that are looked at; None takes all.

    Raises:
        ConfigError: The teacher labelled none of them.
    """
    space, index, form = manifest.label_space, store.read_index(), DenseForm.of_spec(store.spec)

    def summed(ref: UnitRef) -> tuple[NDArray, int]:
        table = store.read(ref.unit, location=index.location(ref.unit))
        if form is not None:
            return _of_pixels(table, form, float(temperature))
        logits_BC = logits_of(table, "logits", space.num_classes)
        logits_BC = logits_BC[~np.isnan(logits_BC).any(axis=1)]
        said_BC = probabilities(logits_BC, temperature=temperature, kind=space.kind)
        return said_BC.sum(axis=0), len(said_BC)

    sum_C, num_labels = np.zeros(space.num_classes), 0
    refs = list(manifest.unit_refs([Split.UNLABELED]) if refs is None else refs)
    with stage_progress("prior", unit="units") as progress:
        done = read_in_order(refs, summed, progress=lambda number: progress(number, len(refs)))
        for one_C, num in done:
            sum_C, num_labels = sum_C + one_C, num_labels + num
    if num_labels == 0:
        raise ConfigError("no unlabeled sample has a label of the teacher; nothing to refine")
    return sum_C / num_labels


def _of_pixels(table: pa.Table, form: DenseForm, temperature: float) -> tuple[NDArray, int]:
    """Return the sum over samples of the mean over their pixels [C], and the number of samples."""
    packed = [one for one in packed_rows(table) if one is not None]
    means = [form.soft(one, temperature=temperature).mean(axis=(1, 2)) for one in packed]
    return np.sum(means, axis=0, initial=0.0), len(packed)
