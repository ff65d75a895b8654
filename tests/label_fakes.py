"""A source and teachers whose every answer is known by heart; Ray workers can import them too."""

import errno
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from mke_ray.data.sources import Decoded, SourceRow
from mke_ray.errors import MediaError
from mke_ray.schema import DecodeSpec, LabelSpace, ManifestRow

DECODE = {
    "x": {"kind": "features", "num_features": 2},
    "y": {"kind": "features", "num_features": 1},
}


class FakeSource:
    """Rows ``00000 .. n-1``; what becomes of a row depends on ``broken[number]``.

    Args:
        num_samples: Rows.
        split: Split of all rows, or of each third row in turn where several are given.
        broken: Number -> ``bad``, ``io``, ``gone`` or ``no_y``.
        log: File to which every read appends a line.
        delay_s: Time that each read takes.
    """

    def __init__(
        self,
        num_samples: int,
        splits: list[str] | None = None,
        broken: dict[Any, str] | None = None,
        log: str | None = None,
        delay_s: float = 0.0,
    ) -> None:
        self.label_space = LabelSpace(("zero", "one", "two"))
        self.num_samples = num_samples
        self.splits = splits or ["unlabeled"]
        self.broken = {int(number): how for number, how in (broken or {}).items()}
        self.log = log
        self.delay_s = delay_s

    def identity(self) -> dict[str, Any]:
        return {"source": "fake", "num_samples": self.num_samples}

    def prepare(self, progress: Any = None) -> None:
        pass

    def rows(self) -> Iterator[SourceRow]:
        for number in range(self.num_samples):
            split = self.splits[number % len(self.splits)]
            yield SourceRow(f"{number:05d}", -1, "", None, None, f"g{number % 7}", split, None)

    def reader(self, spec: DecodeSpec) -> "FakeReader":
        return FakeReader(self)


class FakeReader:
    def __init__(self, source: FakeSource) -> None:
        self._source = source

    def read(self, row: ManifestRow) -> Decoded:
        number = int(row.key)
        time.sleep(self._source.delay_s)
        if self._source.log:
            with Path(self._source.log).open("a") as file:
                file.write(f"{number} {os.getpid()}\n")
        how = self._source.broken.get(number)
        if how == "bad":
            raise MediaError("truncated", f"sample {number}")
        if how == "io":
            raise TimeoutError(f"sample {number}")
        if how == "gone":
            raise FileNotFoundError(row.key)
        arrays = {
            "x": np.array([number, number / 2], np.float32),
            "y": np.array([-number], np.float32),
        }
        if how == "bad_x":
            return Decoded({}, {"x": "no_picture", "y": "no_sound"}, 10, 1.0)
        if how == "no_y":
            return Decoded({"x": arrays["x"]}, {"y": "no_sound"}, 10, 1.0)
        return Decoded(arrays, {}, 10, 1.0)


class FakeTeacher:
    """Logits ``scale * (first number of the sample, 1, 2)``."""

    def __init__(
        self,
        modality: str = "x",
        scale: float = 1.0,
        num_classes: int = 3,
        log: str | None = None,
        kind: str = "features",
    ) -> None:
        self.modality = modality
        self.needs = {"kind": kind}
        self._scale = scale
        self._num_classes = num_classes
        self._log = log

    def predict(self, arrays_BX: np.ndarray) -> np.ndarray:
        if self._log:
            with Path(self._log).open("a") as file:
                file.write(f"{len(arrays_BX)}\n")
        first_B = np.asarray(arrays_BX).reshape(len(arrays_BX), -1)[:, 0].astype(np.float32)
        columns = [first_B] + [np.full_like(first_B, c) for c in range(1, self._num_classes)]
        return self._scale * np.stack(columns, axis=1)

    def fingerprint(self) -> str:
        return f"fake-{self.modality}-{self._scale}"


class NetworkTeacher(FakeTeacher):
    """A teacher with a network of weights that are always the same, which can be slow.

    Args:
        modality: What it reads.
        delay_s: Time that each batch takes.
        log: File to which every batch appends the process and the number of rows.
    """

    def __init__(self, modality: str = "x", delay_s: float = 0.0, log: str | None = None) -> None:
        import torch
        from torch import nn

        super().__init__(modality)
        generator = torch.Generator().manual_seed(7)
        self.network = nn.Sequential(
            nn.Flatten(), nn.LazyLinear(64), nn.ReLU(), nn.Linear(64, 64), nn.Linear(64, 3)
        )
        self.network(torch.zeros(1, 2 if modality == "x" else 1))
        for one in self.network.parameters():
            one.data = torch.randn(one.shape, generator=generator) / one.shape[-1] ** 0.5
        self._delay_s = delay_s
        self._network_log = log

    def predict(self, arrays_BX: np.ndarray) -> np.ndarray:
        import torch

        time.sleep(self._delay_s)
        if self._network_log:
            with Path(self._network_log).open("a") as file:
                file.write(f"{len(arrays_BX)} {os.getpid()}\n")
        return self.network(torch.as_tensor(np.asarray(arrays_BX))).float().numpy()

    def fingerprint(self) -> str:
        return f"network-{self.modality}"


class DeadlyTeacher(FakeTeacher):
    """A teacher that ends its process at the unit whose first sample is 4."""

    def predict(self, arrays_BX: np.ndarray) -> np.ndarray:
        logits = super().predict(arrays_BX)
        if np.asarray(arrays_BX).reshape(len(arrays_BX), -1)[0, 0] == 4:
            os.abort()
        return logits


class UnstoredTeacher(FakeTeacher):
    """A teacher at whose first unit the disk is full."""

    def predict(self, arrays_BX: np.ndarray) -> np.ndarray:
        raise OSError(errno.ENOSPC, "no space left on device")


class ForgetfulTeacher(FakeTeacher):
    """A teacher whose weights differ from process to process."""

    def fingerprint(self) -> str:
        ForgetfulTeacher.calls = getattr(ForgetfulTeacher, "calls", 0) + 1
        return f"call-{os.getpid()}-{ForgetfulTeacher.calls}"


def source_spec(num_samples: int, **more: Any) -> dict[str, Any]:
    return {"_target_": "label_fakes.FakeSource", "num_samples": num_samples, **more}


def teacher_spec(**more: Any) -> dict[str, Any]:
    return {"_target_": "label_fakes.FakeTeacher", **more}


def make_world(
    root: Any,
    num_samples: int,
    *,
    teachers: Any = None,
    unit_size: int = 4,
    computing: Any = None,
    **more: Any,
):
    """Write the manifest of a fake source and return the plan of a pass over it."""
    from mke_ray.config import build
    from mke_ray.data.manifest import write_manifest
    from mke_ray.labels.plan import make_plan

    spec = source_spec(num_samples, **more)
    manifest = write_manifest(root.child("manifest"), build(spec), unit_size=unit_size)
    return make_plan(
        root,
        manifest=manifest,
        source=spec,
        decode=DECODE,
        teachers=[teacher_spec()] if teachers is None else teachers,
        max_bad_fraction=0.5,
        **({} if computing is None else {"computing": computing}),
    )
