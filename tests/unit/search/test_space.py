"""Spaces are read from YAML, drawn from key by key, and bad ones are refused with their key."""

from typing import Any

import pytest
import yaml
from optuna import create_study
from optuna.trial import FixedTrial

from mke_ray.errors import ConfigError
from mke_ray.search.space import Space


def space_of(text: str) -> Space:
    return Space.parse(yaml.safe_load(text))


LOSS = """
fusion: {type: choice, values: [concat, gated]}
objective.loss:
  type: choice
  values: [null, {type: generalized, q: {type: uniform, low: 0.3, high: 0.9}}]
fit:
  optimizer:
    lr: {type: loguniform, low: 0.001, high: 0.1}
student.heads: {type: integer, low: 1, high: 4, when: {fusion: gated}}
"""


def test_a_value_inside_a_choice_is_drawn_only_where_that_choice_is() -> None:
    space = space_of(LOSS)
    params = {"fusion": "concat", "objective.loss": "generalized", "fit.optimizer.lr": 0.01}
    drawn = space.draw(FixedTrial({**params, "objective.loss.generalized.q": 0.5}))
    assert drawn == {
        "fusion": "concat",
        "objective.loss": {"type": "generalized", "q": 0.5},
        "fit.optimizer.lr": 0.01,
    }
    assert space.draw(FixedTrial({**params, "objective.loss": None}))["objective.loss"] is None


def test_a_key_with_a_condition_is_asked_only_where_it_holds() -> None:
    space = space_of(LOSS)
    params = {"fusion": "gated", "objective.loss": None, "fit.optimizer.lr": 0.01}
    assert space.draw(FixedTrial({**params, "student.heads": 3}))["student.heads"] == 3
    assert "student.heads" not in space.draw(FixedTrial({**params, "fusion": "concat"}))


def test_numbers_stay_within_their_bounds_and_on_their_steps() -> None:
    space = space_of(
        "a: {type: quniform, low: 0.0, high: 1.0, step: 0.25}\n"
        "b: {type: loguniform, low: 0.001, high: 0.1}\n"
        "c: {type: integer, low: 2, high: 6, step: 2}\n"
        "d: {type: uniform, low: -1, high: 1}\n"
    )
    study = create_study()
    for _ in range(30):
        drawn = space.draw(study.ask())
        assert drawn["a"] in (0.0, 0.25, 0.5, 0.75, 1.0)
        assert 0.001 <= drawn["b"] <= 0.1
        assert drawn["c"] in (2, 4, 6) and isinstance(drawn["c"], int)
        assert -1 <= drawn["d"] <= 1


SMALL = {"objective.loss": None, "fit.optimizer.lr": 0.01}


@pytest.mark.parametrize(
    ("values", "params"),
    [
        (
            {
                "fusion": "gated",
                "objective.loss": None,
                "fit.optimizer.lr": 0.01,
                "student.heads": 2,
            },
            {
                "fusion": "gated",
                "objective.loss": None,
                "fit.optimizer.lr": 0.01,
                "student.heads": 2,
            },
        ),
        (
            {
                "fusion": "concat",
                "objective.loss": {"type": "generalized", "q": 0.4},
                "fit.optimizer.lr": 0.01,
            },
            {
                "fusion": "concat",
                "objective.loss": "generalized",
                "objective.loss.generalized.q": 0.4,
                "fit.optimizer.lr": 0.01,
            },
        ),
        ({"fusion": "film", "objective.loss": None, "fit.optimizer.lr": 0.01}, None),
        ({"fusion": "concat", "objective.loss": None, "fit.optimizer.lr": 0.5}, None),
        ({"fusion": "concat", "objective.loss": None}, None),
    ],
)
def test_values_lead_back_to_what_draws_them(values: Any, params: Any) -> None:
    space = space_of(LOSS)
    assert space.params_of(values) == params
    if params is not None:
        assert space.draw(FixedTrial(params)) == values


def test_checks_try_every_choice_and_both_ends() -> None:
    tried = list(space_of(LOSS).alternatives())
    assert tried == [
        ("fusion", "concat"),
        ("fusion", "gated"),
        ("objective.loss", None),
        ("objective.loss", {"type": "generalized", "q": 0.3}),
        ("fit.optimizer.lr", 0.001),
        ("fit.optimizer.lr", 0.1),
        ("student.heads", 1),
        ("student.heads", 4),
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{}", "search.space is empty"),
        ("a: 3", r"search.space.a=3: expected \{type"),
        ("a: {type: normal, low: 0, high: 1}", "with a type of"),
        ("a: {type: uniform, low: 0}", r"needs \['high'\]"),
        ("a: {type: uniform, low: 0, high: 1, mean: 3}", r"has no \['mean'\]"),
        ("a: {type: uniform, low: 1, high: 0}", "needs low < high"),
        ("a: {type: loguniform, low: 0, high: 1}", "needs 0 < low < high"),
        ("a: {type: uniform, low: x, high: 1}", r"a.low='x'; give a number"),
        ("a: {type: integer, low: 0.5, high: 2}", "give a whole number"),
        ("a: {type: quniform, low: 0, high: 1, step: 0.3}", "divides high - low"),
        ("a: {type: choice, values: [1]}", "at least two values"),
        ("a: {type: choice, values: [null, {b: 1}]}", "a mapping needs a type"),
        ("a: {type: choice, values: [1, 1]}", "is there twice"),
        (
            "a: {type: uniform, low: 0, high: 1, when: {b: 1}}\nb: {type: choice, values: [1, 2]}",
            "name one of the keys above it",
        ),
        (
            "b: {type: choice, values: [1, 2]}\na: {type: uniform, low: 0, high: 1, when: {b: 3}}",
            r"a\.when: b is never 3; give one of its values \[1, 2\]",
        ),
    ],
)
def test_a_space_that_cannot_be_read_is_refused_with_its_key(text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        space_of(text)
