"""Labels of a table: by name, by index, by a flag per class, one or many."""

import pytest

from mke_ray.data.table_labels import labels_of_table
from mke_ray.errors import ConfigError
from mke_ray.schema import LabelKind, LabelSpace

PETS = LabelSpace(("cat", "dog", "eel"))
MANY = LabelSpace(("cat", "dog", "eel"), LabelKind.MULTI)


def labels(values, space=PETS, name="label"):
    return labels_of_table({name: values}, space, table="t.csv")


def test_one_label_is_a_name_or_an_index_or_unknown() -> None:
    assert labels(["eel", " cat ", "1", 1, 2.0, None, "", float("nan")]) == [
        (2,), (0,), (1,), (1,), (2,), None, None, None,
    ]  # fmt: skip


def test_a_number_that_is_the_name_of_a_class_is_that_class() -> None:
    years = LabelSpace(("1", "2", "3"))
    assert labels([1, "3", 2.0], years) == [(0,), (2,), (1,)]
    with pytest.raises(ConfigError, match="label 0 of t"):
        labels([0], years)


def test_many_labels_are_joined_or_flagged() -> None:
    assert labels(["cat|eel", "dog", "eel | cat", ""], MANY) == [(0, 2), (1,), (0, 2), None]
    assert labels([[0, 1, 1], [0.0, 0.0, 0.0]], MANY) == [(1, 2), ()]
    assert labels([["eel", "dog"]], MANY) == [(1, 2)]
    flags = {"is_cat": [1, 0, None], "is_dog": ["1", "0", ""], "is_eel": [True, False, None]}
    assert labels_of_table(flags, MANY, table="t.csv") == [(0, 1, 2), (), None]


def test_one_hot_columns_are_one_label() -> None:
    flags = {"c": [1, 0], "d": [0, 0], "e": [0, 1]}
    assert labels_of_table(flags, PETS, table="t.csv") == [(0,), (2,)]


@pytest.mark.parametrize(
    ("columns", "space", "said"),
    [
        ({"label": ["cow"]}, PETS, "t.csv, row 0, label: label 'cow'.*source.classes"),
        ({"label": [3]}, PETS, "label 3 of t.csv is no class index"),
        ({"label": [-1]}, PETS, "label -1"),
        ({"label": ["cat|cow"]}, MANY, "label 'cow'"),
        ({"c": [1], "d": [1], "e": [0]}, PETS, "2 classes hold; set source.label_kind=multi"),
        ({"c": [1], "d": [None], "e": [0]}, MANY, "0 or 1 for each of the 3 classes"),
        ({"c": [1], "d": [7], "e": [0]}, MANY, "row 0, columns"),
        ({"c": [1], "d": [0]}, MANY, "0 or 1 for each of the 3 classes"),
    ],
)
def test_a_value_that_names_no_class_is_refused_with_its_row(columns, space, said) -> None:
    with pytest.raises(ConfigError, match=said):
        labels_of_table(columns, space, table="t.csv")
