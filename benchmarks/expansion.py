"""How reliably our student beats its teacher: draws of the data, with and without paired labels.

    python benchmarks/expansion.py --data DIR
    python benchmarks/expansion.py --data DIR --settings ravdess_face --draws 20 --pairs with

DIR holds mnist, fsdd, ravdess_features and nyu_depth_v2 (docs/experiments.md says what is in them);
two_moon needs none. Every draw deals the data out anew and is a whole run of jobs/expand.py: one
network is shipped and judged on the test split, all true labels are the upper bound.
"""

# N draws.

import argparse
import json
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

REPOSITORY = Path(__file__).parents[1]
ARMS = "arms=[mke,mm_labelled_only,mm_supervised]"
OURS, PUBLISHED, LABELLED, SUPERVISED = "mm_student", "mke", "mm_labelled_only", "mm_supervised"


@dataclass(frozen=True, slots=True)
class Setting:
    """One kind of data with one teacher.

    Args:
        overrides: What jobs/expand.py is told.
        num_draws: Draws of the data unless another number is asked for.
        folder: Folder below ``--data``; None where none is needed.
        kind: How the modalities belong together.
        has_pairs: Whether there are paired labels at all.
    """

    overrides: tuple[str, ...]
    num_draws: int
    folder: str | None
    kind: str
    has_pairs: bool = True


NO_PAIRS = ("expansion.paired_weight=0", "expansion.witness_paired_weight=0")
_AV = ("experiment=av_mnist_features", ARMS)
_RAVDESS = ("experiment=ravdess_features", ARMS)
_DEMO = ("experiment=demo", ARMS)
SETTINGS = {
    "two_moon": Setting(
        ("experiment=two_moon", "model_seeds=[0]", "arms=[mke,mm_supervised]"),
        24,
        None,
        "made",
        has_pairs=False,
    ),
    "av_mnist_image": Setting(_AV, 8, ".", "paired by label"),
    "av_mnist_audio": Setting((*_AV, "teacher.modality=audio"), 8, ".", "paired by label"),
    "ravdess_face": Setting(_RAVDESS, 20, "ravdess_features", "recorded together"),
    "ravdess_voice": Setting(
        (*_RAVDESS, "teacher.modality=voice"), 20, "ravdess_features", "recorded together"
    ),
    "av_mnist_pixels": Setting(  # convolutional networks on pictures and on sound
        ("experiment=av_mnist", ARMS), 8, ".", "paired by label"
    ),
    "demo": Setting(_DEMO, 5, None, "independent given the digit"),
    "demo_dependent": Setting((*_DEMO, "source.dependence=0.5"), 5, None, "errors half dependent"),
    "nyu_depth_v2": Setting(  # mean IoU; its recipe gives labelled pairs to the witnesses alone
        ("experiment=nyu_depth_v2_small", ARMS), 3, "nyu_depth_v2", "every pixel"
    ),
}


def main() -> None:
    """Run what is asked for and print one table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", help="folder of the data")
    parser.add_argument("--settings", nargs="+", choices=list(SETTINGS), default=list(SETTINGS))
    parser.add_argument("--draws", type=int, help="draws of every setting; their own by default")
    parser.add_argument("--pairs", choices=["without", "with", "both"], default="both")
    parser.add_argument("--root", help="where runs are kept; a temporary folder by default")
    parser.add_argument("--set", nargs="*", default=[], help="further keys of jobs/expand.py")
    options = parser.parse_args()
    print("| " + " | ".join(_HEADER) + " |\n|" + "---|" * len(_HEADER))
    for name in options.settings:
        for has_pairs in _pairs_of(SETTINGS[name], options.pairs):
            with tempfile.TemporaryDirectory() as temporary:
                root = Path(options.root or temporary) / f"{name}-{'pairs' if has_pairs else 'no'}"
                metrics = run_setting(SETTINGS[name], options, root, has_pairs=has_pairs)
            print(row_of(name, SETTINGS[name], metrics, has_pairs=has_pairs), flush=True)


def run_setting(
    setting: Setting, options: argparse.Namespace, root: Path, *, has_pairs: bool
) -> list[dict[str, Any]]:
    """Run every draw and return their metrics."""
    num_draws = options.draws or setting.num_draws
    overrides = [*setting.overrides, "objective=expansion", f"data_seeds={num_draws}"]
    overrides += [f"root={root}", *([] if has_pairs else NO_PAIRS)]
    if setting.folder is not None:
        if options.data is None:
            sys.exit(f"--data is missing: this setting reads {setting.folder} in it")
        overrides.append(f"source.root={Path(options.data).resolve() / setting.folder}")
    command = [sys.executable, "jobs/expand.py", *overrides, *options.set]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(command)}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}")
    found = sorted(root.glob("*/report/metrics.json"))
    if len(found) != num_draws:
        sys.exit(f"{root} holds the metrics of {len(found)} draws, expected {num_draws}")
    return [json.loads(path.read_text()) for path in found]


_HEADER = (
    "data",
    "kind",
    "paired labels",
    "draws",
    "teacher",
    "MKE",
    "ours",
    "ours - MKE (95%)",
    "above teacher",
    "gap closed",
    "corrected / corrupted",
    "labels only",
    "not below labels only",
    "verdicts",
)


def row_of(
    name: str, setting: Setting, metrics: Sequence[dict[str, Any]], *, has_pairs: bool
) -> str:
    """Return one row of the table."""
    ours_N, published_N = gains(metrics, OURS), gains(metrics, PUBLISHED)
    supervised_N = gains(metrics, SUPERVISED)
    teacher_N = np.asarray([one["arms"]["teacher"]["value"] for one in metrics])
    verdicts = Counter(one["gate"]["verdict"] for one in metrics)
    has_labelled = LABELLED in metrics[0]["arms"]
    labelled_N = gains(metrics, LABELLED) if has_labelled else np.full(len(metrics), np.nan)
    cells = [
        name,
        setting.kind,
        "with" if has_pairs else "without",
        str(len(metrics)),
        f"{100 * teacher_N.mean():.1f}",
        f"{_points(published_N)} ({_share(published_N > 0)})",
        f"**{_points(ours_N)}**",
        _interval(ours_N - published_N),
        _share(ours_N > 0),
        f"{ours_N.sum() / supervised_N.sum():.0%}",
        f"{_flow(metrics, 'corrected')} / {_flow(metrics, 'corrupted')}",
        _points(labelled_N) if has_labelled else "",
        _share(ours_N >= labelled_N) if has_labelled else "",
        ", ".join(f"{verdict} {number}" for verdict, number in sorted(verdicts.items())),
    ]
    return "| " + " | ".join(cells) + " |"


def gains(metrics: Sequence[dict[str, Any]], arm: str) -> np.ndarray:
    """Return the gain of an arm over the teacher in every draw [N]."""
    return np.asarray([one["arms"][arm]["gain"] for one in metrics])


def _pairs_of(setting: Setting, asked: str) -> Iterator[bool]:
    """Yield whether paired labels are mixed in, for every run of a setting."""
    if asked != "with" or not setting.has_pairs:
        yield False
    if asked != "without" and setting.has_pairs:
        yield True


def _points(gain_N: np.ndarray) -> str:
    return f"{100 * gain_N.mean():+.1f} ± {100 * gain_N.std():.1f}"


def _share(flag_N: np.ndarray) -> str:
    return f"{np.mean(flag_N):.0%}"


def _interval(difference_N: np.ndarray) -> str:
    """Return the mean of paired differences with its interval by Student's t over draws."""
    mean = difference_N.mean()
    half = stats.t.ppf(0.975, len(difference_N) - 1) * stats.sem(difference_N)
    return f"{100 * mean:+.1f} ({100 * (mean - half):+.1f} to {100 * (mean + half):+.1f})"


def _flow(metrics: Sequence[dict[str, Any]], key: str) -> str:
    found = [one["arms"][OURS][key] for one in metrics if one["arms"][OURS][key] is not None]
    return f"{100 * np.mean(found):.1f}%" if found else "-"


if __name__ == "__main__":
    main()
