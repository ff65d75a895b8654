import pytest
import torch
from torch import nn

from mke_ray.objectives.losses import pseudo_label_loss
from mke_ray.schema import Batch
from mke_ray.train.accumulation import StepRules, cut, make_step
from mke_ray.train.engine import TorchEngine

KINDS = ("single", "multi", "dense")


class ToyNetwork(nn.Module):
    """Logits of one pixel or of three by three."""

    def __init__(self, kind):
        super().__init__()
        self.layer = nn.Conv2d(4, 3, 1)
        self.kind = kind

    def forward(self, arrays):
        logits = self.layer(arrays["a"])
        return logits if self.kind == "dense" else logits.mean((2, 3))


def objective_of(kind):
    def objective(student, batch, progress):
        loss = pseudo_label_loss(
            student(batch.arrays),
            batch.target_BC,
            weight_B=batch.weight_B,
            kind=kind,
            label_weight=batch.label_weight,
        )
        return {"loss": loss, "twice": 2 * loss.detach()}

    return objective


def batch_of(kind, *, num=11, weighs=True):
    generator = torch.Generator().manual_seed(3)
    draw = lambda *shape: torch.rand(*shape, generator=generator)  # noqa: E731
    targets = {
        "single": torch.eye(3)[torch.arange(num) % 3],
        "multi": draw(num, 3).round(),
        "dense": torch.randint(0, 3, (num, 3, 3), generator=generator, dtype=torch.uint8),
    }
    label_weights = {"single": None, "multi": draw(num, 3), "dense": draw(num, 3, 3)}
    return Batch(
        torch.arange(num),
        {"a": draw(num, 4, 3, 3)},
        {"a": torch.ones(num, dtype=torch.bool)},
        targets[kind],
        draw(num) if weighs else torch.ones(num),
        label_weight=label_weights[kind] if weighs else None,
    )


def engine_after(kind, micro_batches):
    torch.manual_seed(0)
    engine = TorchEngine(ToyNetwork(kind), optimizer={"type": "sgd", "lr": 1.0})
    outcome = make_step(engine, objective_of(kind), micro_batches, share=0.7, lr=1.0, progress=0.0)
    return engine, outcome


@pytest.mark.parametrize("weighs", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_a_step_of_several_passes_is_that_of_one(kind, weighs):
    batch = batch_of(kind, weighs=weighs)
    whole, told = engine_after(kind, cut(batch, num_passes=1, num_rows=11))
    cuts, also = engine_after(kind, cut(batch, num_passes=4, num_rows=3))
    torch.testing.assert_close(whole.module.layer.weight, cuts.module.layer.weight)
    assert also.grad_norm == pytest.approx(told.grad_norm)
    for name, value in told.losses.items():
        torch.testing.assert_close(also.losses[name], value)


def test_passes_beyond_the_rows_of_a_rank_change_nothing():
    batch = batch_of("single", num=5)
    micro = cut(batch, num_passes=4, num_rows=2)
    assert [one.batch.num_samples for one in micro] == [2, 2, 1, 1]
    assert micro[3].part == 0 and micro[3].batch.weight_B.tolist() == [0.0]
    fewer, _ = engine_after("single", micro[:3])
    all_of_them, _ = engine_after("single", micro)
    torch.testing.assert_close(fewer.module.layer.weight, all_of_them.module.layer.weight)


def test_a_rank_without_weight_has_no_gradient():
    batch = batch_of("single", num=4)
    batch.weight_B.zero_()
    _, outcome = engine_after("single", cut(batch, num_passes=2, num_rows=2))
    assert outcome.grad_norm == 0.0


@pytest.mark.parametrize(
    ("micro_batch", "num_global", "world_size", "passes", "rows"),
    [(None, 64, 2, 1, 32), (8, 64, 2, 4, 8), (8, 65, 2, 5, 8), (40, 64, 2, 1, 32), (8, 3, 4, 1, 1)],
)
def test_all_ranks_make_as_many_passes_as_the_largest_slice_needs(
    micro_batch, num_global, world_size, passes, rows
):
    rules = StepRules(micro_batch)
    assert rules.num_passes(num_global, world_size=world_size) == passes
    assert rules.rows_of_pass(num_global, world_size=world_size) == rows
