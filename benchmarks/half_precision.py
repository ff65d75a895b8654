"""How far half precision moves what segmenters say, beside noise on the maps of their backbone.

python benchmarks/half_precision.py

The networks are the tiny ones of the tests, with random weights. Beside bfloat16 it computes in
float32 with noise of a share of each value on what the backbone says, and with parts of the network
left in float32.
"""

# B pictures, C classes, H height, W width.

import argparse
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from mke_ray.models.computing import Computing
from mke_ray.models.segmenters import SegmenterTeacher

sys.path.append(str(Path(__file__).parents[1] / "tests"))

HALF = Computing("bfloat16")
THREE = {"id2label": {0: "wall", 1: "floor", 2: "cat"}}
NOISE = 0.01


def main() -> None:
    """Print the shares of pixels that keep their class."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=6)
    seeds = parser.parse_args().seeds
    from tiny_pretrained import (  # noqa: PLC0415 # pyright: ignore[reportMissingImports]
        save_mask2former,
        save_segformer,
    )

    shown = ["bfloat16", "backbone in float32", "rest in float32", "float32, 1% noise on maps"]
    print(f"{'pixels that keep their class':<32}{'seed':>5}" + "".join(f"{s:>27}" for s in shown))
    for save in (save_segformer, save_mask2former):
        for seed in range(seeds):
            found = shares(save, seed)
            line = "".join(f"{one:>27.1%}" for one in found)
            print(f"{save.__name__.removeprefix('save_'):<32}{seed:>5}{line}")


def shares(save: Callable[..., Any], seed: int) -> list[float]:
    """Return the shares of pixels whose class is that of float32, in each way of computing."""
    coarse = np.random.default_rng(0).integers(0, 256, (6, 10, 13, 3), np.uint8)
    pictures = np.repeat(np.repeat(coarse, 4, axis=1), 4, axis=2)
    with tempfile.TemporaryDirectory() as folder:
        save(folder, seed=seed, **THREE)
        teacher = SegmenterTeacher(folder)
    backbone, rest = parts_of(teacher.network)
    whole = answers(teacher, pictures, Computing())

    def kept(computing: Computing) -> float:
        return float((answers(teacher, pictures, computing) == whole).mean())

    found = [kept(HALF)]
    for some in ([backbone], rest):
        with in_float32(some):
            found.append(kept(HALF))
    torch.manual_seed(0)
    with noisy(backbone):
        return [*found, kept(Computing())]


def parts_of(network: Any) -> tuple[nn.Module, list[nn.Module]]:
    """Return the backbone of a network, and its other parts."""
    if hasattr(network, "segformer"):
        return network.segformer, [network.decode_head]
    level = network.model.pixel_level_module
    return level.encoder, [level.decoder, network.model.transformer_module]


def answers(teacher: SegmenterTeacher, pictures: np.ndarray, computing: Computing) -> np.ndarray:
    """Return the class of every pixel [B, H, W]."""
    with computing.running():
        return teacher.predict(pictures).argmax(axis=1)


@contextmanager
def in_float32(parts: list[nn.Module]) -> Iterator[None]:
    """Compute parts in float32 for a block, whatever is around them."""
    before = [one.forward for one in parts]
    for one, forward in zip(parts, before, strict=True):
        one.forward = _in_float32(forward)
    yield
    for one, forward in zip(parts, before, strict=True):
        one.forward = forward


def _in_float32(forward: Callable[..., Any]) -> Callable[..., Any]:
    def computed(*given: Any, **named: Any) -> Any:
        with torch.autocast("cpu", enabled=False):
            return forward(*map(_wide, given), **{key: _wide(one) for key, one in named.items()})

    return computed


def _wide(value: Any) -> Any:
    """Return tensors of halves as float32, also within lists."""
    if isinstance(value, torch.Tensor) and value.is_floating_point():
        return value.float()
    return type(value)(map(_wide, value)) if isinstance(value, list | tuple) else value


@contextmanager
def noisy(backbone: nn.Module) -> Iterator[None]:
    """Put noise on what a backbone says for a block."""

    def add(_module: nn.Module, _given: Any, said: Any) -> Any:
        for name in ("feature_maps", "hidden_states", "last_hidden_state"):
            maps = getattr(said, name, None)
            if maps is not None:
                said[name] = _shaken(maps)
        return said

    hook = backbone.register_forward_hook(add)
    yield
    hook.remove()


def _shaken(maps: Any) -> Any:
    if isinstance(maps, torch.Tensor):
        return maps * (1 + NOISE * torch.randn_like(maps))
    return tuple(map(_shaken, maps))


if __name__ == "__main__":
    main()
