"""How the unlabeled samples differ from labelled pairs, found in one read of two label stores."""

# B rows of a unit, F folds, M witnesses, N samples, K labelled pairs, C classes, S scores.

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mke_ray.batching import batched
from mke_ray.data.manifest import Manifest, UnitRef
from mke_ray.labels.derivations import Refinement
from mke_ray.labels.derived import logits_of
from mke_ray.labels.openset import SCORES, Tilt, fit_tilt, open_set_scores
from mke_ray.labels.store import UnitStore
from mke_ray.labels.unit_reading import read_in_order
from mke_ray.report.progress import stage_progress
from mke_ray.schema import Split

_MOST_SAMPLES = 1 << 16  # of more, a fixed random part is enough
_UNITS_PER_ROUND = 64


def find_tilt(
    manifest: Manifest,
    teachers: Sequence[UnitStore],
    said: UnitStore,
    refinement: Refinement,
    *,
    teacher_KC: NDArray,
    expert_FMKC: NDArray,
    num_groups: int,
) -> Tilt:
    """Return how the unlabeled samples differ from labelled pairs.

    Args:
        manifest: The samples.
        teachers: Label store of the teacher, then those of the further teachers.
        said: What the witnesses said.
        refinement: How they become one.
        teacher_KC: Logits of the teacher on labelled pairs.
        expert_FMKC: Logits of the witnesses, then of the further teachers, on labelled pairs.
        num_groups: Groups of these.
    """
    unlabeled_NS = _unlabeled_scores(manifest, teachers, said, refinement)
    of_folds = [
        open_set_scores(refinement.posterior, teacher_KC, one_MKC) for one_MKC in expert_FMKC
    ]
    return fit_tilt(np.concatenate(of_folds), unlabeled_NS, num_groups=num_groups)


def _unlabeled_scores(
    manifest: Manifest, teachers: Sequence[UnitStore], said: UnitStore, refinement: Refinement
) -> NDArray:
    """Return the scores of unlabeled samples, of those whose ids are smallest where many [N, S]."""
    num_classes, (teacher, *others) = manifest.label_space.num_classes, teachers
    of_teacher, of_said = teacher.read_index(), said.read_index()
    columns = ["sample_id", *refinement.columns]

    def scored(ref: UnitRef) -> tuple[NDArray, NDArray]:
        labels = teacher.read(ref.unit, location=of_teacher.location(ref.unit))
        told = said.read(ref.unit, location=of_said.location(ref.unit), columns=columns)
        teacher_BC = logits_of(labels, "logits", num_classes)
        heard = {name: logits_of(told, name, 0) for name in refinement.columns}
        for name, store in zip(refinement.teachers, others, strict=True):
            heard[name] = logits_of(store.read(ref.unit), "logits", num_classes)
        scores_BS = refinement.scores(manifest.read_unit(ref), teacher_BC, heard)
        return labels.column("sample_id").to_numpy(), scores_BS

    id_N, scores_NS = np.zeros(0, np.int64), np.zeros((0, len(SCORES)))
    refs = list(manifest.unit_refs([Split.UNLABELED]))
    with stage_progress("compare with pairs", unit="units") as progress:
        done = read_in_order(refs, scored, progress=lambda number: progress(number, len(refs)))
        for some in batched(done, _UNITS_PER_ROUND):
            ids, scores = zip(*some, strict=True)
            id_N, scores_NS = np.concatenate([id_N, *ids]), np.concatenate([scores_NS, *scores])
            kept_N = np.argsort(id_N)[:_MOST_SAMPLES]  # ids are hashes
            id_N, scores_NS = id_N[kept_N], scores_NS[kept_N]
    return scores_NS
