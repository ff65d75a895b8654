"""Values that are missing: means of the unlabeled rows in their place, counted."""

import numpy as np
import pytest

from mke_ray.data.table_gaps import fill_with_means, ways_by_modality
from mke_ray.errors import ConfigError

NAN = np.nan


def test_the_mean_is_that_of_the_rows_it_is_taken_over_and_what_is_filled_is_counted() -> None:
    features = np.float32([[1, 10], [3, NAN], [np.inf, 99], [NAN, NAN]])
    is_source = np.array([True, True, False, False])
    filled = fill_with_means(features, is_source, modality="voice", names=["f0", "hnr"])
    np.testing.assert_array_equal(features, np.float32([[1, 10], [3, 10], [2, 99], [NAN, NAN]]))
    assert filled is not None
    assert (filled.by_column, filled.num_rows) == ({"f0": 1, "hnr": 1}, 2)
    assert "filled 2 of 8 values of voice (25.0%) in 2 rows" in str(filled)


def test_whole_features_stay_as_they_are() -> None:
    features = np.float32([[1], [NAN]])
    whole = np.array([True, True])
    assert fill_with_means(features, whole, modality="a", names=["x"]) is None
    assert np.isnan(features[1, 0])


def test_a_column_without_a_value_to_take_the_mean_of_is_refused() -> None:
    features = np.float32([[1, NAN], [2, 5]])
    with pytest.raises(ConfigError, match=r"column y of a has no value.*source\.missing=absent"):
        fill_with_means(features, np.array([True, False]), modality="a", names=["x", "y"])


def test_one_word_holds_for_all_modalities_and_words_are_checked() -> None:
    assert ways_by_modality("mean", ["a", "b"]) == {"a": "mean", "b": "mean"}
    assert ways_by_modality({"b": "mean"}, ["a", "b"]) == {"a": "absent", "b": "mean"}
    with pytest.raises(ConfigError, match="names 'c'"):
        ways_by_modality({"c": "mean"}, ["a"])
    with pytest.raises(ConfigError, match=r"source\.missing='median' for a; choose one of"):
        ways_by_modality("median", ["a"])
