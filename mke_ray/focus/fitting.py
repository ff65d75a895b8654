"""Small networks trained on samples in memory, alone or several by one loss."""

# B samples, N samples of a table.

import math
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from mke_ray.config_schema import FitConfig
from mke_ray.errors import TrainingError
from mke_ray.focus.samples import taken
from mke_ray.objectives import Objective
from mke_ray.objectives.losses import pseudo_label_loss
from mke_ray.schema import Batch
from mke_ray.seeds import mix_integers
from mke_ray.train.loop import seed_step
from mke_ray.train.optimizers import build_optimizer, learning_rate, set_lr

Loss = Callable[[Batch, float], Tensor]

REFIT_SHARE = 0.5  # steps of the layers behind chosen channels, as a share of those of a network
_NUM_NAMED = 5  # samples that an error names


def fit_networks(
    networks: Sequence[nn.Module], loss: Loss, table: Batch, keys: FitConfig, *, seed: int
) -> None:
    """Train networks by one loss, on the device of the samples.

    Args:
        networks: What is trained, in place; they are on the device of the samples.
        loss: Loss of a batch at a share of the training, from 0 to 1.
        table: All samples.
        keys: Steps or epochs, samples of a step, optimizer and schedule.
        seed: Seed of the order of the samples and of dropout.

    Raises:
        TrainingError: A loss or a gradient is not finite.
    """
    parameters = [one for network in networks for one in network.parameters()]
    optimizer = build_optimizer(parameters, keys.optimizer)
    num_steps, peak = num_steps_of(keys, table.num_samples), float(keys.optimizer["lr"])
    max_norm = math.inf if keys.clip_norm is None else keys.clip_norm
    for network in networks:
        network.train()
    device = table.weight_B.device
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        for step, rows in enumerate(_orders(table.num_samples, num_steps, keys.global_batch, seed)):
            set_lr(
                optimizer,
                learning_rate(step, num_steps=num_steps, peak=peak, schedule=keys.schedule),
            )
            seed_step(mix_integers(seed, step), device)
            optimizer.zero_grad()
            batch = taken(table, rows.to(device))
            found = loss(batch, step / num_steps)
            found.backward()
            norm = nn.utils.clip_grad_norm_(parameters, max_norm)
            _check_finite(found, norm, batch, step=step)
            optimizer.step()
    for network in networks:
        network.eval()


def _check_finite(loss: Tensor, norm: Tensor, batch: Batch, *, step: int) -> None:
    """Refuse a step after which no answer of the networks would mean anything.

    Raises:
        TrainingError: It names the step and samples of it.
    """
    if bool(torch.isfinite(loss) & torch.isfinite(norm)):
        return
    some = batch.sample_id_B[:_NUM_NAMED].tolist()
    raise TrainingError(
        f"step {step}: the loss is {float(loss.detach()):g} and the norm of its gradient "
        f"{float(norm):g} (samples {some} of {batch.num_samples}); lower fit.optimizer.lr, or look "
        "for values that are not finite in the data"
    )


def by_objective(objective: Objective, network: nn.Module) -> Loss:
    """Return the loss of one network by an objective."""
    return lambda batch, progress: objective(network, batch, progress)["loss"]


def jointly(teacher: nn.Module, student: nn.Module, *, kind: str) -> Loss:
    """Return the loss of Algorithm 1: labels for both, and logits near each other.

    Args:
        teacher: The teacher.
        student: The student.
        kind: Kind of labels.
    """

    def loss(batch: Batch, _progress: float) -> Tensor:
        logits = [one(batch.arrays, batch.present) for one in (teacher, student)]
        labels = [
            pseudo_label_loss(one, batch.target_BC, weight_B=batch.weight_B, kind=kind)
            for one in logits
        ]
        return labels[0] + labels[1] + functional.mse_loss(*logits)

    return loss


def num_steps_of(keys: FitConfig, num_samples: int) -> int:
    """Return the steps of a fit."""
    if keys.num_steps is not None:
        return keys.num_steps
    batch = min(keys.global_batch or num_samples, num_samples)
    return max(1, (keys.num_epochs or 1) * num_samples // batch)


def _orders(num: int, num_steps: int, num_rows: int, seed: int) -> Iterator[Tensor]:
    """Yield the rows of every step: all samples in a new order, again and again."""
    generator = torch.Generator().manual_seed(seed)
    num_rows = min(num_rows or num, num)
    order_N = torch.empty(0, dtype=torch.int64)
    for _ in range(num_steps):
        if len(order_N) < num_rows:
            order_N = torch.randperm(num, generator=generator)
        yield order_N[:num_rows]
        order_N = order_N[num_rows:]
