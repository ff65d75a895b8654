"""The synthetic study joined over seeds: spreads, paired differences, sentences and tables."""

from collections.abc import Mapping, Sequence
from typing import Any

from mke_ray.focus.gaussian import (
    ALPHA,
    CHANNELS,
    CHOICES,
    GAMMA,
    GENERAL,
    NO_KD,
    RANDOM,
    RANKED,
    REGULAR,
    SPECIFIC,
    TEACHER,
)
from mke_ray.focus.page import PageTable, interval, percent, points
from mke_ray.focus.spreads import paired, spread

Record = Mapping[str, Any]

ARM_WORDS = {
    NO_KD: "no distillation",
    REGULAR: "regular: all channels",
    GENERAL: "modality-general, by truth",
    RANKED: "modality-general, by Algorithm 1",
    SPECIFIC: "modality-specific, by truth",
    RANDOM: "random channels",
}


def summary_of(records: Sequence[Record]) -> dict[str, Any]:
    """Return means, spreads and paired differences of every experiment as plain data."""
    found: dict[str, Any] = {}
    for name in (GAMMA, ALPHA, CHANNELS):
        mine = [one for one in records if one["experiment"] == name]
        places = sorted({one["at"] for one in mine})
        joined = _chosen if name == CHANNELS else _distilled
        found[name] = [joined(at, [one for one in mine if one["at"] == at]) for at in places]
    return found


def said_of(summary: Mapping[str, Any]) -> list[str]:
    """Return in sentences what the study found."""
    said, chosen = [], summary[CHANNELS]
    if chosen:
        first = chosen[0]
        general, random, specific = (
            first["arms"][one]["over_regular"] for one in (GENERAL, RANDOM, SPECIFIC)
        )
        said.append(
            f"A teacher of the modality-general channels alone gives its student "
            f"{points(general)} points over one of all channels at gamma = {first['at']:.2f}, "
            f"although it is itself {_fall(first):z.0f} points worse; random channels give "
            f"{points(random)}, modality-specific ones {points(specific)}."
        )
        precisions = [one["precision"]["mean"] for one in chosen]
        said.append(
            "Algorithm 1, told only how many they are, finds "
            f"{100 * min(precisions):.1f} to {100 * max(precisions):.1f}% of these channels."
        )
    for name, words in ((GAMMA, "what both share"), (ALPHA, "what the teacher alone knows")):
        if len(some := summary[name]) > 1:
            said.append(
                f"As {words} grows ({name} {some[0]['at']:.2g} to {some[-1]['at']:.2g}), the gain "
                f"by distillation goes from {100 * some[0]['gain']['mean']:+z.1f} to "
                f"{100 * some[-1]['gain']['mean']:+z.1f} points, the teacher's accuracy from "
                f"{100 * some[0][TEACHER]['mean']:.0f} to {100 * some[-1][TEACHER]['mean']:.0f}%."
            )
    return said


def tables_of(summary: Mapping[str, Any]) -> list[PageTable]:
    """Return the tables of the page and the terminal."""
    tables = [_shares_table(name, summary[name]) for name in (GAMMA, ALPHA) if summary[name]]
    return [*map(_channels_table, summary[CHANNELS]), *tables]


def tiles_of(summary: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Return a tile per setting of the experiment on channels."""
    return [
        (
            f"gamma = {one['at']:.2f}",
            f"{100 * one['arms'][RANKED]['over_regular']['mean']:+z.1f}",
            "points by Algorithm 1's channels over all channels",
        )
        for one in summary[CHANNELS]
    ]


def _distilled(at: float, records: Sequence[Record]) -> dict[str, Any]:
    """Return what distillation gave in one setting."""
    value_W = {name: [one[name] for one in records] for name in (TEACHER, NO_KD, REGULAR)}
    return {
        "at": at,
        "num_seeds": len(records),
        **{name: spread(some) for name, some in value_W.items()},
        "gain": paired(value_W[REGULAR], value_W[NO_KD]),
    }


def _chosen(at: float, records: Sequence[Record]) -> dict[str, Any]:
    """Return what teachers of some channels gave in one setting."""
    arms = {}
    for name in (NO_KD, REGULAR, *CHOICES):
        value_W = [one[name] for one in records]
        teacher = f"{TEACHER}_{name}"
        arms[name] = {
            "student": spread(value_W),
            "teacher": spread([one[teacher] for one in records]) if name != NO_KD else None,
            "over_regular": paired(value_W, [one[REGULAR] for one in records]),
            "over_no_kd": paired(value_W, [one[NO_KD] for one in records]),
        }
    return {
        "at": at,
        "num_seeds": len(records),
        "arms": arms,
        "precision": spread([one["precision"] for one in records]),
    }


def _fall(setting: Mapping[str, Any]) -> float:
    """Return how many points the general teacher is below the regular one."""
    arms = setting["arms"]
    return 100 * (arms[REGULAR]["teacher"]["mean"] - arms[GENERAL]["teacher"]["mean"])


def _shares_table(name: str, settings: Sequence[Mapping[str, Any]]) -> PageTable:
    """Return the table of an experiment that varies what is shared."""
    words = {GAMMA: "more is shared", ALPHA: "the teacher knows more of its own"}[name]
    rows = [
        [
            f"{one['at']:.2f}",
            percent(one[TEACHER]),
            percent(one[NO_KD]),
            percent(one[REGULAR]),
            points(one["gain"]),
            interval(one["gain"]),
        ]
        for one in settings
    ]
    head = [name, "teacher", "no distillation", "distilled", "gain", "95% interval"]
    return PageTable(
        f"Experiment on {name}: {words}",
        f"{settings[0]['num_seeds']} seeds, mean and standard deviation; gain in points, paired",
        head,
        rows,
    )


def _channels_table(setting: Mapping[str, Any]) -> PageTable:
    """Return the table of one setting of the experiment on channels."""
    rows = []
    for name, one in setting["arms"].items():
        over = one["over_regular"]
        rows.append(
            [
                ARM_WORDS[name],
                "" if one["teacher"] is None else percent(one["teacher"]),
                percent(one["student"]),
                "" if name == REGULAR else points(over),
                "" if name == REGULAR else interval(over),
            ]
        )
    return PageTable(
        f"Which channels the teacher keeps, gamma = {setting['at']:.2f}",
        f"{setting['num_seeds']} seeds; difference to regular distillation in points, paired; "
        f"Algorithm 1 has {100 * setting['precision']['mean']:.1f}% of its channels right",
        ["the teacher has", "teacher", "student", "over regular", "95% interval"],
        rows,
        strong=[list(setting["arms"]).index(RANKED)],
    )
