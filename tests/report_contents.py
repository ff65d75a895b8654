"""A finished run as the report sees it, with numbers that are known by heart."""

import io
from dataclasses import replace
from typing import Any

import numpy as np
from PIL import Image

from mke_ray.evaluation import ArmResult, Evaluation, Flow, PartScores
from mke_ray.evaluation.calibration import Calibration
from mke_ray.evaluation.contribution import Contribution, NoisyResult, SeenResult
from mke_ray.evaluation.diagnosis import ConfidenceFlow, Diagnosis, Move
from mke_ray.evaluation.results import ConfidenceBin
from mke_ray.gate import GateDecision
from mke_ray.report import (
    DoublePair,
    FitHistory,
    Picture,
    RefinementRound,
    ReportContent,
    SampleCard,
    Throughput,
    UnreadableFile,
)
from mke_ray.report.clips import sample_clip
from mke_ray.schema import AudioSpec, StatusCounts, VideoSpec

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


def noisy_contribution() -> Contribution:
    """The same, with noise on each modality: 2 points are lost at each step."""
    plain = contribution()
    noisy = tuple(
        NoisyResult(
            name,
            level,
            SeenResult(plain.modalities, 0.933 - 0.02 * step, (0.9, 0.95), -0.02 * step, (-0.1, 0)),
        )
        for name in plain.modalities
        for step, level in enumerate((0.5, 1.0, 2.0), start=1)
    )
    return replace(plain, noisy=noisy)


def diagnosis() -> Diagnosis:
    """Three classes: of 100 answers 28 corrected, 4 corrupted, 6 wrong in another way."""
    moves = (
        Move(0, 0, 30, 28, 28),
        Move(1, 1, 20, 20, 20),
        Move(2, 2, 12, 12, 12),
        Move(0, 1, 18, 2, 14),
        Move(1, 2, 12, 2, 8),
        Move(2, 0, 8, 0, 6),
    )
    flows = (Flow(40, 12, 10, 1), Flow(35, 10, 9, 2), Flow(25, 14, 9, 1))
    bins = (
        ConfidenceFlow(0.5, 0.6, Flow(40, 26, 20, 2)),
        ConfidenceFlow(0.9, 1.0, Flow(60, 10, 8, 2)),
    )
    return Diagnosis(flows, bins, moves)


def calibration(temperature: float = 1.5) -> Calibration:
    before = (ConfidenceBin(0.5, 0.6, 40, 0.55, 0.4), ConfidenceBin(0.9, 1.0, 60, 0.96, 0.85))
    after = (ConfidenceBin(0.4, 0.5, 40, 0.45, 0.42), ConfidenceBin(0.8, 0.9, 60, 0.86, 0.85))
    return Calibration(temperature, 0.126, 0.018, before, after)


def played(kind: str, key: str, *, is_sound: bool = False) -> SampleCard:
    """A card with a player: eight frames that get lighter, two seconds of a tone."""
    sound = 0.3 * np.sin(np.arange(16_000) / 3).astype(np.float32)
    frames = np.linspace(0, 255, 8)[:, None, None, None] * np.ones((48, 64, 3))
    arrays = {"audio": sound} | ({} if is_sound else {"video": frames.astype(np.uint8)})
    clip, has_pictures = sample_clip(
        arrays, {"video": VideoSpec(8, 48, 64), "audio": AudioSpec(8000, 2.0)}
    )
    made = card(kind, key)
    poster = made.jpeg if has_pictures else b""
    return replace(made, clip=clip, has_pictures=has_pictures, poster=poster)


def full_content(**changes: Any) -> ReportContent:
    """A run that has something for every section of the page."""
    image = io.BytesIO()
    Image.new("RGB", (900, 300), "#345678").save(image, format="PNG")
    scenes = Picture(
        "scenes", title="What does each network see?", alt="Rows", png=image.getvalue()
    )
    rounds = [
        RefinementRound(1.4, 1.0, {"audio": 0.5}, -0.43, is_used=False),
        RefinementRound(1.4, 1.0, {"audio": 1.0}, -0.36),
    ]
    return content(
        evaluation=evaluation(diagnosis=diagnosis()),
        classes=["cat", "dog", "a class whose name is longer than most of them"],
        contribution=noisy_contribution(),
        calibration=calibration(),
        student_calibration=calibration(1.0),
        refinement=rounds,
        throughput=Throughput(
            2000, 33.3, 70.0, 2, {"decode": 0.7, "teacher": 0.3}, 2000, 6000.0, 10**8, 10**7
        ),
        cost_per_hour=3.6,
        cards=[
            played("corrected", "unlabeled/clip-1.mp4"),
            played("wrong", "unlabeled/clip-2.mp4", is_sound=True),
            card("corrupted"),
        ],
        pictures=[scenes],
        doubles={"unlabeled": {"copy_of_test": 2}},
        num_excluded_doubles=2,
        double_pairs=[DoublePair("unlabeled/a.mp4", "copy_of_test", "test/b.mp4", 0.0)],
        preflight={
            "verdict": "go",
            "said": "Go: it is to be expected that the student gains.",
            "reasons": ["Both know different things."],
            "interval": [0.1, 0.3],
            "evidence": {"teacher": {"value": 0.65, "ci95": [0.6, 0.7]}},
        },
        config={"name": "demo", "seed": 3, "root": "outputs/demo", "fit": {"num_steps": 200}},
        drawn={"source": "0123456789abcdef", "data_seed": 0},
        **changes,
    )
