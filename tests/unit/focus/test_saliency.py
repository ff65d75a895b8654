"""Algorithm 1: planted channels are found, and batching changes nothing but the time."""

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from mke_ray.errors import ConfigError
from mke_ray.focus.channels import (
    keep_channels,
    layer_of,
    num_kept_of,
    random_channels,
    recorded,
    replaced,
)
from mke_ray.focus.saliency import Permuting, Saliency, answer, channel_saliency
from mke_ray.models.student import build_student
from mke_ray.schema import Batch
from mke_ray.seeds import mix_integers

NUM_CLASSES = 3


def network(*modalities: str, normalise: bool = False) -> nn.Module:
    encoder = {"type": "features", "num_inputs": 4, "hidden": [5], "normalise": normalise}
    fusion = {"type": "concat"}
    spec = {"encoders": dict.fromkeys(modalities, encoder), "fusion": fusion, "head_hidden": [6]}
    return build_student(spec, NUM_CLASSES)


def batch(num: int = 32, seed: int = 0) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    arrays = {name: torch.randn(num, 4, generator=generator) for name in ("a", "b")}
    present = {name: torch.ones(num, dtype=torch.bool) for name in arrays}
    target_BC = torch.zeros(num, NUM_CLASSES)
    return Batch(torch.arange(num), arrays, present, target_BC, torch.ones(num))


@torch.no_grad()
def looped(
    teacher: nn.Module, student: nn.Module, some: list[Batch], *, layer: str, num: int
) -> Tensor:
    """Algorithm 1 as it is written down: one channel and one permutation after the other."""
    found, sums, rows = layer_of(teacher, layer), 0.0, 0
    for number, one in enumerate(some):
        generator = torch.Generator().manual_seed(mix_integers(0, number))
        with recorded(found) as said:
            answer(teacher, one)
        x_BD, student_BC = said[0], answer(student, one)
        sum_D = torch.zeros(x_BD.shape[1], dtype=torch.float64)
        for _ in range(num):
            order_B = torch.randperm(len(x_BD), generator=generator)
            for channel in range(x_BD.shape[1]):
                copy_BD = x_BD.clone()
                copy_BD[:, channel] = x_BD[order_B, channel]
                with replaced(found, copy_BD):
                    apart_BC = answer(teacher, one) - student_BC
                sum_D[channel] += apart_BC.double().square().mean(dim=1).sum()
        sums, rows = sums + sum_D, rows + len(x_BD)
    return torch.as_tensor(sums) / (rows * num)


@pytest.mark.parametrize(
    ("modalities", "layer"),
    [
        (("a",), "fusion"),
        (("a",), "encoders.a.layers.0"),
        (("a",), "encoders.a.normaliser"),
        (("a", "b"), "encoders.a"),
        (("a", "b"), "hidden.0"),
    ],
)
@pytest.mark.parametrize("max_cells", [1, 4000, 1 << 20])
def test_channels_computed_together_are_those_of_the_loop(
    modalities: tuple[str, ...], layer: str, max_cells: int
) -> None:
    torch.manual_seed(0)
    teacher, student = network(*modalities), network("b")
    some = [batch(32, seed=0), batch(20, seed=1)]
    found = channel_saliency(
        teacher, student, some, layer=layer, permuting=Permuting(3, 0, max_cells)
    )
    expected = looped(teacher, student, some, layer=layer, num=3)
    torch.testing.assert_close(found.distance_D, expected, rtol=1e-5, atol=1e-8)
    assert found.num_samples == 52


def test_memory_is_bounded_by_the_chunk_and_not_by_channels_and_permutations() -> None:
    teacher, student = network("a"), network("b")
    seen: list[int] = []
    ordinary = torch.vmap

    def watched(rest: object) -> object:
        inner = ordinary(rest)  # type: ignore[arg-type]

        def call(copies: Tensor) -> Tensor:
            seen.append(copies.numel())
            return inner(copies)

        return call

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "vmap", watched)
        channel_saliency(
            teacher, student, [batch(32)], layer="fusion", permuting=Permuting(max_cells=500)
        )
    assert max(seen) <= 500
    assert sum(seen) == 20 * 5 * 32 * 5  # every permutation of every channel once


def read(net: nn.Module, pair: tuple[Tensor, Tensor]) -> Tensor:
    """Ask a plain network: the teacher has 6 channels, the student 3."""
    return net(pair[0] if net[1].in_features == 6 else pair[1])  # type: ignore[index]


def linear(weights: list[float]) -> nn.Sequential:
    layer = nn.Linear(len(weights), 2, bias=False)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[-one for one in weights], weights]))
    return nn.Sequential(nn.Identity(), layer)


def planted(num: int, seed: int) -> tuple[Tensor, Tensor]:
    """Channels 0 to 2 of the teacher are those of the student, 3 is its own."""
    generator = torch.Generator().manual_seed(seed)
    teacher_B6 = torch.randn(num, 6, generator=generator)
    return teacher_B6, teacher_B6[:, :3]


def test_a_planted_general_channel_is_ranked_above_an_own_and_an_idle_one() -> None:
    teacher, student = linear([3.0, 2.0, 1.0, 0.5, 0.0, 0.0]), linear([3.0, 2.0, 1.0])
    some = [planted(64, seed) for seed in range(4)]
    found = channel_saliency(teacher, student, some, layer="0", ask=read)
    assert found.order()[:3].tolist() == [0, 1, 2]
    assert found.general(3).tolist() == [True] * 3 + [False] * 3
    assert not found.specific(3)[:3].any() and int(found.specific(3).sum()) == 3
    assert float(found.shares()[0]) == 1.0 and float(found.shares().min()) == 0.0
    # permuting moves the logits by w (x - x'), whose mean square is 2 w^2, beside 0.5^2
    assert float(found.distance_D[0]) == pytest.approx(2 * 9.0 + 0.25, rel=0.2)
    # to the student, a channel of the teacher's own is as good permuted as not
    assert float(found.distance_D[3]) == pytest.approx(found.unpermuted, rel=1e-5)
    assert float(found.distance_D[5]) == pytest.approx(found.unpermuted, rel=1e-5)


def test_all_batches_count_and_not_the_last_one() -> None:
    teacher, student = linear([1.0, 0, 0, 0, 0, 0]), linear([1.0, 0, 0])
    moving, still = planted(64, 0), (torch.zeros(64, 6), torch.zeros(64, 3))
    first = channel_saliency(teacher, student, [moving], layer="0", ask=read)
    both = channel_saliency(teacher, student, [moving, still], layer="0", ask=read)
    torch.testing.assert_close(both.distance_D, first.distance_D / 2)


def test_kept_channels_are_ranks_and_not_numbers() -> None:
    found = Saliency(torch.tensor([0.1, 0.9, 0.2, 0.8]), 0.0, 1)
    assert found.order().tolist() == [1, 3, 2, 0]
    assert found.general(2).tolist() == [False, True, False, True]


def test_equal_channels_have_no_saliency_and_keep_their_order() -> None:
    found = Saliency(torch.ones(3), 0.0, 1)
    assert found.shares().tolist() == [0.0] * 3
    assert found.order().tolist() == [0, 1, 2]


def test_dense_labels_and_maps_are_ranked_by_their_channels() -> None:
    teacher = nn.Sequential(nn.Identity(), nn.Conv2d(3, 2, 1, bias=False))
    with torch.no_grad():
        teacher[1].weight.copy_(torch.tensor([[2.0, 0.0, 0.5], [-2.0, 0.0, -0.5]])[..., None, None])
    maps = [torch.randn(16, 3, 4, 5) for _ in range(2)]
    found = channel_saliency(teacher, teacher, maps, layer="0", ask=lambda net, x: net(x))
    assert found.order().tolist() == [0, 2, 1]
    assert float(found.distance_D[1]) == pytest.approx(0.0, abs=1e-9)


def test_tokens_have_their_channels_on_the_last_axis() -> None:
    teacher = nn.Sequential(nn.Identity(), nn.Flatten(), nn.Linear(6, 2))
    with torch.no_grad():
        teacher[2].weight.copy_(torch.tensor([[0.0, 1.0], [0.0, -1.0]]).repeat(1, 3))
    some = [torch.randn(16, 3, 2)]
    found = channel_saliency(teacher, teacher, some, layer="0", axis=2, ask=lambda net, x: net(x))
    assert found.distance_D.shape == (2,)
    assert found.order().tolist() == [1, 0]


def test_a_small_batch_an_unknown_layer_and_no_samples_are_refused() -> None:
    teacher, student = network("a"), network("b")
    with pytest.raises(ConfigError, match="15 samples"):
        channel_saliency(teacher, student, [batch(15)], layer="fusion")
    with pytest.raises(ConfigError, match=r"focus\.layer='nothing'.*'hidden\.0'"):
        channel_saliency(teacher, student, [batch()], layer="nothing")
    with pytest.raises(ConfigError, match="no samples"):
        channel_saliency(teacher, student, nothing(), layer="fusion")


def nothing() -> Iterator[Batch]:
    yield from ()


def test_a_network_of_kept_channels_ignores_the_others_and_trains_what_follows() -> None:
    torch.manual_seed(0)
    net, some = network("a"), batch()
    kept_D = torch.tensor([True, False, True, False, False])
    own = keep_channels(net, "fusion", kept_D)
    with recorded(layer_of(net, "fusion")) as said:
        answer(net, some)
    with replaced(layer_of(net, "fusion"), said[0] * kept_D):
        torch.testing.assert_close(answer(net, some), answer(own, some))
    answer(own, some).sum().backward()
    trained = {name for name, one in own.named_parameters() if one.grad is not None}
    assert trained == {"hidden.0.0.weight", "hidden.0.0.bias", "output.weight", "output.bias"}
    assert all(one.grad is None for one in net.parameters())


def test_random_channels_are_drawn_without_replacement() -> None:
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        assert int(random_channels(8, 6, generator).sum()) == 6


def test_one_channel_at_least_is_kept_and_one_left_out() -> None:
    assert [num_kept_of(8, kept) for kept in (0.01, 0.5, 0.99)] == [1, 4, 7]
    with pytest.raises(ConfigError, match=r"focus\.layer: the layer has 1 channel"):
        num_kept_of(1, 0.5)


def test_permutations_are_the_same_on_every_device() -> None:
    permuting = Permuting(num=3, seed=1)
    here = permuting.orders(16, 2, torch.device("cpu"))
    assert here.shape == (3, 16) and torch.equal(here.sort(dim=1).values[0], torch.arange(16))
    assert torch.equal(here, permuting.orders(16, 2, torch.device("cpu")))
    assert permuting.orders(16, 2, torch.device("meta")).device.type == "meta"
