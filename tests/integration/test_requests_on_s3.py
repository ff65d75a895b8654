"""What a pass and what follows it ask of a real S3 server, against what a dry run says of it."""

import sys

import pytest
from composed import REPOSITORY

from mke_ray.expansion.requests import compaction_requests, epoch_requests, pass_requests
from mke_ray.storage import open_root

sys.path.append(str(REPOSITORY / "benchmarks"))

from scale_requests import per_unit

FEW, MANY = 4, 12
NUM_STORES = 2


@pytest.mark.s3
def test_a_unit_takes_as_many_requests_as_the_estimate_says(s3_server):
    found = per_unit(open_root(s3_server.uri("requests")), FEW, MANY)
    said = {
        "pass": pass_requests(1000, num_stores=NUM_STORES),
        "compaction": compaction_requests(1000, 0, num_stores=NUM_STORES),
        "read": epoch_requests(1000, num_stores=NUM_STORES),
    }
    for step, requests in said.items():
        assert found[step]["put"] == pytest.approx(requests.puts / 1000, abs=0.2), step
        assert found[step]["get"] == pytest.approx(requests.gets / 1000, abs=0.2), step
        assert found[step]["list"] <= 0.2, step  # pages of a thousand names
    assert found["again"]["get"] == found["again"]["put"] == 0
