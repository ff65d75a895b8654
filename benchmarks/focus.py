"""Algorithm 1's pass against a plain loop over channels and permutations, in the same run.

    python benchmarks/focus.py [--rows 256] [--permutations 20]

The plain loop permutes one channel once and asks the whole teacher again, as the released code of
the paper does; it is timed on as many permutations as take about a second, and scaled. Two teachers
are ranked by the layer before their head: one of pictures of 28 x 28 pixels, with three
convolutions before that layer, and one of 24 features, with one small layer before it. Prints
seconds of CPU, the ratio, and the largest difference between what both find. Goal: 20 times for the
teacher of pictures. The figures are in docs/focusing.md.
"""

# B samples, D channels, M permutations.

import argparse
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from mke_ray.focus.channels import layer_of, recorded, replaced
from mke_ray.focus.saliency import Permuting, answer, channel_saliency
from mke_ray.models.student import build_student
from mke_ray.schema import Batch

GOAL = 20.0
LAYER = "fusion"
NUM_CLASSES = 10
SEED = 0
ENCODERS: dict[str, dict[str, Any]] = {
    "pictures": {"type": "image"},
    "features": {"type": "features", "num_inputs": 24, "hidden": [64]},
}


def network(encoder: dict[str, Any]) -> nn.Module:
    """Return a network of one encoder and a head with one hidden layer."""
    spec = {"encoders": {"a": encoder}, "fusion": {"type": "concat"}, "head_hidden": [64]}
    return build_student(spec, NUM_CLASSES).eval()


def samples(name: str, num_rows: int) -> Batch:
    """Return random samples."""
    arrays = {
        "pictures": torch.randint(0, 256, (num_rows, 28, 28, 3), dtype=torch.uint8),
        "features": torch.randn(num_rows, 24),
    }
    has_B = torch.ones(num_rows, dtype=torch.bool)
    target_BC = torch.zeros(num_rows, NUM_CLASSES)
    ids_B = torch.arange(num_rows)
    return Batch(ids_B, {"a": arrays[name]}, {"a": has_B}, target_BC, torch.ones(num_rows))


@torch.no_grad()
def plain_loop(
    teacher: nn.Module, student: nn.Module, batch: Batch, *, num_permutations: int
) -> Tensor:
    """Return the distance of every channel [D], one channel and permutation at a time."""
    layer = layer_of(teacher, LAYER)
    student_BC = answer(student, batch)
    with recorded(layer) as said:
        answer(teacher, batch)
    x_BD = said[0]
    sum_D = torch.zeros(x_BD.shape[1], dtype=torch.float64)
    for order_B in Permuting(num_permutations, SEED).orders(len(x_BD), 0, x_BD.device):
        for channel in range(x_BD.shape[1]):
            copy_BD = x_BD.clone()
            copy_BD[:, channel] = x_BD[order_B, channel]
            with replaced(layer, copy_BD):
                apart_BC = answer(teacher, batch) - student_BC
            sum_D[channel] += apart_BC.double().square().mean()
    return sum_D / num_permutations


def seconds(work: Callable[[], Any]) -> tuple[float, Any]:
    """Return the CPU time of some work in its faster of two times, and what it returned."""
    times, made = [], None
    for _ in range(2):
        began_s = time.process_time()
        made = work()
        times.append(time.process_time() - began_s)
    return min(times), made


def measure(name: str, *, num_rows: int, num_permutations: int) -> float:
    """Print the times of one teacher, and return the ratio."""
    torch.manual_seed(SEED)
    teacher, student, batch = (*(network(ENCODERS[name]) for _ in "ts"), samples(name, num_rows))

    def together(num: int) -> Tensor:
        found = channel_saliency(
            teacher, student, [batch], layer=LAYER, permuting=Permuting(num, SEED)
        )
        return found.distance_D

    batched_s, _ = seconds(lambda: together(num_permutations))
    num_looped = 1 if name == "pictures" else num_permutations
    looped_s, looped_D = seconds(
        lambda: plain_loop(teacher, student, batch, num_permutations=num_looped)
    )
    looped_s *= num_permutations / num_looped
    off = float((together(num_looped) - looped_D).abs().max())
    ratio = looped_s / batched_s
    print(
        f"{name:9} {num_rows} rows, {len(looped_D)} channels, {num_permutations} permutations: "
        f"together {batched_s:.2f} s, plain loop {looped_s:.2f} s, ratio {ratio:.1f}, "
        f"largest difference {off:.1e}"
    )
    return ratio


def main() -> None:
    """Measure both teachers."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=256)
    parser.add_argument("--permutations", type=int, default=20)
    given = parser.parse_args()
    torch.set_num_threads(1)
    ratios = {
        name: measure(name, num_rows=given.rows, num_permutations=given.permutations)
        for name in ENCODERS
    }
    verdict = "met" if ratios["pictures"] >= GOAL else "missed"
    print(f"goal {GOAL:g} times for the teacher of pictures: {verdict}")


if __name__ == "__main__":
    main()
