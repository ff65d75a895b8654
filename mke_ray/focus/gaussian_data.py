"""Gaussian samples of two modalities that share some of what decides their class."""

# K settings, N samples, S decisive features, D features.

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from mke_ray.seeds import mix_integers

NUM_CLASSES = 2


@dataclass(frozen=True, slots=True)
class Layout:
    """Which decisive features each modality holds.

    Decisive feature i is feature i of a modality that holds it; all its other features are noise.

    Args:
        num_decisive: Features S that decide the class.
        teacher: First decisive feature that the teacher sees, and the one behind its last.
        student: The same of the student.
        num_teacher: Features of the teacher's modality.
        num_student: Features of the student's modality.
        equal: Whether all decisive features count alike; else by normal weights, drawn per seed.
    """

    num_decisive: int
    teacher: tuple[int, int]
    student: tuple[int, int]
    num_teacher: int
    num_student: int
    equal: bool = False

    @property
    def shared(self) -> range:
        """Decisive features of both, which is where they are in both."""
        return range(max(self.teacher[0], self.student[0]), min(self.teacher[1], self.student[1]))

    @property
    def own(self) -> list[int]:
        """Decisive features of the teacher alone."""
        return [one for one in range(*self.teacher) if one not in self.shared]

    @property
    def gamma(self) -> float:
        """Share of the decisive features of either that both have."""
        either = set(range(*self.teacher)) | set(range(*self.student))
        return len(self.shared) / len(either)


@dataclass(frozen=True, slots=True)
class Gaussian:
    """Samples of several settings.

    Args:
        teacher_KND: What teachers see.
        student_KND: What students see.
        truth_KN: Classes.
    """

    teacher_KND: Tensor
    student_KND: Tensor
    truth_KN: Tensor

    def hot_truth(self) -> Tensor:
        """Return the classes one-hot [K, C, N]."""
        hot_KNC = functional.one_hot(self.truth_KN, NUM_CLASSES).float()
        return hot_KNC.transpose(1, 2).contiguous()


def draw_gaussian(
    settings: Sequence[tuple[int, Layout]], *, num_samples: int, part: int
) -> Gaussian:
    """Draw samples of settings that have modalities of the same sizes.

    The class is on which side of a plane through 0 the decisive features lie.

    Args:
        settings: Seed and layout of each; settings of one seed and number of decisive features
            have the same samples and the same plane.
        num_samples: Samples N of each.
        part: 0 to train, 1 to distill, 2 to test.

    Source:
        Xue, Gao, Ren, Zhao, The Modality Focusing Hypothesis, ICLR 2023, section 4 and equation 27.
    """
    drawn = [_draw(seed, layout, num_samples, part) for seed, layout in settings]
    return Gaussian(*(torch.stack(some) for some in zip(*drawn, strict=True)))


def _draw(seed: int, layout: Layout, num_samples: int, part: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return what teacher and student see of some samples, and the classes."""
    decisive = layout.num_decisive
    planes = torch.Generator().manual_seed(mix_integers(seed, 0))
    plane_S = torch.ones(decisive) if layout.equal else torch.randn(decisive, generator=planes)
    generator = torch.Generator().manual_seed(mix_integers(seed, 1 + part))
    samples_NS = torch.randn(num_samples, decisive, generator=generator)
    seen = []
    for (first, end), size in (
        (layout.student, layout.num_student),
        (layout.teacher, layout.num_teacher),
    ):
        features_ND = torch.randn(num_samples, size, generator=generator)
        features_ND[:, first:end] = samples_NS[:, first:end]
        seen.append(features_ND)
    student_ND, teacher_ND = seen
    return teacher_ND, student_ND, (samples_NS @ plane_S > 0).long()
