"""What the stores of refining take: answers of witnesses and members, and labels of them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from mke_ray.expansion.answers import ANSWERED_CLASSES
from mke_ray.expansion.estimate import LABEL_BYTES_PER_CLASS
from mke_ray.expansion.run import Run
from mke_ray.expansion.witnesses import teachers_of, witnessed
from mke_ray.labels.dense import DenseForm, dense_form
from mke_ray.schema import Split

_ROW_BYTES = 9  # of id and status
_UNIT_BYTES = 1650  # of footers, commit records and the index, whatever the unit holds
_COLUMN_BYTES = 450  # of a column of a unit, beside its values
_STORE_BYTES = 11_000  # of the specification and the schema of the index
_JUDGED = (Split.UNLABELED, Split.PROBE, Split.TEST)


@dataclass(frozen=True, slots=True)
class StoreToBe:
    """A store that is going to be written.

    Args:
        num_rows: Its rows.
        num_units: Its units.
        column_bytes: Bytes of a value of each of its columns, before compression.
    """

    num_rows: float
    num_units: float
    column_bytes: tuple[int, ...]

    @property
    def num_bytes(self) -> float:
        """Bytes of the store with all that belongs to it."""
        of_rows = self.num_rows * (sum(self.column_bytes) + _ROW_BYTES)
        of_units = self.num_units * (_UNIT_BYTES + _COLUMN_BYTES * len(self.column_bytes))
        return of_rows + of_units + _STORE_BYTES


def stores_of_refining(run: Run, splits: Mapping[str, float]) -> Iterator[StoreToBe]:
    """Yield the stores that refining writes if all of its rounds are needed; none without it.

    Args:
        run: The run.
        splits: Samples of every split.
    """
    keys, form = run.job.expansion, label_form(run)
    if not keys.enabled:
        return
    num_classes = run.source.label_space.num_classes
    label_bytes = LABEL_BYTES_PER_CLASS * num_classes if form is None else form.num_bytes
    answer_bytes = label_bytes if form is None else _answered(form).num_bytes
    networks = 1 if form is not None else keys.folds  # pixels are judged by their own fold alone
    said_bytes = len(witnessed(run.job)) * networks * answer_bytes
    if teachers_of(run.job):
        yield _store(run, splits, [Split.UNLABELED], (label_bytes,))
    for _ in range(keys.rounds):
        yield _store(run, splits, _JUDGED, (said_bytes,))
        yield _store(run, splits, _JUDGED, (label_bytes,))
    if keys.members > 1:
        yield _store(run, splits, [Split.UNLABELED], (answer_bytes,) * keys.members)
        yield _store(run, splits, [Split.UNLABELED], (label_bytes,))


def _store(
    run: Run, splits: Mapping[str, float], wanted: Sequence[str], column_bytes: tuple[int, ...]
) -> StoreToBe:
    """Return a store of some splits."""
    nums = [splits.get(split, 0) for split in wanted]
    num_units = sum(-(-num // run.job.labelling.unit_size) for num in nums)
    return StoreToBe(sum(nums), num_units, column_bytes)


def label_form(run: Run) -> DenseForm | None:
    """Return the form of dense labels, None where labels are not dense."""
    space, top_k = run.source.label_space, run.job.labelling.top_k
    return dense_form(run.decode, run.job.teacher.modality, label_space=space, top_k=top_k)


def _answered(form: DenseForm) -> DenseForm:
    """Return the form of what a network says of a sample."""
    return replace(form, top_k=min(form.num_classes, ANSWERED_CLASSES * form.top_k))
