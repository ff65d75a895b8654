"""A table from one label space to another, and any teacher seen through it."""

# B samples, C classes of the teacher, K classes of the run, X nothing, or pixels [H, W].

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mke_ray.errors import ConfigError
from mke_ray.models.class_tables import by_teacher_class, read_table
from mke_ray.models.teachers import Teacher
from mke_ray.schema import LabelKind, LabelSpace, fingerprint

RENORMALISE = "renormalise"

_log = logging.getLogger(__name__)

_NUM_BEFORE_WARNING = 100
_MUCH = 0.5
_SURE = 30.0  # log-odds beyond which float32 knows no probability


class LabelMap:
    """Which classes of a teacher make up each class of a run.

    A class of the teacher that the table does not name is unmapped. Its probability is left out,
    so that the softmax over the classes of the run divides it among them as the others are
    (``renormalise``), or is that of one class of the run.

    Args:
        table: ``{class of the teacher: class of the run}``.
        known: Label space of the teacher.
        classes: Classes of the run in logit order.
        kind: Kind of the run's labels.
        unmapped: ``renormalise``, or a class of the run that takes what is not in the table.

    Raises:
        ConfigError: A name is in neither space, a class of the run is made up of nothing, or the
            kinds do not go together.
    """

    def __init__(
        self,
        table: Mapping[str, str],
        known: LabelSpace,
        classes: Sequence[str],
        *,
        kind: str = LabelKind.SINGLE.value,
        unmapped: str = RENORMALISE,
    ) -> None:
        ignore = known.ignore if kind == LabelKind.DENSE else None
        self.label_space = LabelSpace(tuple(classes), LabelKind(kind), ignore)
        self.known = known
        _check_kinds(known.kind, self.label_space.kind)
        _check_names("from", table, known.classes)
        _check_names("to", table.values(), self.label_space.classes)
        takes_rest = unmapped != RENORMALISE
        if takes_rest:
            _check_names("unmapped", [unmapped], self.label_space.classes)
        goes_to = {
            name: table.get(name, unmapped if takes_rest else None) for name in known.classes
        }
        self.members = [
            [number for number, name in enumerate(known.classes) if goes_to[name] == target]
            for target in self.label_space.classes
        ]
        self.unmapped = [n for n, name in enumerate(known.classes) if name not in table]
        empty = [one for one, of in zip(classes, self.members, strict=True) if not of]
        if empty:
            raise ConfigError(
                f"the table maps nothing to {empty}; every class of the run needs a class of the "
                "teacher, or leave it out of the source"
            )

    def logits(self, logits_BCX: Tensor) -> Tensor:
        """Return logits [B, K, ...] of the run for logits [B, C, ...] of the teacher.

        With one class per sample or pixel they are logarithms of summed probabilities. Of many
        classes at once the probability that a class of the run holds is that of any of its members,
        as if these were independent; where the run has one class per sample they are summed too.
        """
        if self.known.kind == LabelKind.MULTI:
            return self._of_many(logits_BCX.float())
        log_BCX = nn.functional.log_softmax(logits_BCX.float(), dim=1)
        sums = [log_BCX[:, one].logsumexp(dim=1) for one in self.members]
        if self.label_space.kind != LabelKind.MULTI:
            return torch.stack(sums, dim=1)
        return torch.stack([log_odds(one) for one in sums], dim=1)

    def unmapped_mass(self, logits_BCX: Tensor) -> float:
        """Return the mean probability of what the table does not name.

        Of many classes at once it is their share of all that the teacher hears.
        """
        if self.known.kind == LabelKind.MULTI:
            share_BCX = logits_BCX.float().sigmoid()
            share_BCX = share_BCX / share_BCX.sum(dim=1, keepdim=True).clamp(min=1e-12)
        else:
            share_BCX = logits_BCX.float().softmax(dim=1)
        return float(share_BCX[:, self.unmapped].sum(dim=1).mean())

    def to_dict(self) -> dict[str, Any]:
        """Return plain data that changes with what the map does."""
        return {
            "known": self.known.to_dict(),
            "members": self.members,
            "label_space": self.label_space.to_dict(),
        }

    def _of_many(self, logits_BC: Tensor) -> Tensor:
        """Return logits of the run from independent classes."""
        if self.label_space.kind == LabelKind.SINGLE:
            log_BC = nn.functional.logsigmoid(logits_BC)
            return torch.stack([log_BC[:, one].logsumexp(dim=1) for one in self.members], dim=1)
        none_BC = nn.functional.logsigmoid(-logits_BC)  # log of the probability that it is absent
        return torch.stack([-log_odds(none_BC[:, one].sum(dim=1)) for one in self.members], dim=1)


class MappedTeacher:
    """Any teacher, whose classes are mapped onto those of the run.

    Args:
        teacher: The teacher, or ``_target_`` and the arguments of its class in a configuration.
        table: ``{class of the teacher: class of the run}``, or ``{class of the run: [classes of
            the teacher]}``, or the path or URI of a YAML file with one of them or of a CSV file
            with the columns ``from`` and ``to``.
        classes: Classes of the run in logit order, ``${source.classes}`` in a configuration.
        teacher_classes: Classes of the teacher in logit order, where it has no ``label_space``.
        teacher_kind: Kind of its labels, where it has none.
        kind: Kind of the run's labels; None for that of the teacher.
        unmapped: ``renormalise``, or a class of the run that takes what is not in the table.

    Raises:
        ConfigError: The table does not fit the classes, or the teacher tells none.
    """

    def __init__(
        self,
        teacher: Teacher,
        table: Mapping[str, Any] | str,
        classes: Sequence[str],
        *,
        teacher_classes: Sequence[str] | None = None,
        teacher_kind: str = LabelKind.SINGLE.value,
        kind: str | None = None,
        unmapped: str = RENORMALISE,
    ) -> None:
        known = _known_space(teacher, teacher_classes, teacher_kind)
        plain = read_table(table) if isinstance(table, str) else table
        self.map = LabelMap(
            by_teacher_class(plain), known, classes, kind=kind or known.kind, unmapped=unmapped
        )
        self.modality = teacher.modality
        self.needs = teacher.needs
        self.label_space = self.map.label_space
        self._teacher = teacher
        self._mass, self._num = 0.0, 0
        self._has_warned = False

    def predict(self, arrays_BX: np.ndarray | Tensor) -> np.ndarray:
        """Return float32 logits [B, K] of the run; of dense labels [B, K, H, W]."""
        logits_BCX = torch.as_tensor(self._teacher.predict(arrays_BX))
        if logits_BCX.shape[1] != self.map.known.num_classes:
            raise ConfigError(
                f"the teacher answers with {logits_BCX.shape[1]} logits, and has "
                f"{self.map.known.num_classes} classes; correct teacher_classes"
            )
        num = len(logits_BCX)
        if num:
            self._mass += num * self.map.unmapped_mass(logits_BCX)
            self._num += num
            self._warn()
        return self.map.logits(logits_BCX).cpu().numpy()

    def fingerprint(self) -> str:
        """Return a hash of the teacher's own and of the table."""
        return fingerprint({"teacher": self._teacher.fingerprint(), "map": self.map.to_dict()})

    def remarks(self) -> list[str]:
        """Return what its answers so far say about the table, for a person."""
        if not self.map.unmapped or not self._num:
            return []
        names = [self.map.known.classes[number] for number in self.map.unmapped]
        some = ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
        return [
            f"{self._mass / self._num:.1%} of its probability is on {len(names)} classes that the "
            f"table does not map ({some})"
        ]

    def _warn(self) -> None:
        """Log once that much of the probability is lost."""
        if self._has_warned or self._num < _NUM_BEFORE_WARNING:
            return
        self._has_warned = True
        if self._mass > _MUCH * self._num:
            _log.warning("a mapped teacher: %s", self.remarks()[0])

    @property
    def network(self) -> nn.Module:
        """The network of the teacher, where it shows one."""
        return getattr(self._teacher, "network")  # noqa: B009 - not part of the protocol


def log_odds(log_B: Tensor) -> Tensor:
    """Return log-odds of probabilities whose logarithms are given, within what float32 knows."""
    log_B = log_B.double().clamp(max=-1e-13)
    return (log_B - torch.log(-torch.expm1(log_B))).clamp(-_SURE, _SURE).float()


def _known_space(teacher: Teacher, classes: Sequence[str] | None, kind: str) -> LabelSpace:
    """Return the label space of a teacher.

    Raises:
        ConfigError: It is no teacher, or does not tell its classes.
    """
    if not hasattr(teacher, "predict"):
        raise ConfigError(
            f"teacher={teacher} is none; give the teacher whose classes are mapped, as in "
            "teacher={_target_: mke_ray.models.brought.SoundTeacher, path: DIR}"
        )
    if classes is not None:
        return LabelSpace(tuple(classes), LabelKind(kind))
    space = getattr(teacher, "label_space", None)
    if not isinstance(space, LabelSpace):
        raise ConfigError(
            f"{type(teacher).__name__} does not tell its classes (label_space); name them in "
            "teacher_classes"
        )
    return space


def _check_kinds(known: LabelKind, wanted: LabelKind) -> None:
    """Refuse to make class maps of answers per sample, and the other way round."""
    if (known == LabelKind.DENSE) != (wanted == LabelKind.DENSE):
        raise ConfigError(
            f"kind={wanted}: labels of kind {known} cannot be made labels of {wanted}"
        )


def _check_names(column: str, names: Any, classes: Sequence[str]) -> None:
    """Refuse names that are no classes, with those that were probably meant."""
    known = set(classes)
    unknown = [name for name in names if name not in known]
    if unknown:
        shown = list(classes[:12]) + (["..."] if len(classes) > 12 else [])
        raise ConfigError(f"table: {unknown[:5]} in {column!r} are no classes; there are {shown}")
