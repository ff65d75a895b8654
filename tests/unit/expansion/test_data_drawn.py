"""Which data a run has seen does not depend on where they are."""

from mke_ray.config_schema import JobConfig
from mke_ray.expansion.drawn import data_drawn


def test_a_source_that_was_moved_is_the_same_and_one_of_other_shares_is_not():
    source = {"_target_": "x.Source", "root": "/a", "labelled": 0.1, "data_seed": 2}
    before = data_drawn(JobConfig(source=source))  # as reports were stored before places was a key
    moved = {**source, "root": "s3://b", "places": ["/links"], "anonymous": True}
    assert data_drawn(JobConfig(source=moved)) == before
    assert data_drawn(JobConfig(source={**source, "places": []})) == before
    assert data_drawn(JobConfig(source={**source, "labelled": 0.2})) != before
