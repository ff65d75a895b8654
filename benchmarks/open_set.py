"""Unlabeled clips of no known class and swapped sounds: what they cost, and what weighing saves.

    python benchmarks/open_set.py --data DIR
    python benchmarks/open_set.py --data DIR --draws 2 --irrelevant 0 0.6 --swapped 0 0.3

DIR holds mnist and fsdd (docs/experiments.md says what is in them). The classes are the digits 0 to
6. Clips of 7, 8 and 9 are irrelevant; they are added to the unlabeled ones, so that those of known
classes stay as many. Sounds are swapped among unlabeled clips of known classes. Every draw deals
the data out anew and is a run of jobs/expand.py without weights and one with. Which clips are
irrelevant or swapped is known to this script alone, by their keys.
"""

# N unlabeled samples or rows of a table, P those that are meant, S scores.

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from scipy.special import softmax
from scipy.stats import rankdata

from mke_ray.data.av_mnist_features import TABLE, AvMnistFeaturesSource
from mke_ray.data.manifest import Manifest
from mke_ray.labels.derivations import Refinement
from mke_ray.labels.derived import logits_of
from mke_ray.labels.folds import FoldDivision
from mke_ray.labels.posterior import Posterior
from mke_ray.labels.store import UnitStore
from mke_ray.schema import WEIGHT, Split
from mke_ray.storage import open_root
from mke_ray.train.fits import FitStore

REPOSITORY = Path(__file__).parents[1]
NUM_KNOWN, NUM_IN_SET = 7, 3600  # digits that are classes; unlabeled clips of them
NUM_UNLABELED = 19_500  # all that MNIST has here
KINDS = ("irrelevant", "swapped")
ARMS = ("teacher", "mke", "mm_labelled_only", "mm_student")
PLAIN_KEYS = (
    "experiment=av_mnist_features",
    "source=table",
    "source.table=clips.parquet",
    'source.modalities={image: "image_*", audio: "audio_*"}',
    f"source.classes={json.dumps([str(digit) for digit in range(NUM_KNOWN)])}",
    "+source.columns.group=group",
    "+source.columns.key=key",
    "+source.columns.split=split",
    "decode.image.num_features=24",
    "decode.audio.num_features=64",
    "student.encoders.image.num_inputs=24",
    "student.encoders.audio.num_inputs=64",
    "arms=[mke,mm_labelled_only]",
    "tracking=off",
    "scaling.launch=local",
)


@dataclass(frozen=True, slots=True)
class Spoiling:
    """What is wrong with the unlabeled clips.

    Args:
        irrelevant: Share of them that is of no known class.
        swapped: Share of those of a known class that carries the sound of another one of them.
        kind: ``paired``, where picture and sound of an irrelevant clip are of one unknown digit, or
            ``unpaired``, where they are of any two.
    """

    irrelevant: float
    swapped: float
    kind: str


@dataclass(frozen=True, slots=True)
class Draw:
    """What came of one draw.

    Args:
        arms: Accuracy of every arm, and of our student with weights as ``weighed``.
        open_set: What the report with weights says of the last round; None where nothing can be
            told.
        aurocs: By kind and score, how well the score tells clips of the kind from all others.
    """

    arms: Mapping[str, float]
    open_set: Mapping[str, Any] | None
    aurocs: Mapping[str, Mapping[str, float]]


def main() -> None:
    """Run what is asked for and print one table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", required=True, help="folder of mnist and fsdd")
    parser.add_argument("--irrelevant", nargs="+", type=float, default=[0.0, 0.3, 0.6])
    parser.add_argument("--swapped", nargs="+", type=float, default=[0.0, 0.3])
    parser.add_argument("--kind", choices=["paired", "unpaired"], default="paired")
    parser.add_argument("--teacher", choices=["image", "audio"], default="image")
    parser.add_argument("--draws", type=int, default=4)
    parser.add_argument("--root", help="where runs are kept; a temporary folder by default")
    parser.add_argument("--set", nargs="*", default=[], help="further keys of jobs/expand.py")
    options = parser.parse_args()
    print("| " + " | ".join(_HEADER) + " |\n|" + "---|" * len(_HEADER), flush=True)
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(options.root or temporary)
        for irrelevant, swapped in product(options.irrelevant, options.swapped):
            spoiling = Spoiling(irrelevant, swapped, options.kind)
            found = [run_draw(spoiling, options, root, seed=one) for one in range(options.draws)]
            print(row_of(spoiling, found), flush=True)


def run_draw(spoiling: Spoiling, options: argparse.Namespace, root: Path, *, seed: int) -> Draw:
    """Run one draw without and with weights, in one folder, so that nothing is done twice."""
    name = f"{spoiling.kind}-{spoiling.irrelevant:g}-{spoiling.swapped:g}-{options.teacher}-{seed}"
    folder = root / name
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "clips.parquet").exists():
        source = AvMnistFeaturesSource(
            root=str(Path(options.data).resolve()),
            made=str(root / f"made-{seed}"),
            data_seed=seed,
            num_unlabeled=NUM_UNLABELED,
        )
        pq.write_table(spoilt_table(source, spoiling, seed=seed), folder / "clips.parquet")
    keys = [*PLAIN_KEYS, f"source.root={folder}", f"root={folder / 'run'}", f"seed={seed}"]
    keys += [f"teacher.modality={options.teacher}", *options.set]
    plain = metrics_of([*keys, "expansion.open_set=off"], folder / "run")
    weighed = metrics_of([*keys, "expansion.open_set=on"], folder / "run")
    arms = {arm: plain["arms"][arm]["value"] for arm in ARMS}
    arms["weighed"] = weighed["arms"]["mm_student"]["value"]
    found = weighed["refinement"][-1].get("open_set")
    return Draw(arms, found, aurocs_of(folder / "run"))


def metrics_of(keys: Sequence[str], root: Path) -> dict[str, Any]:
    """Run jobs/expand.py and return what it found."""
    command = [sys.executable, "jobs/expand.py", *keys]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(command)}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}")
    return json.loads((root / "report" / "metrics.json").read_text())


def spoilt_table(source: AvMnistFeaturesSource, spoiling: Spoiling, *, seed: int) -> pa.Table:
    """Return rows of the known digits and what is wrong with the unlabeled ones.

    The column ``key`` begins with what is wrong: ``known``, ``irrelevant`` or ``swapped``, the last
    only where the other sound is of another digit. The label is the digit of the picture.
    """
    source.prepare()
    table = pq.read_table(Path(source.made) / TABLE)
    rng = np.random.default_rng([seed, 20])
    digit_N = table.column("label").to_numpy()
    is_unlabeled_N = table.column("split").to_numpy(zero_copy_only=False) == "unlabeled"
    is_known_N = digit_N < NUM_KNOWN
    known_N = rng.permutation(np.flatnonzero(is_unlabeled_N & is_known_N))[:NUM_IN_SET]
    num_wrong = round(NUM_IN_SET * spoiling.irrelevant / (1 - spoiling.irrelevant))
    wrong_N = rng.permutation(np.flatnonzero(is_unlabeled_N & ~is_known_N))[:num_wrong]
    if len(known_N) < NUM_IN_SET or len(wrong_N) < num_wrong:
        sys.exit(f"the table has {len(known_N)} and {len(wrong_N)} rows of the wanted kinds")
    sound_N = np.arange(table.num_rows)
    swapped_N = known_N[: round(NUM_IN_SET * spoiling.swapped)]
    sound_N[swapped_N] = np.roll(swapped_N, 1)
    if spoiling.kind == "unpaired":
        sound_N[wrong_N] = np.roll(wrong_N, 1)
    is_swapped_N = digit_N[sound_N] != digit_N
    what_N = np.where(is_known_N, np.where(is_swapped_N, "swapped", "known"), "irrelevant")
    keys = [f"{what}-{number}" for number, what in enumerate(what_N)]
    moved = [name for name in table.column_names if name.startswith("audio_")] + ["group"]
    for name in moved:
        column = table.column(name).take(pa.array(sound_N))
        table = table.set_column(table.column_names.index(name), name, column)
    labels = pa.array(digit_N, mask=~is_known_N)
    table = table.set_column(table.column_names.index("label"), "label", labels)
    table = table.append_column("key", pa.array(keys))
    kept_N = np.flatnonzero(~is_unlabeled_N & is_known_N)
    return table.take(pa.array(rng.permutation(np.concatenate([kept_N, known_N, wrong_N]))))


def aurocs_of(root: Path) -> dict[str, dict[str, float]]:
    """Return how well scores tell clips of each kind from clips that are as they should be."""
    what_N, scores = scores_of(root)
    is_well_N = what_N == "known"
    return {
        kind: {
            name: auroc(-one_N[what_N == kind], -one_N[is_well_N]) for name, one_N in scores.items()
        }
        for kind in KINDS
        if (what_N == kind).any()
    }


def scores_of(root: Path) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Return what every unlabeled clip is, and its scores in the last round, higher for known ones.

    The weights are among them where there are any.
    """
    home = open_root(str(root))
    manifest = Manifest.open(home.child("manifest"))
    labels = last_labels(root)
    spec = labels.spec["derivation"]
    posterior = Posterior.from_dict(spec["posterior"])
    refinement = Refinement(spec["witness"], FoldDivision.from_dict(spec["folds"]), posterior)
    teacher = UnitStore.open(home.child("labels", labels.spec["parent"]))
    said = UnitStore.open(home.child("predictions", labels.spec["said"]))
    what: list[str] = []
    parts: list[list[np.ndarray]] = []
    for ref in manifest.unit_refs([Split.UNLABELED]):
        rows = manifest.read_unit(ref)
        what += [row.key.partition("#")[2].partition("-")[0] for row in rows]
        teacher_BC = logits_of(teacher.read(ref.unit), "logits", NUM_KNOWN)
        told = {spec["witness"]: logits_of(said.read(ref.unit), spec["witness"], 0)}
        columns = [*refinement.scores(rows, teacher_BC, told).T, softmax(teacher_BC, axis=1).max(1)]
        if WEIGHT in labels.schema.names:
            columns.append(labels.read(ref.unit).column(WEIGHT).to_numpy())
        parts.append(columns)
    names = ["log ratio", "energy", "max softmax", "weight"]
    joined = [np.concatenate(one) for one in zip(*parts, strict=True)]
    return np.asarray(what), dict(zip(names, joined, strict=False))


def last_labels(root: Path) -> UnitStore:
    """Return the refined labels of the last round, those with weights where there are any."""
    stores = [UnitStore.open(open_root(str(one))) for one in (root / "labels").iterdir()]
    fits = FitStore(open_root(str(root)))
    refined = [one for one in stores if one.spec.get("derivation", {}).get("type") == "refinement"]
    of_round = [fits.facts(one.spec["derivation"]["witness"])["spec"]["name"] for one in refined]
    places = sorted(
        range(len(refined)), key=lambda one: (WEIGHT in refined[one].schema.names, of_round[one])
    )
    return refined[places[-1]]


def auroc(meant_P: np.ndarray, others_N: np.ndarray) -> float:
    """Return the chance that one of the meant has the higher score, ties half."""
    rank_N = rankdata(np.concatenate([meant_P, others_N]))[: len(meant_P)]
    above = rank_N.sum() - len(meant_P) * (len(meant_P) + 1) / 2
    return float(above / (len(meant_P) * len(others_N)))


_HEADER = (
    "irrelevant",
    "swapped",
    "draws",
    "teacher",
    "MKE",
    "labels only",
    "ours",
    "ours, weighed",
    "difference",
    "weighed in",
    "found / true share",
    *(f"{kind}: log ratio, energy, max softmax, weight" for kind in KINDS),
)


def row_of(spoiling: Spoiling, draws: Sequence[Draw]) -> str:
    """Return one row of the table."""
    arms = {arm: np.asarray([one.arms[arm] for one in draws]) for arm in draws[0].arms}
    certain = [one.open_set for one in draws if one.open_set and one.open_set["is_certain"]]
    num_swapped = spoiling.swapped * (1 - 1 / NUM_KNOWN)  # others got the sound of the same digit
    true = spoiling.irrelevant + (1 - spoiling.irrelevant) * num_swapped
    difference_N = arms["weighed"] - arms["mm_student"]
    found = np.mean([one["share"] for one in certain]) if certain else 0.0
    cells = [
        f"{spoiling.irrelevant:.0%} ({spoiling.kind})",
        f"{spoiling.swapped:.0%}",
        str(len(draws)),
        *(f"{100 * arms[arm].mean():.1f}" for arm in ARMS),
        f"{100 * arms['weighed'].mean():.1f}",
        ", ".join(f"{100 * one:+.1f}" for one in difference_N),
        f"{len(certain)} of {len(draws)}",
        f"{found:.0%} / {true:.0%}",
        *(_aurocs(draws, kind) for kind in KINDS),
    ]
    return "| " + " | ".join(cells) + " |"


def _aurocs(draws: Sequence[Draw], kind: str) -> str:
    """Return the mean over draws of every score, "-" where there is none."""
    shown = []
    for name in ("log ratio", "energy", "max softmax", "weight"):
        found = [one.aurocs[kind][name] for one in draws if name in one.aurocs.get(kind, {})]
        shown.append(f"{np.mean(found):.2f}" if found else "-")
    return ", ".join(shown)


if __name__ == "__main__":
    main()
