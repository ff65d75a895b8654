"""How an objective asks a student: what it reads, and what it says without perturbation."""

# B samples, C classes.

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mke_ray.schema import Batch


def modalities_of(student: nn.Module) -> Sequence[str]:
    """Return the modalities of a student, which may be wrapped for distributed training."""
    inner = getattr(student, "module", student)
    return inner.modalities  # type: ignore[return-value]


def given_modalities(student: nn.Module, batch: Batch) -> list[str]:
    """Return the modalities of a student that a batch has."""
    return [name for name in modalities_of(student) if name in batch.present]


def kind_of(student: nn.Module, modality: str) -> str:
    """Return the kind of array that a student's encoder reads."""
    inner: Any = getattr(student, "module", student)
    return inner.encoder(modality).needs["kind"]


@torch.no_grad()
def clean_logits(student: nn.Module, batch: Batch, present: Mapping[str, Tensor]) -> Tensor:
    """Return the logits without perturbation and dropout, of what is there."""
    was_training = student.training
    student.eval()
    logits_BC = student(batch.arrays, present)
    student.train(was_training)
    return logits_BC
