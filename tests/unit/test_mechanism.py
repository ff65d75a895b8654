"""Expansion, separation and the average over noise, on points that can be worked out by hand."""

import numpy as np
import pytest
from scipy.spatial.distance import cdist
from sklearn.datasets import make_moons

from mke_ray import mechanism
from mke_ray.mechanism import (
    class_expansions,
    crossings,
    denoising,
    error_bound,
    noise_average,
    noise_space,
)

# Class 0 on a line at 0, 1, .., 5, of which the teacher has 0 and 1 wrong; class 1 far away.
LINE_N1 = np.array([[0.0], [1.0], [2.0], [3.0], [4.0], [5.0], [100.0], [101.0]])
TRUTH_N = np.array([0, 0, 0, 0, 0, 0, 1, 1])
SAID_N = np.array([1, 1, 0, 0, 0, 0, 1, 1])


def line_expansion(radii, **options):
    (found,) = class_expansions(LINE_N1, TRUTH_N, SAID_N, radii=radii, **options)
    return found


def test_expansion_counts_right_samples_of_the_class_within_the_radius_per_wrong_one() -> None:
    found = line_expansion([0.0, 0.9, 1.0, 2.0, 3.5, 4.0, 200.0])
    assert found.ratio_R.tolist() == [0.0, 0.0, 0.5, 1.0, 1.5, 2.0, 2.0]
    assert (found.true_class, found.num_samples, found.num_wrong) == (0, 6, 2)
    assert found.wrong_share == pytest.approx(1 / 3)


def test_a_class_without_a_wrong_sample_has_no_expansion() -> None:
    assert [one.true_class for one in class_expansions(LINE_N1, TRUTH_N, SAID_N, radii=[1.0])] == [
        0
    ]


def test_the_factor_is_the_least_of_all_subsets_tried_and_infinite_where_all_is_reached() -> None:
    found = line_expansion([0.5, 1.0, 5.0])
    # {0} reaches {0, 1}: 2; {1} reaches {0, 1, 2}: 3; {0, 1} reaches {0, 1, 2}: 3 / 2
    assert found.factor_R.tolist() == [1.0, 1.5, np.inf]


def test_random_subsets_reach_more_per_sample_than_all_wrong_ones_together() -> None:
    found = line_expansion([1.0, 4.0], num_subsets=400)
    # {0} reaches no right sample and {1} one at radius 1: 0.5 on average; at 4 they reach 3 and 4
    assert found.subset_ratio_R == pytest.approx([0.5, 3.5], abs=0.1)


def test_subsets_follow_their_seed() -> None:
    first, again, other = (line_expansion([1.0], num_subsets=3, seed=s) for s in (0, 0, 5))
    assert first.subset_ratio_R == again.subset_ratio_R
    assert first.subset_ratio_R != other.subset_ratio_R


def test_neighbours_are_those_of_all_distances_written_out() -> None:
    points_N2, truth_N = make_moons(200, noise=0.2, random_state=0)
    said_N = (points_N2[:, 0] > 0.5).astype(int)
    radii = [0.05, 0.2, 0.7]
    apart_NN = cdist(points_N2, points_N2)
    for found in class_expansions(points_N2, truth_N, said_N, radii=radii):
        own_N = truth_N == found.true_class
        wrong_N, right_N = own_N & (said_N != truth_N), own_N & (said_N == truth_N)
        nearest_N = apart_NN[np.ix_(right_N, wrong_N)].min(axis=1)
        expected = [(nearest_N <= radius).sum() / wrong_N.sum() for radius in radii]
        assert found.ratio_R == pytest.approx(expected)
    other_NN = np.where(truth_N[:, None] != truth_N, apart_NN, np.inf)
    expected = [(other_NN.min(axis=1) <= radius).mean() for radius in radii]
    assert crossings(points_N2, truth_N, radii=radii) == pytest.approx(expected)


def test_a_sample_crosses_where_another_class_is_within_the_radius() -> None:
    points_N1, truth_N = np.array([[0.0], [1.0], [3.0]]), np.array([0, 0, 1])
    assert crossings(points_N1, truth_N, radii=[0.5, 2.0, 3.0]) == pytest.approx([0, 2 / 3, 1])
    assert crossings(points_N1, np.zeros(3), radii=[9.0]).tolist() == [0.0]


def test_the_space_of_noise_has_the_mean_magnitude_of_each_modality_as_its_unit() -> None:
    arrays = {"a": np.array([[1.0], [-3.0]]), "b": np.array([[10.0], [30.0]])}
    assert noise_space(arrays, ["a"]).tolist() == [[0.5], [-1.5]]
    both_N2 = noise_space(arrays, ["a", "b"])
    assert both_N2 == pytest.approx(np.array([[0.5, 0.5], [-1.5, 1.5]]) / np.sqrt(2))
    # so a point that is one unit off in every coordinate is at distance 1
    shifted = {"a": np.array([[1.0], [-1.0]]), "b": np.array([[2.0], [0.0]])}
    one, other = noise_space(shifted, ["a", "b"]) * [1.0, 0.5]
    assert np.linalg.norm(one - other) == pytest.approx(np.sqrt((2.0**2 + 1.0**2) / 2))


def test_the_theorem_bounds_the_error_where_expansion_is_large_enough() -> None:
    # one wrong of ten, in the middle; all ten within 5
    points_N1 = np.arange(10.0)[:, None]
    truth_N, said_N = np.zeros(10, int), (np.arange(10) == 4).astype(int)
    found = class_expansions(points_N1, truth_N, said_N, radii=[1.0, 2.0, 5.0])
    assert found[0].factor_R.tolist() == [3.0, 5.0, np.inf]
    bound_R = error_bound(found, np.array([0.0, 0.01, 0.02]), num_samples=10)
    assert np.isnan(bound_R[0])  # 3 is not above 3
    assert bound_R[1] == pytest.approx(2 / 4 * 0.1 + 2 * 5 / 4 * 0.01)
    assert bound_R[2] == pytest.approx(2 / 9 * 0.1 + 2 * 10 / 9 * 0.02)  # c is at most 1 / a


def test_the_theorem_promises_nothing_where_a_third_of_a_class_is_wrong() -> None:
    found = [line_expansion([200.0])]
    assert np.isnan(error_bound(found, np.array([0.0]), num_samples=8)).all()


def test_the_bound_of_a_teacher_without_errors_is_what_crosses() -> None:
    assert error_bound([], np.array([0.0, 0.1]), num_samples=8).tolist() == [0.0, 0.2]


def test_noise_averages_labels_by_its_density() -> None:
    points_N2 = noise_space({"a": np.array([[1.0], [-1.0], [2.0], [0.0]])}, ["a"])
    target_NC = np.eye(2)[[0, 1, 1, 0]]
    apart_NN = np.array([[1.0, -1.0, 2.0, 0.0]]).T - np.array([1.0, -1.0, 2.0, 0.0])
    weight_NN = np.exp(-((apart_NN / 1.0) ** 2) / (2 * 0.5**2))  # the unit is the mean of |x|, 1
    expected_NC = weight_NN @ target_NC / weight_NN.sum(axis=1, keepdims=True)
    assert noise_average(points_N2, target_NC, alpha=0.5) == pytest.approx(expected_NC)


def test_the_noise_of_several_coordinates_is_alpha_in_each_of_them() -> None:
    arrays = {"a": np.array([[1.0, -1.0], [-1.0, 1.0]]), "b": np.array([[1.0], [-1.0]])}
    averaged_NC = noise_average(noise_space(arrays, ["a", "b"]), np.eye(2), alpha=2.0)
    other = np.exp(-(3 * 2.0**2) / (2 * 2.0**2))  # three coordinates, each 2 off
    assert averaged_NC[0] == pytest.approx([1 / (1 + other), other / (1 + other)])


def test_without_noise_labels_stay_and_with_endless_noise_all_are_the_mean() -> None:
    points_N1, target_NC = np.arange(4.0)[:, None], np.eye(2)[[0, 1, 1, 1]]
    assert np.array_equal(noise_average(points_N1, target_NC, alpha=0), target_NC)
    averaged_NC = noise_average(points_N1, target_NC, alpha=1e6)
    assert averaged_NC == pytest.approx(np.tile([0.25, 0.75], (4, 1)))


def test_the_average_does_not_depend_on_how_many_samples_are_taken_at_once(monkeypatch) -> None:
    points_N2, label_N = make_moons(50, noise=0.2, random_state=0)
    whole_NC = noise_average(points_N2, np.eye(2)[label_N], alpha=0.3)
    monkeypatch.setattr(mechanism, "_CHUNK_CELLS", 120)
    assert noise_average(points_N2, np.eye(2)[label_N], alpha=0.3) == pytest.approx(whole_NC)


def test_far_samples_underflow_to_the_nearest_label_and_not_to_nan() -> None:
    averaged_NC = noise_average(np.array([[0.0], [1e6]]), np.eye(2), alpha=0.01)
    assert averaged_NC.tolist() == [[1.0, 0.0], [0.0, 1.0]]


def test_denoising_counts_wrong_labels_made_right_and_right_ones_made_wrong() -> None:
    truth_N, teacher_N = np.array([0, 0, 0, 1, 1]), np.array([0, 0, 1, 0, 1])
    found = denoising(truth_N, teacher_N, np.array([0, 1, 0, 0, 1]))
    assert (found.error, found.corrected, found.corrupted) == pytest.approx((0.4, 0.5, 1 / 3))
    assert denoising(truth_N, truth_N, truth_N).corrected is None
