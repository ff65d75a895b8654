"""A finished run as the report sees it, with numbers that are known by heart."""

import io
from dataclasses import replace
from typing import Any

import numpy as np
from PIL import Image

from mke_ray.evaluation import ArmResult, Evaluation, Flow, PartScores
from mke_ray.evaluation.contribution import Contribution, SeenResult
from mke_ray.gate import GateDecision
from mke_ray.report import FitHistory, ReportContent, SampleCard, UnreadableFile
from mke_ray.schema import StatusCounts

NO_SCORES = PartScores(np.zeros(0), np.zeros(0), {})
PROMOTED = GateDecision(
    promoted=True,
    verdict="promoted",
    reason="The student is better than its teacher on the 200 gate samples.",
    openings=1,
    gain=0.2,
    lower_bound=0.15,
    num_samples=200,
    num_groups=180,
)


def arm(name: str, value: float, flow: Flow | None = None, seeds: int = 1) -> ArmResult:
    return ArmResult(
        name,
        value=value,
        ci95=(value - 0.03, value + 0.03),
        num_test=600,
        num_groups=590,
        seeds={seed: value + 0.01 * (seed - (seeds - 1) / 2) for seed in range(seeds)},
        gain=value - 0.65,
        gain_ci95=(value - 0.68, value - 0.62),
        select=value - 0.01,
        flow=flow,
    )


def evaluation(**changes: Any) -> Evaluation:
    arms = [
        arm("teacher", 0.65),
        arm("noisy_student", 0.66, Flow(1000, 400, 60.0, 30.0)),
        arm("mke", 0.87, Flow(1000, 400, 240.0, 12.0), seeds=3),
    ]
    plain = Evaluation(
        metric="accuracy",
        arms={one.arm: one for one in arms},
        columns={"mke": ("f",)},
        teacher_flow=Flow(1000, 400),
        test=NO_SCORES,
        select=NO_SCORES,
        gate=NO_SCORES,
        num_excluded=2,
    )
    return replace(plain, **changes)


def history(name: str, seed: int = 0) -> FitHistory:
    records: list[dict[str, Any]] = []
    for step in range(10, 210, 10):
        records.append({"step": step, "loss": 2.0 / step**0.5})
        records.append({"step": step, "select_accuracy": 0.8 - 1.0 / step})
    return FitHistory(name, seed, records)


def card(kind: str, key: str = "unlabeled/clip.mp4") -> SampleCard:
    buffer = io.BytesIO()
    Image.new("RGB", (480, 180), "#345678").save(buffer, format="JPEG")
    return SampleCard(kind, key, "seven", "one (61%)", "seven (93%)", buffer.getvalue())


def content(**changes: Any) -> ReportContent:
    plain = ReportContent(
        experiment="demo",
        seed=3,
        evaluation=evaluation(),
        decision=PROMOTED,
        shipped="mke",
        counts=StatusCounts(1980, 12, 7, 1, {"truncated": 4, "empty": 4}, {"no_audio": 12}),
        num_pseudo_labels=1000,
        seconds={"label": 61.0, "train": 200.0, "total": 300.0},
        splits={"unlabeled": 1400, "test": 602},
        unreadable=[UnreadableFile("unlabeled/broken.mp4", "truncated: moov atom not found")],
        histories=[history("noisy_student"), history("mke"), history("mke", 1)],
        cards=[card("corrected"), card("corrected"), card("wrong")],
        config_yaml="name: demo\nseed: 3\n",
        fingerprints={"samples": "0123456789abcdef"},
        versions={"mke_ray": "0.1.0"},
    )
    return replace(plain, **changes)


def contribution(knows_gaps: bool = True) -> Contribution:
    """A student of two modalities that loses 19.1 points without audio and 7.2 without image."""
    both = ("audio", "image")
    image = SeenResult(("image",), 0.742, (0.722, 0.761), -0.191, (-0.208, -0.174))
    audio = SeenResult(("audio",), 0.861, (0.845, 0.876), -0.072, (-0.085, -0.06))
    whole = SeenResult(both, 0.933, (0.921, 0.944))
    return Contribution("mke", both, whole, (image, audio), knows_gaps)
