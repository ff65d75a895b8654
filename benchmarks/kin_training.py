"""Networks of the student's kind trained as the student is: same rows, steps, noise and average."""

# N rows, B rows of a batch, C classes.

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import torch
from kin_draws import Draw, Samples
from torch import Tensor, nn

from mke_ray.models.student import Network, build_student
from mke_ray.objectives import drop_modalities
from mke_ray.objectives.losses import pseudo_label_loss
from mke_ray.objectives.mixing import Mixing
from mke_ray.schema import Batch
from mke_ray.train.average import WeightAverage
from mke_ray.train.optimizers import OPTIMIZERS, learning_rate, set_lr

Loss: TypeAlias = Callable[[Tensor, Batch, Tensor], Tensor]
Answers: TypeAlias = Callable[[Samples], Tensor]

HALF = (
    0.5  # share of the student's steps that our witnesses have, and networks of one modality here
)
ALPHA = 1.0  # input noise of the published student, and of ours
DROPOUT = 0.3  # share of the samples that lose a modality, of our student
NUM_MEMBERS = 3  # students that are distilled into one, of ours


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """What a network learns from.

    Args:
        arrays: Per modality the features [N, D].
        present: Per modality whether a row has it [N].
        target_NC: Labels as probabilities.
        weight_N: Weight of each row.
        num_unlabeled: Rows of the unlabeled split, which come first.
    """

    arrays: Mapping[str, Tensor]
    present: Mapping[str, Tensor]
    target_NC: Tensor
    weight_N: Tensor
    num_unlabeled: int

    def __len__(self) -> int:
        """Return the number of rows N."""
        return len(self.weight_N)

    def batch(self, row_B: Tensor, *, epoch: int, seed: int) -> Batch:
        """Return some rows as a batch."""
        return Batch(
            row_B,
            {name: one[row_B] for name, one in self.arrays.items()},
            {name: one[row_B] for name, one in self.present.items()},
            self.target_NC[row_B],
            self.weight_N[row_B],
            epoch,
            seed,
        )


def rows_of(draw: Draw, target_NC: Tensor, weight_N: Tensor | None = None) -> Rows:
    """Return the unlabeled samples with their labels, and what true labels there are.

    The labelled split joins in with its share of the weight and in the teacher's modality alone,
    pairs of the select part as ``paired_weight`` says, both as in our recipe.

    Args:
        draw: The draw.
        target_NC: Labels of the unlabeled samples.
        weight_N: Their weights; those of weight 0 are left out of every batch. None weighs all 1.
    """
    weight_N = torch.ones(len(target_NC)) if weight_N is None else weight_N
    num_labelled, share = len(draw.labelled), draw.labelled_share
    parts, eye = [draw.unlabeled], torch.eye(draw.num_classes)
    targets, weights = [target_NC.float()], [weight_N.float()]
    for samples, weight in (
        (draw.labelled, share * float(weight_N.sum()) / max(num_labelled, 1)),
        (draw.select, draw.paired_weight),
    ):
        if weight > 0 and len(samples):
            parts.append(samples)
            targets.append(eye[samples.truth_N])
            weights.append(torch.full((len(samples),), weight))
    return Rows(
        {name: torch.cat([one.arrays[name] for one in parts]) for name in draw.modalities},
        {name: torch.cat([one.present[name] for one in parts]) for name in draw.modalities},
        torch.cat(targets),
        torch.cat(weights),
        len(target_NC),
    )


def cross_entropy(logits_BC: Tensor, batch: Batch, row_B: Tensor) -> Tensor:
    """Return the loss of the published student."""
    del row_B
    return pseudo_label_loss(logits_BC, batch.target_BC, weight_B=batch.weight_B)


def train(
    draw: Draw,
    rows: Rows,
    *,
    modalities: Sequence[str] | None = None,
    seed: int = 0,
    share: float = 1.0,
    dropout: float = 0.0,
    loss: Loss = cross_entropy,
) -> Network:
    """Train a network of some modalities and return it with its averaged weights.

    Args:
        draw: The draw, whose student's settings hold.
        rows: What is learnt.
        modalities: Modalities it reads; None for all.
        seed: Seed of weights, order and noise.
        share: Steps as a share of the student's.
        dropout: Share of the samples that lose a modality in training.
        loss: Loss of logits, batch and the numbers of its rows.
    """
    learner = Learner(draw, rows, modalities=modalities, seed=seed, share=share)
    usable_N = _usable(rows, learner.modalities)
    hides = dict.fromkeys(learner.modalities, dropout)
    for row_B, epoch in batches(usable_N, draw.spec.global_batch, learner.num_steps, seed):
        batch = rows.batch(row_B, epoch=epoch, seed=seed)
        if dropout:
            shown = drop_modalities(batch, modalities=learner.modalities, share=hides)
            batch = replace(batch, present=shown)
        learner.step(loss(learner.noisy(batch), batch, row_B))
    return learner.finished()


class Learner:
    """A network with its optimizer, schedule and running mean of the weights.

    Args:
        draw: The draw, whose student's settings hold.
        rows: What is learnt; its statistics normalise.
        modalities: Modalities it reads; None for all.
        seed: Seed of the weights.
        share: Steps as a share of the student's.
    """

    def __init__(
        self,
        draw: Draw,
        rows: Rows,
        *,
        modalities: Sequence[str] | None = None,
        seed: int = 0,
        share: float = 1.0,
    ) -> None:
        torch.manual_seed(seed)
        self.modalities = tuple(modalities or draw.modalities)
        self.network = build_student(_specification(draw, self.modalities), draw.num_classes)
        self.network.observe(dict(rows.arrays), dict(rows.present))
        self.network.freeze_normalisation()
        assert draw.spec.num_steps is not None
        self.num_steps = max(1, round(share * draw.spec.num_steps))
        settings = {**draw.spec.optimizer, "fused": True}
        kind, _ = OPTIMIZERS[settings.pop("type")]
        self._optimizer = kind(self.network.parameters(), **settings)
        self._peak, self._schedule = float(settings["lr"]), draw.spec.schedule
        decay = draw.spec.ema_decay
        self._average = None if decay is None else WeightAverage(self.network, decay)
        self._done = 0

    def noisy(self, batch: Batch) -> Tensor:
        """Return logits of a batch with the input noise of the published student [B, C]."""
        return self.network(batch.arrays, batch.present, InputNoise(batch.present))

    def step(self, loss: Tensor) -> None:
        """Take one step down a loss."""
        lr = learning_rate(
            self._done, num_steps=self.num_steps, peak=self._peak, schedule=self._schedule
        )
        set_lr(self._optimizer, lr)
        self._optimizer.zero_grad()
        loss.backward()
        self._optimizer.step()
        self._done += 1
        if self._average is not None:
            self._average.update(self.network)

    def finished(self) -> Network:
        """Return the network to be asked, with its averaged weights."""
        if self._average is not None:
            weights = self._average.over(self.network.state_dict())
            self.network.load_state_dict(weights)
        return self.network.eval()


@dataclass(frozen=True, slots=True)
class InputNoise:
    """The input noise of the published student, from the stream of torch, which costs less.

    Args:
        present: Per modality whether a sample has it [B].
        mixing: With whom samples are mixed before; None mixes nothing.
    """

    present: Mapping[str, Tensor]
    mixing: Mixing | None = None

    def input(self, modality: str, x_BX: Tensor) -> Tensor:
        """Return the representation of a modality, mixed and with noise."""
        if self.mixing is not None:
            x_BX = self.mixing.input(modality, x_BX)
        magnitude = x_BX[self.present[modality]].abs().mean().nan_to_num()
        return x_BX + ALPHA * magnitude * torch.randn_like(x_BX)

    def hidden(self, x_BD: Tensor) -> Tensor:
        """Return the hidden layer as it is."""
        return x_BD


def batches(usable_N: Tensor, size: int, num_steps: int, seed: int) -> Iterator[tuple[Tensor, int]]:
    """Yield the numbers of the rows of every step, and its epoch.

    Every epoch is a permutation; its last batch may be short.

    Args:
        usable_N: Numbers of the rows to learn from.
        size: Rows of a batch; 0 takes all.
        num_steps: Number of steps.
        seed: Seed of the order.
    """
    generator = torch.Generator().manual_seed(seed)
    size, epoch, left_N = size or len(usable_N), -1, usable_N[:0]
    for _ in range(num_steps):
        if not len(left_N):
            epoch += 1
            left_N = usable_N[torch.randperm(len(usable_N), generator=generator)]
        yield left_N[:size], epoch
        left_N = left_N[size:]


@torch.no_grad()
def probabilities(network: nn.Module, samples: Samples) -> Tensor:
    """Return what a network says of samples [N, C]."""
    return torch.softmax(network(dict(samples.arrays), dict(samples.present)), dim=1)


def mean_of(networks: Sequence[nn.Module]) -> Answers:
    """Return answers that are the mean of the probabilities of networks."""
    return lambda samples: torch.stack([probabilities(one, samples) for one in networks]).mean(0)


def product_of(networks: Sequence[nn.Module]) -> Answers:
    """Return answers that are the product of the probabilities of networks, normalised."""

    def answers(samples: Samples) -> Tensor:
        said = torch.stack([probabilities(one, samples) for one in networks])
        return torch.softmax(said.clamp(min=1e-12).log().sum(dim=0), dim=1)

    return answers


def best_on_select(draw: Draw, found: Sequence[Answers]) -> Answers:
    """Return the answers that are right most often on the select part, of equals the last."""
    if not draw.can_choose:
        return found[-1]
    right = [draw.select.accuracy(one(draw.select).argmax(dim=1)) for one in found]
    return found[max(range(len(found)), key=lambda number: (right[number], number))]


def student_of(draw: Draw, target_NC: Tensor, weight_N: Tensor | None = None) -> Answers:
    """Train a student as ours is on labels of any origin, and return its answers.

    Members with noise and modality dropout learn the labels; one network learns what they say on
    average.

    Args:
        draw: The draw.
        target_NC: Labels of the unlabeled samples.
        weight_N: Their weights; None weighs all 1.
    """
    rows = rows_of(draw, target_NC, weight_N)
    members = [train(draw, rows, dropout=DROPOUT, seed=seed) for seed in range(NUM_MEMBERS)]
    rows = rows_of(draw, mean_of(members)(draw.unlabeled), weight_N)
    return mean_of([train(draw, rows, dropout=DROPOUT)])


def _usable(rows: Rows, modalities: Sequence[str]) -> Tensor:
    """Return the rows that weigh something and have a modality that is read."""
    has_N = torch.stack([rows.present[name] for name in modalities]).any(dim=0)
    return torch.nonzero(has_N & (rows.weight_N > 0))[:, 0]


def _specification(draw: Draw, modalities: Sequence[str]) -> dict[str, object]:
    """Return the student's specification, of one modality with the head of such a network."""
    student = dict(draw.spec.student)
    student["encoders"] = {name: student["encoders"][name] for name in modalities}
    if len(modalities) == 1:
        student |= {"fusion": {"type": "concat"}, "head_hidden": list(draw.unimodal_head_hidden)}
    return student
