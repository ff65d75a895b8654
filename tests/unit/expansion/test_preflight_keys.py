"""What a dry run says of the pre-flight."""

import pytest
from composed import composed

from mke_ray.expansion.preflight_keys import preflight_lines

FEATURES = ("experiment=av_mnist_features", "source.root=data", "root=r")


def lines_of(*overrides: str, num_unlabeled: int = 3000, is_whole: bool = True) -> list[str]:
    (job,) = composed(*FEATURES, *overrides)
    return preflight_lines(job, num_unlabeled=num_unlabeled, is_whole=is_whole)


def test_of_few_samples_all_are_looked_at():
    (line,) = lines_of()
    assert "all unlabeled samples" in line
    assert "preflight=warn goes on" in line


@pytest.mark.parametrize(("num_unlabeled", "is_whole"), [(9000, True), (3000, False)])
def test_of_many_or_unknown_many_about_so_many(num_unlabeled, is_whole):
    (line,) = lines_of("preflight=stop", num_unlabeled=num_unlabeled, is_whole=is_whole)
    assert "about 4,000 unlabeled samples" in line
    assert "preflight=stop ends the job on a no-go" in line


@pytest.mark.parametrize("override", ["preflight=off", "objective=mke"])
def test_nothing_where_nobody_looks(override):
    assert lines_of(override) == []
