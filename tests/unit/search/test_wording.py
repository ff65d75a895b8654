"""What is said of a search."""

from dataclasses import replace

import pytest

from mke_ray.search.content import SearchContent
from mke_ray.search.finals import Finalist, Lead
from mke_ray.search.ledger import FINISHED, STOPPED, TrialRecord
from mke_ray.search.wording import said_of

LOOK = {"look": 1, "step": 4, "quality": 0.7, "metric": 0.7, "seconds": 1.0, "samples": 40}


def finalist(number: int, quality: float, lead: Lead | None = None) -> Finalist:
    by_seed = {0: quality, 1: quality}
    return Finalist(number, {0: "f", 1: "g"}, by_seed, by_seed, 80, 2.0, 5, lead)


def content_of(winner: int, *finalists: Finalist) -> SearchContent:
    records = [TrialRecord(n, FINISHED, {}, {}, (LOOK,)) for n in range(3)]
    (chosen,) = (one for one in finalists if one.number == winner)
    return SearchContent(
        title="t",
        quality="accuracy",
        records=records,
        finalists=finalists,
        winner=chosen,
        test={},
        num_select=30,
        full_samples=120,
        pictures=(),
        folder="f",
        held={"CPU": 1.0},
    )


def test_a_better_finalist_that_does_not_surely_lead_is_named() -> None:
    unsure = finalist(1, 0.8, Lead(0.1, (-0.1, 0.3), -0.02))
    first, second, *_ = said_of(content_of(0, finalist(0, 0.7), unsure))
    assert first.startswith("Nothing better was found") and "0.7000" in first
    assert "Trial 1 has 0.8000" in second and "+0.1000 ahead" in second and "stays" in second


def test_a_winner_is_told_with_its_lead() -> None:
    sure = finalist(1, 0.8, Lead(0.1, (0.05, 0.15), 0.06))
    first, second, *_ = said_of(content_of(1, finalist(0, 0.7), sure))
    assert first.startswith("Trial 1 is the winner") and "has 0.7000" in first
    assert "Over the 30 samples" in second and "(95% interval" in second


def test_of_two_goals_the_rule_is_told_and_nothing_of_luck() -> None:
    unsure = finalist(1, 0.8, Lead(0.1, (-0.1, 0.3), -0.02))
    content = replace(content_of(0, finalist(0, 0.7), unsure), cost="parameters")
    first, second, *_ = said_of(content)
    assert first.startswith("The winner is the configuration as it is")
    assert "fewest parameters" in second


@pytest.mark.parametrize(("gain", "is_said"), [(-0.01, True), (0.0, True), (0.01, False)])
def test_a_winner_that_gains_nothing_on_the_test_split_is_told_with_caution(
    gain: float, is_said: bool
) -> None:
    sure = finalist(1, 0.8, Lead(0.1, (0.05, 0.15), 0.06))
    named = {"value": 0.7 + gain, "seeds": {0: 0.7}}
    test = {"metric": "accuracy", "gain": gain, "looks": 1, "winner": named, "as configured": named}
    said = said_of(replace(content_of(1, finalist(0, 0.7), sure), test=test))
    assert any(one.startswith("Caution: that is no gain.") for one in said) is is_said


def test_of_several_that_are_behind_the_best_is_told_alone() -> None:
    behind = [finalist(n, 0.6 - n / 100, Lead(-0.1, (-0.3, 0.1), -0.2)) for n in (1, 2)]
    said = said_of(content_of(0, finalist(0, 0.7), *behind))
    assert sum("best of the others" in one for one in said) == 1 and "trial 1" in said[1]


def test_what_became_of_trials_and_what_they_took_is_told() -> None:
    behind = finalist(1, 0.6, Lead(-0.1, (-0.3, 0.1), -0.2))
    content = content_of(0, finalist(0, 0.7), behind)
    records = [*content.records[:2], replace(content.records[2], state=STOPPED)]
    said = said_of(replace(content, records=records))
    assert said[1].startswith(
        "The best of the others over seeds, trial 1, has 0.6000 (over 2 seeds"
    )
    assert said[2] == "Of 3 trials 2 finished, 1 stopped early."
    assert said[3].startswith(
        "They trained on 120 samples, 100% of the 120 that they train on without stops; with the "
        "finals it is 200 (167%), for "
    )
