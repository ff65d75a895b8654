"""Which channels of a teacher say what the student's modality says too: Algorithm 1."""

# B samples, D channels, C classes, P permuted copies, X any.

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor, nn

from mke_ray.errors import ConfigError
from mke_ray.focus.channels import layer_of, recorded, replaced
from mke_ray.schema import Batch
from mke_ray.seeds import mix_integers

MIN_ROWS = 16  # a permutation of fewer samples changes too little

_Samples = TypeVar("_Samples")


@dataclass(frozen=True, slots=True)
class Permuting:
    """How channels are permuted.

    Args:
        num: Permutations of every channel and batch.
        seed: Seed of the permutations.
        max_cells: Numbers in the permuted copies of a layer that are computed together.
    """

    num: int = 20
    seed: int = 0
    max_cells: int = 1 << 20

    def orders(self, num_rows: int, batch: int, device: torch.device) -> Tensor:
        """Return the permutations of the rows of a batch [M, B], by the number of the batch.

        They are drawn on the CPU, so that they are the same on every device.
        """
        generator = torch.Generator().manual_seed(mix_integers(self.seed, batch))
        drawn = [torch.randperm(num_rows, generator=generator) for _ in range(self.num)]
        return torch.stack(drawn).to(device)


DEFAULT_PERMUTING = Permuting()


@dataclass(frozen=True, slots=True, eq=False)
class Saliency:
    """How far the teacher moves away from the student when a channel is permuted.

    Args:
        distance_D: Mean squared difference of the logits over samples and permutations [D].
        unpermuted: The same without permutation.
        num_samples: Samples that it was measured on.
    """

    distance_D: Tensor
    unpermuted: float
    num_samples: int

    def shares(self) -> Tensor:
        """Return the distances between their least (0) and largest (1) [D]; 0 if all are equal."""
        low, high = self.distance_D.min(), self.distance_D.max()
        return (self.distance_D - low) / (high - low).clamp(min=torch.finfo(low.dtype).tiny)

    def order(self) -> Tensor:
        """Return the channels, the most general first [D]; of equal ones the lower number first."""
        return torch.argsort(self.distance_D, descending=True, stable=True)

    def general(self, num_kept: int) -> Tensor:
        """Return which channels are the ``num_kept`` most modality-general [D], bool."""
        return self._chosen(self.order()[:num_kept])

    def specific(self, num_kept: int) -> Tensor:
        """Return which channels are the ``num_kept`` least modality-general [D], bool."""
        return self._chosen(self.order()[len(self.distance_D) - num_kept :])

    def _chosen(self, numbers: Tensor) -> Tensor:
        chosen_D = torch.zeros(len(self.distance_D), dtype=torch.bool)
        chosen_D[numbers] = True
        return chosen_D


def answer(network: nn.Module, batch: Batch) -> Tensor:
    """Return what a network of ours says of a batch."""
    return network(batch.arrays, batch.present)


@torch.no_grad()
def channel_saliency(
    teacher: nn.Module,
    student: nn.Module,
    batches: Iterable[_Samples],
    *,
    layer: str,
    axis: int = 1,
    permuting: Permuting = DEFAULT_PERMUTING,
    ask: Callable[[nn.Module, _Samples], Tensor] = answer,
) -> Saliency:
    """Rank the channels of a layer of the teacher by modality-general decisive content.

    Each channel is permuted across the samples of a batch, and the logits of the teacher that
    follow are compared with those of the student, of whatever kind of labels. Permuted copies of
    the layer pass through the rest of the teacher together, as many as memory allows; what comes
    before the layer is computed once for all of them. Nothing of a batch is kept but sums.

    Args:
        teacher: Trained together with the student, so that their logits are near each other.
        student: The student.
        batches: Samples; permutations are within a batch.
        layer: Dotted name of the teacher's layer.
        axis: Axis of the channels in what that layer says.
        permuting: How often channels are permuted, and how many copies are computed together.
        ask: Returns the logits [B, ...] of a network for a batch.

    Raises:
        ConfigError: The layer is not there or not of one tensor, or a batch is too small.

    Source:
        Xue, Gao, Ren, Zhao, The Modality Focusing Hypothesis, ICLR 2023, algorithm 1.
    """
    teacher, student = teacher.eval(), student.eval()
    found, total_D, unpermuted, num_samples = layer_of(teacher, layer), None, 0.0, 0
    for number, batch in enumerate(batches):
        student_BC = ask(student, batch)
        with recorded(found) as said:
            teacher_BC = ask(teacher, batch)
        x_BX = said[-1].movedim(axis, 1)
        _check_rows(len(x_BX))
        orders_MB = permuting.orders(len(x_BX), number, x_BX.device)

        def rest(copy_BX: Tensor, batch: _Samples = batch) -> Tensor:
            with replaced(found, copy_BX.movedim(1, axis)):
                return ask(teacher, batch)

        sum_D = _summed(rest, x_BX, student_BC, orders_MB, max_cells=permuting.max_cells)
        total_D = sum_D if total_D is None else total_D + sum_D
        unpermuted += float(_squares(teacher_BC[None], student_BC)[0])
        num_samples += len(x_BX)
    if total_D is None:
        raise ConfigError("focus: there are no samples to rank channels on; give some splits rows")
    return Saliency(
        (total_D / (num_samples * permuting.num)).cpu(), unpermuted / num_samples, num_samples
    )


def _summed(
    rest: Callable[[Tensor], Tensor],
    x_BX: Tensor,
    student_BC: Tensor,
    orders_MB: Tensor,
    *,
    max_cells: int,
) -> Tensor:
    """Return the distance of every channel, summed over samples and permutations [D]."""
    num_channels = x_BX.shape[1]
    sum_D = torch.zeros(num_channels, dtype=torch.float64, device=x_BX.device)
    pairs_P2 = torch.cartesian_prod(torch.arange(len(orders_MB)), torch.arange(num_channels)).to(
        x_BX.device
    )
    for chunk_P2 in pairs_P2.split(max(1, max_cells // x_BX.numel())):
        copies_PBX = _permuted(x_BX, orders_MB[chunk_P2[:, 0]], chunk_P2[:, 1])
        logits_PBC = torch.vmap(rest)(copies_PBX)
        sum_D.index_add_(0, chunk_P2[:, 1], _squares(logits_PBC, student_BC))
    return sum_D


def _permuted(x_BX: Tensor, order_PB: Tensor, channel_P: Tensor) -> Tensor:
    """Return copies of a layer's output, each with one channel permuted across the samples."""
    num_copies, num_rows = order_PB.shape
    copies_PBX = x_BX.expand(num_copies, *x_BX.shape).clone()
    copy_P1 = torch.arange(num_copies, device=x_BX.device)[:, None]
    row_1B = torch.arange(num_rows, device=x_BX.device)[None]
    copies_PBX[copy_P1, row_1B, channel_P[:, None]] = x_BX[order_PB, channel_P[:, None]]
    return copies_PBX


def _squares(logits_PBC: Tensor, student_BC: Tensor) -> Tensor:
    """Return the squared difference averaged over classes (and pixels), summed over samples [P]."""
    square_PBX = (logits_PBC - student_BC).square().flatten(2)
    return square_PBX.mean(dim=2, dtype=torch.float64).sum(dim=1)


def _check_rows(num_rows: int) -> None:
    """Refuse a batch in which a permutation means little.

    Raises:
        ConfigError: It has too few samples.
    """
    if num_rows < MIN_ROWS:
        raise ConfigError(
            f"focus.batch_rows: a batch has {num_rows} samples, and channels are permuted within "
            f"it; give at least {MIN_ROWS}"
        )
