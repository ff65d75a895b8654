"""Records of single settings joined over the draws of the data: curves, means and spreads."""

# W draws of the data, X radii or places on an axis.

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mke_ray.expansion.mechanism_plan import LABEL_KINDS, SIZES
from mke_ray.report.mechanism_figures import Band, Guess
from mke_ray.report.mechanism_reach import Plane, Reach

Record = Mapping[str, Any]

CLEAN_SHARE = 0.05  # the picture of neighbourhoods takes the radius at which so many cross


def reaches(records: Sequence[Record]) -> list[Reach]:
    """Return expansion and crossing of every space, all modalities together last."""
    base = [one for one in records if one["is_base"]]
    return [
        Reach(
            name,
            np.asarray(base[0]["radii"]),
            np.stack([_expansion(one["spaces"][name]) for one in base]),
            np.stack([np.asarray(one["spaces"][name]["crossing"]) for one in base]),
            _classes([one["spaces"][name] for one in base]),
        )
        for name in base[0]["spaces"]
    ]


def guesses(records: Sequence[Record]) -> list[Guess]:
    """Return predicted and observed shares of every student for which there are both."""
    found = []
    for one in (student for record in records for student in record["students"]):
        corrected, corrupted = _pair(one, "corrected"), _pair(one, "corrupted")
        if corrected is not None and corrupted is not None:
            found.append(Guess(one["arm"], one["kind"], corrected, corrupted))
    return found


def gain_curves(records: Sequence[Record]) -> dict[str, list[Band]]:
    """Return the gains over the teacher by what may change them; panels without a curve are empty.

    Sizes are tried with the noise and labels of the job, noise and labels with its sizes.
    """
    base = [one for one in records if one["is_base"]]
    curves: dict[str, list[Band]] = {}
    for key in SIZES:
        others = [other for other in SIZES if other != key]
        like_base = [
            one
            for one in records
            if all(one.get(o) == base[0].get(o) for o in others) and key in one
        ]
        gains = [
            (one["data_seed"], one[key], student)
            for one in like_base
            for student in one["students"]
            if student["is_own"]
        ]
        curves[key] = _bands(gains)
    strengths = [(one["data_seed"], s["alpha"], s) for one in base for s in one["students"]]
    strengths = [one for one in strengths if one[2]["predicted"] is not None]
    curves["alpha"] = _bands(strengths, by_kind=True)
    own = {s["arm"]: s["alpha"] for one in base for s in one["students"] if s["is_own"]}
    kinds = [one for one in strengths if one[2]["alpha"] == own.get(one[2]["arm"])]
    curves["kind"] = _bands([(seed, LABEL_KINDS.index(s["kind"]), s) for seed, _, s in kinds])
    return {key: [one for one in some if len(one.at_X) > 1] for key, some in curves.items()}


def plane_of(records: Sequence[Record]) -> Plane | None:
    """Return the samples of the first draw to be drawn, None where they are no points of a plane.

    The class is the one with the most wrong samples, the radius the largest one measured at which
    few samples cross where all modalities count.
    """
    first = next(one for one in records if one["is_base"])
    if first["samples"] is None:
        return None
    points, truth_N = first["samples"]["points"], np.asarray(first["samples"]["truth"])
    wrong_N = np.asarray(first["samples"]["said"]) != truth_N
    if not wrong_N.any():
        return None
    own_N = truth_N == np.bincount(truth_N[wrong_N]).argmax()
    names = list(points)
    scaled = {name: np.asarray(points[name]) for name in names}
    scaled = {name: one / np.abs(one).mean() for name, one in scaled.items()}
    radius = _clean_radius(first)
    return Plane(
        np.stack([np.asarray(points[name]) for name in names], axis=1),
        own_N,
        own_N & wrong_N,
        {
            space: _reached(scaled, space.split(" + "), own_N & wrong_N, radius)
            for space in first["spaces"]
        },
        radius,
        (names[0], names[1]),
    )


def summary_of(records: Sequence[Record], *, alpha: float) -> dict[str, Any]:
    """Return means and spreads over draws as plain data, for ``mechanism.json``.

    Args:
        records: Of every draw and setting.
        alpha: Noise that is trained with.
    """
    return {
        "alpha": alpha,
        "num_draws": len({one["data_seed"] for one in records}),
        "spaces": {
            one.name: {
                "expansion_at_alpha": _spread(_at(one.expansion_WX, one.radii_X, alpha)),
                "crossing_at_alpha": _spread(_at(one.crossing_WX, one.radii_X, alpha)),
                "expansion_while_5%_cross": _spread(_clean_expansion(one)),
            }
            for one in reaches(records)
        },
        "theorem": theorem_of(records),
        "prediction": _prediction(guesses(records)),
        "gains": {
            key: [
                {
                    "arm": one.name,
                    **({"labels": one.variant} if one.variant else {}),
                    "at": [LABEL_KINDS[int(at)] if key == "kind" else float(at) for at in one.at_X],
                    "mean": np.nanmean(one.values_WX, axis=0).tolist(),
                    "std": np.nanstd(one.values_WX, axis=0).tolist(),
                    "above_teacher": (one.values_WX > 0).mean(axis=0).tolist(),
                }
                for one in some
            ]
            for key, some in gain_curves(records).items()
        },
    }


def theorem_of(records: Sequence[Record]) -> dict[str, Any]:
    """Return whether the theorem says anything of these data, at the radius that is best for it.

    Its bound is below the teacher's own error, or of no use.
    """
    found = []
    for record in (one for one in records if one["is_base"]):
        *_, both = record["spaces"].values()
        largest = max((c["num_wrong"] / c["num_samples"] for c in both["classes"]), default=0.0)
        bounds = [one for one in both["bound"] if one is not None]
        error = record["teacher"]["measured_error"]
        found.append((largest, min(bounds, default=None), error))
    useful = [bound for _, bound, error in found if bound is not None and bound < error]
    return {
        "largest_wrong_share": _spread(np.asarray([one for one, _, _ in found])),
        "draws_in_which_it_applies": sum(bound is not None for _, bound, _ in found),
        "draws_in_which_it_bounds_below_the_teacher": len(useful),
        "bounds": [bound for _, bound, _ in found],
        "teacher_errors": [error for _, _, error in found],
    }


def _expansion(space: Mapping[str, Any]) -> np.ndarray:
    """Return the expansion of the wrong samples of all classes [X]."""
    num_wrong = sum(one["num_wrong"] for one in space["classes"])
    reached = [np.asarray(one["expansion"]) * one["num_wrong"] for one in space["classes"]]
    return np.sum(reached, axis=0) / num_wrong if reached else np.asarray(space["crossing"]) * 0.0


def _classes(spaces: Sequence[Mapping[str, Any]]) -> tuple[np.ndarray, ...]:
    """Return the expansion of every class [X], the mean over draws."""
    by_class: dict[int, list[np.ndarray]] = {}
    for space in spaces:
        for one in space["classes"]:
            by_class.setdefault(one["class"], []).append(np.asarray(one["expansion"]))
    return tuple(np.mean(some, axis=0) for _, some in sorted(by_class.items()))


def _pair(student: Mapping[str, Any], key: str) -> tuple[float, float] | None:
    """Return the predicted and the observed share, None where one of them is not known."""
    predicted, observed = student["predicted"], student["observed"]
    if predicted is None or observed is None or None in (predicted[key], observed[key]):
        return None
    return predicted[key], observed[key]


def _bands(
    gains: Sequence[tuple[int, float, Mapping[str, Any]]], *, by_kind: bool = False
) -> list[Band]:
    """Return a band per arm, and per kind of labels where these are told apart.

    Args:
        gains: Draw, place on the axis and student.
        by_kind: Whether kinds of labels are curves of their own.
    """
    draws = sorted({draw for draw, _, _ in gains})
    keys = dict.fromkeys((one["arm"], one["kind"] if by_kind else "") for _, _, one in gains)
    bands = []
    for arm, kind in keys:
        mine = [g for g in gains if g[2]["arm"] == arm and (not by_kind or g[2]["kind"] == kind)]
        at = sorted({place for _, place, _ in mine})
        values_WX = np.full((len(draws), len(at)), np.nan)
        for row, draw in enumerate(draws):
            for column, place in enumerate(at):
                some = [one["gain"] for d, p, one in mine if (d, p) == (draw, place)]
                values_WX[row, column] = np.mean(some) if some else np.nan
        bands.append(Band(arm, np.asarray(at, dtype=float), values_WX, kind))
    return bands


def _clean_radius(record: Record) -> float:
    """Return the largest radius at which few samples cross where all modalities count."""
    *_, both = record["spaces"].values()
    few = [r for r, c in zip(record["radii"], both["crossing"], strict=True) if c <= CLEAN_SHARE]
    return max(few, default=record["radii"][0])


def _reached(
    scaled: Mapping[str, np.ndarray], names: Sequence[str], wrong_N: np.ndarray, radius: float
) -> np.ndarray:
    """Return which samples are within a radius of a wrong one [N]."""
    points_ND = np.stack([scaled[name] for name in names], axis=1) / np.sqrt(len(names))
    apart_NV = np.linalg.norm(points_ND[:, None] - points_ND[wrong_N][None], axis=2)
    return apart_NV.min(axis=1) <= radius


def _clean_expansion(space: Reach) -> np.ndarray:
    """Return the expansion of every draw at the largest radius at which few samples cross [W]."""
    num_clean_W = (space.crossing_WX <= CLEAN_SHARE).sum(axis=1)  # crossing only rises
    return np.asarray(
        [
            expansion_X[num - 1] if num else 0.0
            for num, expansion_X in zip(num_clean_W, space.expansion_WX, strict=True)
        ]
    )


def _at(values_WX: np.ndarray, radii_X: np.ndarray, alpha: float) -> np.ndarray:
    """Return the value of every draw at a radius [W]."""
    return np.asarray([np.interp(alpha, radii_X, value_X) for value_X in values_WX])


def _spread(values_W: np.ndarray) -> dict[str, float]:
    """Return mean and standard deviation over draws."""
    return {"mean": float(np.mean(values_W)), "std": float(np.std(values_W))}


def _prediction(found: Sequence[Guess]) -> dict[str, Any]:
    """Return how far predictions are off, by arm and kind of labels and of all together."""
    groups: dict[str, list[Guess]] = {}
    for one in found:
        groups.setdefault(f"{one.arm}, {one.kind}", []).append(one)
    return {
        name: {
            "num": len(some),
            **{
                key: _off(np.asarray([getattr(one, key) for one in some], dtype=float))
                for key in ("corrected", "corrupted")
            },
        }
        for name, some in {**groups, "all": list(found)}.items()
        if some
    }


def _off(pairs_N2: np.ndarray) -> dict[str, float | None]:
    """Return median and mean of the absolute error, and the correlation of the two."""
    off_N = np.abs(pairs_N2[:, 0] - pairs_N2[:, 1])
    varies = len(pairs_N2) > 1 and bool((pairs_N2.std(axis=0) > 0).all())
    correlation = float(np.corrcoef(pairs_N2.T)[0, 1]) if varies else None
    return {
        "median_off": float(np.median(off_N)),
        "mean_off": float(off_N.mean()),
        "correlation": correlation,
    }
