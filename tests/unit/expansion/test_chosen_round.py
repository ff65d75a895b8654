"""Which round of refining counts."""

import pytest

from mke_ray.expansion.rounds import Round, chosen_round
from mke_ray.labels.posterior import Posterior

POSTERIOR = Posterior(1.0, 1.0, (1.0,), (0.5, 0.5))


@pytest.mark.parametrize(
    ("likelihoods", "expected"),
    [
        ([-0.9], 0),
        ([-0.9, -0.5, -0.6], 1),
        ([-0.9, -0.5, -0.4], 2),
        ([-0.5, -0.5], 0),
        ([None, None, None], 2),
    ],
)
def test_the_likeliest_round_counts_and_where_nothing_was_fitted_the_last(likelihoods, expected):
    assert chosen_round([Round(POSTERIOR, one) for one in likelihoods]) == expected
