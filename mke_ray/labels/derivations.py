"""How labels of a unit are made from the teacher's and from what others said of its samples."""

# B samples of a unit, M witnesses, K further teachers, F folds, C classes, S scores, N pixels of a
# sample.

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax

from mke_ray.labels.folds import FoldDivision
from mke_ray.labels.openset import Tilt, open_set_scores
from mke_ray.labels.posterior import Posterior
from mke_ray.schema import LabelKind, ManifestRow, Split


class Derivation(Protocol):
    """Makes labels of a unit from the teacher's and from what other networks said."""

    @property
    def columns(self) -> Sequence[str]:
        """Columns that are read of what other networks said."""
        ...

    @property
    def num_answers(self) -> int:
        """Answers in each column of a sample, where labels are dense."""
        ...

    @property
    def teachers(self) -> Sequence[str]:
        """Label stores of further teachers that are read too, by the names of their folders."""
        ...

    @property
    def is_weighed(self) -> bool:
        """Whether samples count differently."""
        ...

    def to_dict(self) -> dict[str, Any]:
        """Return plain data, of which the name of the store is made."""
        ...

    def labels(
        self, rows: Sequence[ManifestRow], teacher_BC: NDArray, said: Mapping[str, NDArray]
    ) -> NDArray:
        """Return logits [B, C], NaN where there are none.

        Args:
            rows: Rows of the unit in the manifest.
            teacher_BC: Logits of the teacher, NaN where there are none.
            said: Per column, and per label store of a further teacher, the logits, NaN where there
                are none [B, X].
        """
        ...

    def pixels(self, teacher_NC: NDArray, said: Mapping[str, NDArray]) -> NDArray:
        """Return logits of every pixel of a sample [N, C], where labels are dense.

        Args:
            teacher_NC: Log-probabilities of the teacher.
            said: Per column, and per label store of a further teacher, the log-probabilities of
                its answers [M, N, C], NaN where there are none.
        """
        ...

    def weights(
        self, rows: Sequence[ManifestRow], teacher_BC: NDArray, said: Mapping[str, NDArray]
    ) -> NDArray | None:
        """Return how much each sample counts [B], None where all do alike.

        The arguments are those of ``labels``.
        """
        ...


@dataclass(frozen=True, slots=True)
class Refinement:
    """The posterior of all teachers and the witnesses, for each sample those of its own fold.

    Samples outside the unlabeled split are new to all folds, whose mean log-probability counts.

    Args:
        witness: Column of what the witnesses said: [M * F * C] per sample.
        folds: The folds.
        posterior: How they become one.
        tilt: How unlabeled samples differ from those of known classes; one counts by how likely it
            is of one. None counts all alike.
        teachers: Label stores of the further teachers of the posterior, by their folders' names.
    """

    witness: str
    folds: FoldDivision
    posterior: Posterior
    tilt: Tilt | None = None
    teachers: tuple[str, ...] = ()

    @property
    def columns(self) -> tuple[str]:
        """The witnesses alone."""
        return (self.witness,)

    @property
    def num_answers(self) -> int:
        """One of each witness."""
        return len(self.posterior.witnesses)

    @property
    def is_weighed(self) -> bool:
        """Whether there is a tilt."""
        return self.tilt is not None

    def to_dict(self) -> dict[str, Any]:
        """Return plain data."""
        made_of = {"folds": self.folds.to_dict(), "posterior": self.posterior.to_dict()}
        tilt = {} if self.tilt is None else {"tilt": self.tilt.to_dict()}
        teachers = {"teachers": list(self.teachers)} if self.teachers else {}
        return {"witness": self.witness, **made_of, **tilt, **teachers}

    def labels(
        self, rows: Sequence[ManifestRow], teacher_BC: NDArray, said: Mapping[str, NDArray]
    ) -> NDArray:
        """Return refined logits [B, C]."""
        of_folds_MFBC = self._said(teacher_BC, said)
        if any(row.split != Split.UNLABELED for row in rows):
            is_multi = self.posterior.kind == LabelKind.MULTI
            logs_MFBC = of_folds_MFBC if is_multi else log_softmax(of_folds_MFBC, axis=3)
            own_MBC = logs_MFBC.mean(axis=1)
        else:
            own_MBC = self._own(rows, of_folds_MFBC)
        return self.posterior.logits(teacher_BC, self._experts(own_MBC, said))

    def weights(
        self, rows: Sequence[ManifestRow], teacher_BC: NDArray, said: Mapping[str, NDArray]
    ) -> NDArray | None:
        """Return how likely each unlabeled sample is of a known class [B]; 1 of other splits."""
        if self.tilt is None:
            return None
        if any(row.split != Split.UNLABELED for row in rows):
            return np.ones(len(rows))
        return self.tilt.weights(self.scores(rows, teacher_BC, said))

    def scores(
        self, rows: Sequence[ManifestRow], teacher_BC: NDArray, said: Mapping[str, NDArray]
    ) -> NDArray:
        """Return what tells unlabeled samples of known classes, NaN where nothing does [B, S]."""
        own_MBC = self._own(rows, self._said(teacher_BC, said))
        return open_set_scores(self.posterior, teacher_BC, self._experts(own_MBC, said))

    def _said(self, teacher_BC: NDArray, said: Mapping[str, NDArray]) -> NDArray:
        """Return what the witnesses of every fold said [M, F, B, C]."""
        num_classes = teacher_BC.shape[1]
        width = len(self.posterior.witnesses) * self.folds.num_folds * num_classes
        return unflattened(_of_width(said[self.witness], width), self.folds.num_folds, num_classes)

    def _own(self, rows: Sequence[ManifestRow], of_folds_MFBC: NDArray) -> NDArray:
        """Return what the witnesses of the own fold of every sample said [M, B, C]."""
        fold_B = np.asarray([self.folds.fold_of(row.group) for row in rows])
        return of_folds_MFBC[:, fold_B, np.arange(len(rows))]

    def pixels(self, teacher_NC: NDArray, said: Mapping[str, NDArray]) -> NDArray:
        """Return refined logits [N, C]; what witnesses said is that of the fold that counts."""
        of_teachers = [said[name] for name in self.teachers]
        expert_MNC = np.concatenate([said[self.witness], *of_teachers])
        return self.posterior.logits(teacher_NC, expert_MNC)

    def _experts(self, own_MBC: NDArray, said: Mapping[str, NDArray]) -> NDArray:
        """Return what witnesses said, and behind it what further teachers did [M + K, B, C]."""
        return np.concatenate([own_MBC, *(said[name][None] for name in self.teachers)])


@dataclass(frozen=True, slots=True)
class Combination:
    """The posterior of several teachers, before there is any witness.

    Args:
        teachers: Label stores of the further teachers, by their folders' names.
        posterior: How they and the first teacher become one.
    """

    teachers: tuple[str, ...]
    posterior: Posterior

    @property
    def columns(self) -> tuple[str, ...]:
        """None: no network is asked."""
        return ()

    @property
    def num_answers(self) -> int:
        """None."""
        return 0

    @property
    def is_weighed(self) -> bool:
        """Nobody has looked at the other modalities yet."""
        return False

    def to_dict(self) -> dict[str, Any]:
        """Return plain data."""
        return {"teachers": list(self.teachers), "posterior": self.posterior.to_dict()}

    def labels(
        self, rows: Sequence[ManifestRow], teacher_BC: NDArray, said: Mapping[str, NDArray]
    ) -> NDArray:
        """Return the combined logits [B, C]."""
        del rows
        return self.posterior.logits(teacher_BC, np.stack([said[name] for name in self.teachers]))

    def pixels(self, teacher_NC: NDArray, said: Mapping[str, NDArray]) -> NDArray:
        """Return the combined logits [N, C]."""
        expert_KNC = np.concatenate([said[name] for name in self.teachers])
        return self.posterior.logits(teacher_NC, expert_KNC)

    def weights(
        self, rows: Sequence[ManifestRow], teacher_BC: NDArray, said: Mapping[str, NDArray]
    ) -> None:
        """Return nothing: nobody has looked at the other modalities yet."""


@dataclass(frozen=True, slots=True)
class Ensemble:
    """The mean of what several networks say, where the teacher says anything.

    Of one class per sample the mean of log-probabilities, of many that of the log-odds.

    Args:
        members: Columns of the networks.
        kind: ``single`` or ``multi``.
    """

    members: tuple[str, ...]
    kind: str = LabelKind.SINGLE

    @property
    def teachers(self) -> tuple[str, ...]:
        """None."""
        return ()

    @property
    def columns(self) -> tuple[str, ...]:
        """The members."""
        return self.members

    @property
    def num_answers(self) -> int:
        """One of each member."""
        return 1

    @property
    def is_weighed(self) -> bool:
        """Networks of all modalities tell none."""
        return False

    def to_dict(self) -> dict[str, Any]:
        """Return plain data."""
        return {"members": list(self.members), "kind": str(self.kind)}

    def labels(
        self, rows: Sequence[ManifestRow], teacher_BC: NDArray, said: Mapping[str, NDArray]
    ) -> NDArray:
        """Return the mean [B, C]."""
        del rows
        members = np.stack([_of_width(said[name], teacher_BC.shape[1]) for name in self.members])
        logs = members if self.kind == LabelKind.MULTI else log_softmax(members, axis=2)
        return np.where(np.isnan(teacher_BC), np.nan, logs.mean(axis=0))

    def pixels(self, teacher_NC: NDArray, said: Mapping[str, NDArray]) -> NDArray:
        """Return the mean of the log-probabilities [N, C]."""
        members = np.concatenate([said[name] for name in self.members])
        return np.where(np.isnan(teacher_NC), np.nan, members.mean(axis=0))

    def weights(
        self, rows: Sequence[ManifestRow], teacher_BC: NDArray, said: Mapping[str, NDArray]
    ) -> None:
        """Return nothing: networks of both modalities tell none."""


def unflattened(said_BX: NDArray, num_folds: int, num_classes: int) -> NDArray:
    """Return what a ``WitnessBank`` said [B, M * F * C] by witness and fold [M, F, B, C]."""
    of_all_BMFC = said_BX.reshape(len(said_BX), -1, num_folds, num_classes)
    return of_all_BMFC.transpose(1, 2, 0, 3)


def _of_width(said_BX: NDArray, width: int) -> NDArray:
    """Return logits, of a unit without any as wide as those of others."""
    return said_BX if said_BX.shape[1] else np.full((len(said_BX), width), np.nan)
