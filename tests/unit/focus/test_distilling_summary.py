"""What a page says of distillation follows from the records: by hand, on two and on one draw."""

import pytest

from mke_ray.focus.distilling import ARMS, NO_KD
from mke_ray.focus.distilling_figures import distilling_pictures
from mke_ray.focus.distilling_summary import said_of, summary_of, tables_of


def record(seed: int, **students: float) -> dict:
    values = {name: students.get(name, 0.5) + 0.01 * seed for name in ARMS}
    return {
        "data_seed": seed,
        "num_train": 10,
        "num_test": 20,
        "students": {name: {"test": one} for name, one in values.items()},
        "teachers": {
            name: {"test": 0.9 if name == "multimodal" else 0.7} for name in ARMS if name != NO_KD
        },
        "saliency": [0.0, 1.0, 0.5, 0.5],
    }


def test_differences_are_paired_over_draws() -> None:
    found = summary_of([record(seed, unimodal=0.6, general=0.55) for seed in range(3)])
    unimodal = found["arms"]["unimodal"]
    assert unimodal["mean"] == pytest.approx(0.61)
    assert unimodal["over_no_kd"]["mean"] == pytest.approx(0.1)
    assert unimodal["over_no_kd"]["ci95"] == pytest.approx([0.1, 0.1])
    assert unimodal["over_all_channels"] is None
    assert found["general_over_specific"]["mean"] == pytest.approx(0.05)
    assert found["saliency_of_general_half"] == pytest.approx(0.75)


def test_the_best_arm_and_the_most_accurate_teacher_are_named_apart() -> None:
    some = [record(seed, unimodal=0.6, multimodal=0.55, specific=0.4) for seed in range(3)]
    first, _, third = said_of(summary_of(some), student="audio")
    assert "A student of audio is best with a unimodal teacher: unimodal teacher 61.0" in first
    assert "most accurate teacher is the multimodal teacher (90.0%)" in first
    assert third.startswith("The ranking tells channels apart")
    worse = [record(seed, specific=0.6) for seed in range(3)]
    assert "upside down" in said_of(summary_of(worse), student="audio")[2]
    unsettled = [record(0, specific=0.6), record(1, specific=0.4)]
    assert "not settled" in said_of(summary_of(unsettled), student="audio")[2]


def test_one_draw_has_tables_and_figures_without_intervals() -> None:
    found = summary_of([record(0)])
    assert "tells little" in said_of(found, student="audio")[2]
    labels, channels = tables_of(found)
    assert labels.rows[0][0] == "no distillation"
    assert labels.rows[1][-1] == "-"
    assert channels.strong == [1] and channels.rows[1][0] == "most general channels"
    assert [one.name for one in distilling_pictures(found, [record(0)], kept=0.5)] == [
        "arms",
        "saliency",
    ]
