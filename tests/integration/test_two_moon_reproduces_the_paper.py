"""The first experiment of the paper, in full: ten model seeds, all arms, as Ray tasks."""

from pathlib import Path

import pytest
from composed import composed

from mke_ray.expansion.whole import run_stages

PUBLISHED = {"noisy_student": 72.4, "mm_student_no_reg": 70.6, "mke": 77.7, "mm_supervised": 87.6}


@pytest.mark.timeout(1500)
def test_every_arm_lands_within_a_point_of_the_paper(ray_session, tmp_path: Path) -> None:
    (job,) = composed("experiment=two_moon", f"root={tmp_path}", "tracking=off")
    arms = run_stages(job)["arms"]
    for arm, published in PUBLISHED.items():
        assert abs(100 * arms[arm]["value"] - published) <= 1.0, (arm, arms[arm]["value"])
        assert len(arms[arm]["seeds"]) == len(set(job.model_seeds))
    assert arms["mke"]["value"] > arms["noisy_student"]["value"] > arms["teacher"]["value"]
