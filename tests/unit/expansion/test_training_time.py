"""What a dry run says that training will take."""

from dataclasses import replace

from composed import composed
from training_stores import fit_spec

from mke_ray.expansion.training_time import Tried, training_lines


def tried(arm, **more):
    asked = {"num_steps": 100, "global_batch": 50, **more}
    return Tried(replace(fit_spec(), arm=arm, **asked), 0.01)


def job_of(*more):
    return composed("experiment=tiny", "objective=expansion", "model_seeds=[0,1]", *more)[0]


def test_seeds_rounds_and_members_are_counted():
    keys = ("expansion.rounds=3", "expansion.members=4")
    arms = ("witness", "mke", "mm_student")
    (said,) = training_lines(job_of(*keys), [tried(arm) for arm in arms])
    assert "11 networks" in said  # 3 rounds, 2 seeds, 2 seeds and 4 members
    assert "0:09:10" in said  # 11 x 100 steps x 50 samples x 10 ms
    (alone,) = training_lines(job_of("expansion.members=1"), [tried("mm_student")])
    assert "2 networks" in alone


def test_nothing_is_said_where_steps_follow_from_epochs_or_batches_from_the_rows():
    assert (
        training_lines(job_of(), [tried("mke"), tried("mke", num_steps=None, num_epochs=3)]) == []
    )
    assert training_lines(job_of(), [tried("mke", global_batch=0)]) == []
