"""What a search found, in sentences."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mke_ray.labels.pass_state import SECONDS_PER_HOUR
from mke_ray.search.content import SearchContent
from mke_ray.search.counts import STATES, held_words
from mke_ray.search.finals import Finalist
from mke_ray.search.judging import AS_IT_IS, WINNER
from mke_ray.search.ledger import USUAL


def said_of(content: SearchContent) -> list[str]:
    """Return in sentences what was found: the winner, its test result, and what it cost."""
    winner, test = content.winner, content.test
    usual = next((one for one in content.finalists if one.number == USUAL), None)
    lines = []
    if winner.number == USUAL:
        what = "Nothing better was found than" if content.cost is None else "The winner is"
        lines.append(
            f"{what} the configuration as it is: {content.quality} {mean_words(winner)} on the "
            "select part of the probe."
        )
        if content.cost is None:
            lines += _other_lines(_others(content), winner)
    else:
        against = "" if usual is None else f"; the configuration as it is has {mean_words(usual)}"
        lines.append(
            f"Trial {winner.number} is the winner: {content.quality} {mean_words(winner)} on the "
            f"select part of the probe{against}."
        )
        if "gain" in test:
            lines.append(_test_words(test))
            if test["gain"] <= 0:
                lines.append(_caution_words())
        lines.append(_luck_words(content) if winner.lead is None else _lead_words(content))
    if content.cost is not None:
        lines.append(_cost_words(content.cost))
    lines += [_counts_words(content), _samples_words(content)]
    return lines


def _caution_words() -> str:
    """Say that the test split does not show what the select part does."""
    return (
        "Caution: that is no gain. What leads on the select part may be luck there, or the select "
        "part is not drawn like the test split; keep the configuration as it is until you know."
    )


def _others(content: SearchContent) -> list[Finalist]:
    """Return the finalists beside the configuration as it is, the best first."""
    others = [one for one in content.finalists if one.number != USUAL]
    return sorted(others, key=lambda one: -one.mean)


def _other_lines(others: Sequence[Finalist], winner: Finalist) -> list[str]:
    """Say why finalists with a higher mean are not the winner; if none has, what the best reaches.

    Args:
        others: The finalists beside the configuration as it is, the best first.
        winner: The winner.
    """
    ahead = [one for one in others if one.mean > winner.mean]
    if others and not ahead:
        best = others[0]
        return [f"The best of the others over seeds, trial {best.number}, has {mean_words(best)}."]
    return [
        f"Trial {one.number} has {mean_words(one)}, {_ahead(one)}: not surely, and of few samples "
        "the best of many trials is ahead by luck. The configuration as it is stays; a larger "
        "select part would tell."
        for one in ahead
    ]


def _counts_words(content: SearchContent) -> str:
    """Say what became of the trials."""
    said = [
        f"{number} {word}"
        for state, word in STATES.items()
        if (number := sum(one.state == state for one in content.records))
    ]
    return f"Of {len(content.records)} trials {', '.join(said)}."


def _samples_words(content: SearchContent) -> str:
    """Say what was trained on, with the finals and without."""
    by_trials = sum(one.num_samples for one in content.records)
    said = f"They trained on {by_trials:,} samples"
    if full := content.full_samples:
        said += f", {by_trials / full:.0%} of the {full:,} that they train on without stops"
        said += (
            f"; with the finals it is {content.num_samples:,} ({content.num_samples / full:.0%})"
        )
    return f"{said}, for {_held_words(content.hours)}."


def _cost_words(cost: str) -> str:
    """Say by which rule the winner of two goals was chosen."""
    return (
        f"It takes the fewest {cost} of the finalists within one standard error, over seeds, of "
        "the best."
    )


def _lead_words(content: SearchContent) -> str:
    """Say how sure it is that the winner is better on the select part."""
    return (
        f"Over the {content.num_select} samples of the select part it is {_ahead(content.winner)}; "
        "as the best of several trials it looks better there than it is."
    )


def _ahead(one: Finalist) -> str:
    """Say how far a finalist leads the configuration as it is."""
    if one.lead is None:
        return "ahead by an unknown amount"
    low, high = one.lead.ci95
    return (
        f"{one.lead.value:+.4f} ahead of the configuration as it is "
        f"(95% interval over groups of samples {low:+.4f} to {high:+.4f})"
    )


def _luck_words(content: SearchContent) -> str:
    """Say how far two configurations may differ by luck alone."""
    metric = float(np.mean(list(content.winner.metrics.values())))
    error = math.sqrt(2 * metric * (1 - metric) / content.num_select)
    return (
        f"The select part has {content.num_select} samples: of so few, two configurations that are "
        f"equally good differ by {100 * error:.1f} points or so by luck (one standard error, if "
        "they erred independently), and the best of many more than that."
    )


def _held_words(hours: Mapping[str, float]) -> str:
    """Say for how long fits held what they trained on."""
    return " and ".join(held_words(name, one * SECONDS_PER_HOUR) for name, one in hours.items())


def _test_words(test: Mapping[str, Any]) -> str:
    """Say what the winner is worth on the test split."""
    mine, theirs = test[WINNER], test[AS_IT_IS]
    ends, over = test.get("ci95"), "groups of samples"
    if ends is None:
        ends, over = test.get("seeds_ci95"), "seeds"
    about = ""
    if ends is not None:
        about = f" (95% interval over {over} {100 * ends[0]:+.1f} to {100 * ends[1]:+.1f})"
    again = f" It is look {test['looks']} of this search at that split." * (test["looks"] > 1)
    return (
        f"On the test split, which chose nothing, it has {percent(mine['value'])} {test['metric']}"
        f" and the configuration as it is {percent(theirs['value'])}, a gain of "
        f"{100 * test['gain']:+.1f} points{about}; means over {len(mine['seeds'])} seeds.{again}"
    )


def mean_words(one: Finalist) -> str:
    """Return the mean of a finalist with its interval over seeds."""
    low, high = one.to_dict()["ci95"]
    if math.isnan(low):
        return f"{one.mean:.4f}"
    high = min(high, 1.0)  # nothing that is looked for goes beyond
    low = max(low, 0.0) if one.mean >= 0 else low
    return f"{one.mean:.4f} (over {len(one.fits)} seeds, 95% interval {low:.4f} to {high:.4f})"


def percent(value: float) -> str:
    """Return a share in percent."""
    return f"{100 * value:.1f}%"
