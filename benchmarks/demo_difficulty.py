"""How hard the demo is: a teacher, each modality alone and both, trained with true labels only.

    python benchmarks/demo_difficulty.py --seeds 0 1 2 --dependences 0 0.5

The demo's difficulty is frozen; this prints the table that it was set by. No net sees a
pseudo-label here.
"""

# B samples, C classes, N samples of a split.

import argparse
import math
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from torch import Tensor

from mke_ray.data.codec import decode_modality, encode_modality
from mke_ray.data.demo import DemoSource
from mke_ray.data.manifest import manifest_row
from mke_ray.data.views import AudioView, VideoView
from mke_ray.errors import MediaError
from mke_ray.models.student import Network, build_student
from mke_ray.randomness import keys_for
from mke_ray.schema import DecodeSpec, decode_spec_from_dict

CONF = Path(__file__).parents[1] / "conf"
NUM_CLASSES = 10
EVALUATED_AT_ONCE = 100


@dataclass(frozen=True, slots=True)
class Split:
    """The stored arrays and true labels of one split."""

    arrays: dict[str, Tensor]
    labels_N: Tensor

    @property
    def num_samples(self) -> int:
        """Number of samples N."""
        return len(self.labels_N)

    def rows(self, index_B: Tensor, modalities: Sequence[str]) -> dict[str, Tensor]:
        """Return some rows of some modalities."""
        return {name: self.arrays[name][index_B] for name in modalities}


@dataclass(frozen=True, slots=True)
class Recipe:
    """How one net is trained."""

    modalities: tuple[str, ...]
    num_steps: int
    batch_size: int
    weight_decay: float
    head_hidden: tuple[int, ...] = ()
    dropout: float = 0.0


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--dependences", type=float, nargs="+", default=[0.0])
    parser.add_argument("--root", help="where the videos are made; a temporary folder by default")
    options = parser.parse_args()
    torch.set_num_threads(1)
    print("dependence  seed  teacher  video  audio  both   (test accuracy in %)")
    for dependence in options.dependences:
        for seed in options.seeds:
            with tempfile.TemporaryDirectory() as temporary:
                root = f"{options.root or temporary}/{seed}-{dependence}"
                splits = read_demo(root, seed, dependence)
            print(f"{dependence:10.1f}  {seed:4d}  ", end="", flush=True)
            for split, recipe in arms():
                print(f"  {accuracy(split, recipe, splits, seed):5.1f}", end="", flush=True)
            print(flush=True)


def arms() -> list[tuple[str, Recipe]]:
    """Return the split and recipe of the teacher, each modality alone, and both."""
    teacher = load("teacher/demo.yaml")
    fit = load("experiment/demo.yaml")["fit"]
    batch_size, decay = fit["global_batch"], fit["optimizer"]["weight_decay"]
    steps = fit["num_steps"]
    labelled = Recipe(
        ("video",),
        num_steps=teacher["fit"]["num_steps"],
        batch_size=teacher["fit"]["global_batch"],
        weight_decay=teacher["fit"]["optimizer"]["weight_decay"],
        dropout=teacher["dropout"],
    )
    head = tuple(load("student/demo.yaml")["head_hidden"])
    return [
        ("labelled", labelled),
        ("unlabeled", Recipe(("video",), steps, batch_size, decay)),
        ("unlabeled", Recipe(("audio",), steps, batch_size, decay)),
        ("unlabeled", Recipe(("audio", "video"), steps, batch_size, decay, head)),
    ]


def accuracy(split: str, recipe: Recipe, splits: dict[str, Split], seed: int) -> float:
    """Train one net and return its accuracy on the test split in percent."""
    student = train(splits[split], recipe, seed)
    test = splits["test"]
    with torch.inference_mode():
        guesses = [
            student(test.rows(index_B, recipe.modalities), everything(index_B, recipe)).argmax(1)
            for index_B in torch.arange(test.num_samples).split(EVALUATED_AT_ONCE)
        ]
    return 100.0 * float((torch.cat(guesses) == test.labels_N).float().mean())


def train(split: Split, recipe: Recipe, seed: int) -> Network:
    """Return a net trained with cross-entropy on the training views."""
    torch.manual_seed(seed)
    encoders = load("student/demo.yaml")["encoders"]
    encoders["audio"]["sample_rate_hz"] = load("decode/demo.yaml")["audio"]["sample_rate_hz"]
    spec = {
        "encoders": {name: encoders[name] for name in recipe.modalities},
        "fusion": {"type": "concat"},
        "head_hidden": list(recipe.head_hidden),
        "dropout": recipe.dropout,
    }
    student = build_student(spec, NUM_CLASSES)
    first_B = torch.arange(min(256, split.num_samples))
    student.observe(split.rows(first_B, recipe.modalities), everything(first_B, recipe))
    student.freeze_normalisation()
    fit = load("experiment/demo.yaml")["fit"]
    top_lr = fit["optimizer"]["lr"]
    optimizer = torch.optim.AdamW(student.parameters(), top_lr, weight_decay=recipe.weight_decay)
    warm_up = fit["schedule"]["warmup_fraction"] * recipe.num_steps
    for step, (epoch, index_B) in enumerate(batches(split.num_samples, recipe)):
        cosine = 0.5 * (1.0 + math.cos(math.pi * step / recipe.num_steps))
        optimizer.param_groups[0]["lr"] = top_lr * min((step + 1) / warm_up, cosine)
        arrays = training_view(split.rows(index_B, recipe.modalities), index_B, seed, epoch)
        logits_BC = student(arrays, everything(index_B, recipe))
        loss = torch.nn.functional.cross_entropy(logits_BC, split.labels_N[index_B])
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(student.parameters(), fit["clip_norm"])
        optimizer.step()
    return student.eval()


def batches(num_samples: int, recipe: Recipe) -> list[tuple[int, Tensor]]:
    """Return epoch and rows of every step."""
    steps: list[tuple[int, Tensor]] = []
    epoch = 0
    while len(steps) < recipe.num_steps:
        steps += [(epoch, rows) for rows in torch.randperm(num_samples).split(recipe.batch_size)]
        epoch += 1
    return steps[: recipe.num_steps]


def training_view(
    arrays: dict[str, Tensor], index_B: Tensor, seed: int, epoch: int
) -> dict[str, Tensor]:
    """Return the random frames and crops that training sees."""
    settings = load("experiment/demo.yaml")["views"]
    views = {"video": VideoView, "audio": AudioView}
    seen = {}
    for stream, (name, x_BX) in enumerate(sorted(arrays.items())):
        keys = {key: value for key, value in settings[name].items() if key != "_target_"}
        key_B = keys_for(index_B, seed=seed, epoch=epoch, stream=stream)
        seen[name] = views[name](**keys)(x_BX, key_B)
    return seen


def everything(index_B: Tensor, recipe: Recipe) -> dict[str, Tensor]:
    """Return that every sample has every modality."""
    return {name: torch.ones(len(index_B), dtype=torch.bool) for name in recipe.modalities}


def read_demo(root: str, seed: int, dependence: float) -> dict[str, Split]:
    """Make the demo and return what would be stored of its splits."""
    source = DemoSource(root, data_seed=seed, dependence=dependence)
    source.prepare()
    spec = decode_spec_from_dict(load("decode/demo.yaml"))
    reader = source.reader(spec)
    found: dict[str, list[tuple[dict[str, np.ndarray], int]]] = {}
    for row in source.rows():
        try:
            decoded = reader.read(manifest_row(row))
        except MediaError:
            continue
        if not decoded.missing and row.labels:
            arrays = {name: stored(array, spec, name) for name, array in decoded.arrays.items()}
            found.setdefault(row.split, []).append((arrays, row.labels[0]))
    return {name: as_split(samples) for name, samples in found.items()}


def stored(array: np.ndarray, spec: DecodeSpec, modality: str) -> np.ndarray:
    """Return an array as it comes back from the store."""
    return decode_modality(encode_modality(array, spec[modality]), spec[modality])


def as_split(samples: list[tuple[dict[str, np.ndarray], int]]) -> Split:
    """Return samples as tensors."""
    names = samples[0][0]
    arrays = {
        name: torch.from_numpy(np.stack([arrays[name] for arrays, _ in samples])) for name in names
    }
    return Split(arrays, torch.tensor([label for _, label in samples]))


def load(name: str) -> dict[str, Any]:
    """Return one file of the configuration."""
    return yaml.safe_load((CONF / name).read_text())


if __name__ == "__main__":
    main()
