"""A tiny NYU Depth V2 in folders of pictures, a dense teacher, and the plan of a pass over them."""

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from mke_ray.config import build
from mke_ray.data.manifest import write_manifest
from mke_ray.labels.plan import LabelPlan, samples_store, with_teachers
from mke_ray.storage import Root

HEIGHT, WIDTH, NUM_CLASSES = 12, 16, 13
NUM_TRAIN, NUM_TEST = 14, 4
DECODE = {
    "rgb": {"kind": "image", "height": HEIGHT, "width": WIDTH, "lossless": True},
    "depth": {"kind": "depth", "height": HEIGHT, "width": WIDTH, "channels": "hha"},
    "mask": {"kind": "mask", "height": HEIGHT, "width": WIDTH},
}


class DenseTeacher:
    """Logits [B, C, H, W] that grow with the red of a pixel for odd classes, and fall for even."""

    modality = "rgb"

    def __init__(self, num_classes: int = NUM_CLASSES, bad: str | None = None) -> None:
        self.needs = {"kind": "image"}
        self._num_classes = num_classes
        self._bad = bad

    def predict(self, arrays_BHW3: np.ndarray) -> np.ndarray:
        red_BHW = np.asarray(arrays_BHW3)[..., 0].astype(np.float32) / 32.0
        class_C = np.arange(self._num_classes, dtype=np.float32)
        logits = -((red_BHW[:, None] - class_C[:, None, None]) ** 2)
        if self._bad == "nan":
            logits[0, 0, 0, 0] = np.nan
        return logits[:, :, 1:] if self._bad == "size" else logits

    def fingerprint(self) -> str:
        return f"dense-{self._num_classes}-{self._bad}"


def teacher_spec(**more: Any) -> dict[str, Any]:
    return {"_target_": "dense_world.DenseTeacher", **more}


def write_folders(folder: Path, *, height: int = 24, width: int = 32) -> None:
    """Write the pictures and lists of a set: a floor, and a wall at some metres."""
    generator = np.random.default_rng(0)
    keys = [f"{number:04d}" for number in range(NUM_TRAIN + NUM_TEST)]
    for name in ("rgb", "depth", "label"):
        (folder / name).mkdir(parents=True)
    for key in keys:
        wall_rows = int(generator.integers(height // 3, 2 * height // 3))
        depth = np.full((height, width), int(generator.integers(50, 120)), np.uint8)
        label = np.zeros((height, width), np.uint8)
        label[wall_rows:] = 1
        label[:, : width // 4] = 255
        rgb = generator.integers(0, 256, (height, width, 3), dtype=np.uint8)
        Image.fromarray(rgb).save(folder / f"rgb/{key}.jpg", quality=95)
        Image.fromarray(depth).save(folder / f"depth/{key}.png")
        Image.fromarray(label).save(folder / f"label/{key}.png")
    (folder / "train.txt").write_text("\n".join(keys[:NUM_TRAIN]))
    (folder / "test.txt").write_text("\n".join(keys[NUM_TRAIN:]) + "\n")


def source_spec(folder: Path, **more: Any) -> dict[str, Any]:
    target = "mke_ray.data.nyu_depth.NyuDepthSource"
    return {"_target_": target, "root": str(folder), "labelled": 4, "probe": 3, **more}


def make_plan(
    root: Root, folder: Path, *, teachers: Any = None, top_k: int = 3, **more: Any
) -> LabelPlan:
    """Write the manifest of the set and return the plan of a pass over it."""
    source = source_spec(folder, **more)
    manifest = write_manifest(root.child("manifest"), build(source), unit_size=4)
    plan = LabelPlan(root, manifest, source, samples_store(root, DECODE))
    return with_teachers(plan, teachers or [teacher_spec()], top_k=top_k)
