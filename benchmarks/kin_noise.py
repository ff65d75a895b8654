"""Kin that learn from noisy labels: confident learning, ELR and DivideMix."""

# N samples, B rows of a batch, C classes.

from collections import Counter
from collections.abc import Sequence

import torch
from kin_draws import Draw
from kin_training import (
    HALF,
    Answers,
    best_on_select,
    cross_entropy,
    mean_of,
    probabilities,
    rows_of,
    student_of,
    train,
)
from torch import Tensor

from mke_ray.labels.folds import balanced_folds
from mke_ray.schema import Batch

ELR_WEIGHTS = (1.0, 7.0, 3.0)  # of equals the last is taken, as where nothing can be chosen by
NUM_FOLDS = 3


def held_out(draw: Draw, modalities: Sequence[str] | None) -> Tensor:
    """Return what networks say of unlabeled samples that they have not learnt from [N, C].

    They learn the teacher's labels, and are of the folds of our witnesses.

    Args:
        draw: The draw.
        modalities: Modalities they read; None for all.
    """
    sizes = Counter(draw.unlabeled.groups)
    folds = balanced_folds(list(sizes), list(sizes.values()), NUM_FOLDS)
    fold_N = torch.tensor([folds.fold_of(one) for one in draw.unlabeled.groups])
    said_NC = torch.zeros(len(draw.unlabeled), draw.num_classes)
    for fold in range(NUM_FOLDS):
        rows = rows_of(draw, draw.hard, (fold_N != fold).float())
        network = train(draw, rows, modalities=modalities, share=HALF, seed=fold)
        said_NC[fold_N == fold] = probabilities(network, draw.unlabeled)[fold_N == fold]
    return said_NC


def confident_classes(said_NC: Tensor, label_N: Tensor) -> Tensor:
    """Return the class that each sample confidently is of [N], -1 where of none.

    A class is confident where its probability reaches the mean of those of the samples that are
    labelled so; of several the most probable counts.

    Args:
        said_NC: Probabilities by networks that have not learnt from the sample.
        label_N: Given labels.

    Source:
        Northcutt, Jiang, Chuang, Confident Learning: Estimating Uncertainty in Dataset Labels,
        JAIR 2021, equations 1 and 2.
    """
    num_classes = said_NC.shape[1]
    least_C = torch.full((num_classes,), torch.inf)
    for one in range(num_classes):
        if bool((label_N == one).any()):
            least_C[one] = said_NC[label_N == one, one].mean()
    reached_NC = said_NC.masked_fill(said_NC < least_C, -1.0)
    best_N, class_N = reached_NC.max(dim=1)
    return class_N.masked_fill(best_N < 0, -1)


def confident_drop(draw: Draw) -> Answers:
    """Drop samples that are confidently of another class by a multimodal network, and train."""
    return _repaired(draw, None, drops=True)


def confident_relabel(draw: Draw) -> Answers:
    """Give samples the class that they confidently are of by the other modality, and train."""
    return _repaired(draw, draw.modalities[1:], drops=False)


def elr(draw: Draw) -> Answers:
    """Train the published student with early-learning regularisation.

    Its weight is one of the paper's that is right most often on the select part; 3, where that is
    too small. The momentum of the targets is 0.7, as the paper's on CIFAR-10.
    """

    def trained(weight: float) -> Answers:
        rows = rows_of(draw, draw.hard)
        loss = EarlyLearning(rows.target_NC.shape, weight=weight)
        return mean_of([train(draw, rows, loss=loss)])

    weights = ELR_WEIGHTS if draw.can_choose else ELR_WEIGHTS[-1:]
    return best_on_select(draw, [trained(one) for one in weights])


class EarlyLearning:
    """Cross-entropy with a term that holds on to what the network said before.

    Args:
        shape: Number of rows and of classes (N, C).
        weight: Weight of the term.
        momentum: Momentum of the targets.

    Source:
        Liu, Niles-Weed, Razavian, Fernandez-Granda, Early-Learning Regularization Prevents
        Memorization of Noisy Labels, NeurIPS 2020, section 4.
    """

    def __init__(self, shape: Sequence[int], *, weight: float, momentum: float = 0.7) -> None:
        self.target_NC = torch.zeros(*shape)
        self.weight, self.momentum = weight, momentum

    def __call__(self, logits_BC: Tensor, batch: Batch, row_B: Tensor) -> Tensor:
        """Return the loss of a batch, after its targets have moved."""
        said_BC = torch.softmax(logits_BC, dim=1).clamp(1e-4, 1.0 - 1e-4)
        now_BC = said_BC.detach() / said_BC.detach().sum(dim=1, keepdim=True)
        kept = self.momentum
        self.target_NC[row_B] = kept * self.target_NC[row_B] + (1.0 - kept) * now_BC
        agreement_B = (self.target_NC[row_B] * said_BC).sum(dim=1)
        term_B = (1.0 - agreement_B).log() * batch.weight_B
        return cross_entropy(logits_BC, batch, row_B) + self.weight * term_B.sum() / (
            batch.weight_B.sum()
        )


def _repaired(draw: Draw, modalities: Sequence[str] | None, *, drops: bool) -> Answers:
    """Repair the teacher's labels by confident learning and train a student on them."""
    label_N = draw.hard.argmax(dim=1)
    class_N = confident_classes(held_out(draw, modalities), label_N)
    is_other_N = (class_N >= 0) & (class_N != label_N)
    if drops:
        return student_of(draw, draw.hard, (~is_other_N).float())
    eye = torch.eye(draw.num_classes)
    return student_of(draw, eye[torch.where(is_other_N, class_N, label_N)])
