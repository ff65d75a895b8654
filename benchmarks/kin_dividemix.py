"""DivideMix on features: two students, each told by the other which labels to believe."""

# N rows, B rows of a batch, C classes.

import warnings

import numpy as np
import torch
from kin_draws import Draw
from kin_training import (
    Answers,
    InputNoise,
    Learner,
    batches,
    best_on_select,
    cross_entropy,
    mean_of,
    rows_of,
)
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture
from torch import Tensor

from mke_ray.objectives.losses import soft_cross_entropy
from mke_ray.objectives.mixing import Mixing
from mke_ray.schema import Batch

WARM_UP = 0.2  # share of the steps before labels are divided
NUM_DIVISIONS = 50  # at most; the paper divides in every epoch, which may be a single step here
CLEAN, SHARPENING, MIXUP, NUM_VIEWS = 0.5, 0.5, 4.0, 2
UNLABELED_WEIGHTS = (25.0, 0.0)  # of equals the last is taken
RAMP = 0.2  # share of the steps over which the weight of the unlabeled rises
PRIOR_WEIGHT = 1.0


def dividemix(draw: Draw) -> Answers:
    """Train two students by DivideMix on the teacher's labels.

    Augmentation is the input noise of the published student. The weight of the unlabeled term is
    one of the paper's that is right most often on the select part; 0 where that is too small.
    True labels that join in are always believed; in the mixture there are the teacher's alone.

    Source:
        Li, Socher, Hoi, DivideMix: Learning with Noisy Labels as Semi-supervised Learning, ICLR
        2020, algorithm 1.
    """
    weights = UNLABELED_WEIGHTS if draw.can_choose else UNLABELED_WEIGHTS[-1:]
    return best_on_select(draw, [_Dividing(draw, weight).trained() for weight in weights])


def clean_probabilities(loss_N: np.ndarray) -> np.ndarray:
    """Return how likely each sample is of the component of smaller losses [N].

    Args:
        loss_N: Loss of each sample; they are scaled to [0, 1] first.
    """
    span = max(float(loss_N.max() - loss_N.min()), 1e-12)
    scaled_N1 = ((loss_N - loss_N.min()) / span)[:, None]
    mixture = GaussianMixture(2, max_iter=10, tol=1e-2, reg_covar=5e-4, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # as few iterations as in the paper
        said_N2 = mixture.fit(scaled_N1).predict_proba(scaled_N1)
    return said_N2[:, np.asarray(mixture.means_)[:, 0].argmin()]


def refined(target_BC: Tensor, said_BC: Tensor, clean_B: Tensor) -> Tensor:
    """Return labels that are believed as far as they are likely clean, sharpened [B, C]."""
    clean_B1 = clean_B[:, None]
    return sharpened(clean_B1 * target_BC + (1.0 - clean_B1) * said_BC)


def sharpened(said_BC: Tensor) -> Tensor:
    """Return probabilities made surer [B, C]."""
    surer_BC = said_BC ** (1.0 / SHARPENING)
    return surer_BC / surer_BC.sum(dim=1, keepdim=True)


def partners(present_BM: Tensor, generator: torch.Generator) -> Tensor:
    """Return for every row one that has the same modalities, by chance [B]."""
    partner_B = torch.arange(len(present_BM))
    for pattern in present_BM.unique(dim=0):
        same = torch.nonzero((present_BM == pattern).all(dim=1))[:, 0]
        partner_B[same] = same[torch.randperm(len(same), generator=generator)]
    return partner_B


class _Dividing:
    """The two networks of a draw and their training.

    Args:
        draw: The draw.
        unlabeled_weight: Weight of the term of samples whose labels are not believed.
    """

    def __init__(self, draw: Draw, unlabeled_weight: float) -> None:
        self.unlabeled_weight = unlabeled_weight
        self.rows = rows_of(draw, draw.hard)
        self.learners = [Learner(draw, self.rows, seed=seed) for seed in (0, 1)]
        self.num_steps = self.learners[0].num_steps
        self.size = draw.spec.global_batch or len(self.rows)
        self._generator = torch.Generator().manual_seed(0)
        self._rng = np.random.default_rng(0)

    def trained(self) -> Answers:
        """Return the networks after all steps."""
        first = round(WARM_UP * self.num_steps)
        for seed, learner in enumerate(self.learners):
            for row_B, epoch in batches(torch.arange(len(self.rows)), self.size, first, seed):
                batch = self.rows.batch(row_B, epoch=epoch, seed=seed)
                learner.step(cross_entropy(learner.noisy(batch), batch, row_B))
        epoch_steps = -(-len(self.rows) // self.size)
        every = max(epoch_steps, (self.num_steps - first) // NUM_DIVISIONS, 1)
        for start in range(first, self.num_steps, every):
            steps = range(start, min(start + every, self.num_steps))
            clean = [self._clean(one) for one in self.learners]
            for number in (0, 1):
                self._learn(number, clean[1 - number], steps)
        return mean_of([one.finished() for one in self.learners])

    @torch.no_grad()
    def _clean(self, learner: Learner) -> Tensor:
        """Return how likely each row's label is clean by the losses of a network [N]."""
        num = self.rows.num_unlabeled
        logits_NC = learner.network(dict(self.rows.arrays), dict(self.rows.present))[:num]
        loss_N = -(self.rows.target_NC[:num] * torch.log_softmax(logits_NC, dim=1)).sum(dim=1)
        clean_N = torch.ones(len(self.rows))
        clean_N[:num] = torch.from_numpy(clean_probabilities(loss_N.double().numpy())).float()
        return clean_N

    def _learn(self, number: int, clean_N: Tensor, steps: range) -> None:
        """Take some steps of a network with the division of the other."""
        clean, rest = (torch.nonzero(one)[:, 0] for one in (clean_N > CLEAN, clean_N <= CLEAN))
        seed, empty = steps.start, [(rest[:0], 0)] * len(steps)
        believed = batches(clean, self.size, len(steps), seed)
        guessed = batches(rest, self.size, len(steps), seed) if len(rest) else empty
        for step, (row_X, _), (row_U, _) in zip(steps, believed, guessed, strict=True):
            batch = self.rows.batch(torch.cat([row_X, row_U]), epoch=step, seed=number)
            is_clean_B = torch.arange(batch.num_samples) < len(row_X)
            ramp = min(1.0, (step / self.num_steps - WARM_UP) / RAMP)
            target_BC = self._targets(number, batch, is_clean_B, clean_N)
            logits_BC, target_BC = self._mixed(number, batch, target_BC)
            weight = self.unlabeled_weight * max(0.0, ramp)
            loss = dividemix_loss(logits_BC, target_BC, batch.weight_B, is_clean_B, weight)
            self.learners[number].step(loss)

    @torch.no_grad()
    def _targets(self, number: int, batch: Batch, is_clean_B: Tensor, clean_N: Tensor) -> Tensor:
        """Return refined labels of rows that are believed, and guesses of both of the others."""
        said = []
        for learner in self.learners:
            of_views = [torch.softmax(learner.noisy(batch), dim=1) for _ in range(NUM_VIEWS)]
            said.append(torch.stack(of_views).mean(dim=0))
        clean_B = clean_N[batch.sample_id_B]
        refined_BC = refined(batch.target_BC, said[number], clean_B)
        guess_BC = sharpened((said[0] + said[1]) / 2)
        return torch.where(is_clean_B[:, None], refined_BC, guess_BC)

    def _mixed(self, number: int, batch: Batch, target_BC: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits of rows mixed with partners, and their labels, mixed as they are."""
        learner = self.learners[number]
        has_BM = torch.stack([batch.present[name] for name in learner.modalities], dim=1)
        partner_B = partners(has_BM, self._generator)
        share = float(self._rng.beta(MIXUP, MIXUP))
        kept = max(share, 1.0 - share)
        mixing = Mixing(partner_B, torch.full((batch.num_samples,), kept))
        noise = InputNoise(batch.present, mixing)
        logits_BC = learner.network(batch.arrays, batch.present, noise)
        return logits_BC, kept * target_BC + (1.0 - kept) * target_BC[partner_B]


def dividemix_loss(
    logits_BC: Tensor,
    target_BC: Tensor,
    weight_B: Tensor,
    is_clean_B: Tensor,
    unlabeled_weight: float,
) -> Tensor:
    """Return cross-entropy of what is believed, squared error of the rest, and the prior's term.

    Args:
        logits_BC: Logits.
        target_BC: Labels, refined or guessed.
        weight_B: Weight of each row.
        is_clean_B: Whether its label is believed.
        unlabeled_weight: Weight of the squared error.

    Source:
        Li, Socher, Hoi, DivideMix, ICLR 2020, equations 9 to 12.
    """
    said_BC = torch.softmax(logits_BC, dim=1)
    believed = soft_cross_entropy(logits_BC, target_BC, weight_B * is_clean_B)
    error_B = (said_BC - target_BC).square().mean(dim=1)
    rest_B = weight_B * ~is_clean_B
    guessed = (rest_B * error_B).sum() / rest_B.sum().clamp(min=1e-12)
    mean_C = said_BC.mean(dim=0).clamp(min=1e-12)
    prior = -(mean_C * len(mean_C)).log().mean()
    return believed + unlabeled_weight * guessed + PRIOR_WEIGHT * prior
