"""Every experiment on a published data set, through every stage on tiny files of its layout."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from composed import composed
from published_data import (
    SMOKE,
    write_audioset,
    write_mm_imdb,
    write_mm_imdb_hdf5,
    write_nyu,
    write_ravdess,
    write_vggsound,
)

from mke_ray.expansion import expand
from mke_ray.expansion.whole import run_stages

RANKING, F1 = ("map", "mauc", "d_prime"), ("f1_micro", "f1_macro", "f1_weighted", "f1_samples")
FURTHER = {
    "vggsound": (*RANKING, "f1_macro", "f1_weighted"),
    "audioset": (*RANKING, *F1),
    "mm_imdb": (*RANKING, *F1),
}
COUNTS = ("ok", "partial", "bad")
SETS: dict[str, tuple[Callable[[Path], None], list[str], tuple[int, ...]]] = {
    "ravdess": (
        write_ravdess,
        ["source.splits={labelled: 2, probe: 2, unlabeled: rest, test: 1}"],
        (62, 1, 1),
    ),
    "vggsound": (write_vggsound, ["source.labelled=0.3", "source.probe=0.3"], (66, 0, 0)),
    "audioset": (write_audioset, [], (91, 0, 0)),
    "nyu_depth_v2": (
        write_nyu,
        ["source.labelled=6", "source.probe=10", "gate.min_samples=1", "doubles.enabled=false"],
        (34, 6, 0),
    ),
    "mm_imdb": (write_mm_imdb, ["source.labelled=0.4"], (76, 2, 0)),
    "mm_imdb source=mm_imdb_hdf5": (
        write_mm_imdb_hdf5,
        ["source.labelled=0.4", "source.parts=[40,24,16]", "decode.plot.num_features=300"],
        (80, 0, 0),
    ),
}


def smoke(experiment: str, folder: Path, *overrides: str) -> Any:
    """Return the job that the documentation names for two cores."""
    (job,) = composed(
        f"experiment={experiment}",
        f"+smoke={experiment}",
        f"source.root={folder}",
        f"root={folder.parent / 'run'}",
        *SMOKE,
        *overrides,
    )
    return job


@pytest.mark.parametrize("named", SETS)
def test_an_experiment_passes_a_dry_run_and_a_short_run(named, tmp_path, capsys):
    write, overrides, counts = SETS[named]
    experiment, *more = named.split()
    write(tmp_path / "data")
    job = smoke(experiment, tmp_path / "data", *more, *overrides)
    expand([replace(job, dry_run=True)])
    assert "nothing was written" in " ".join(capsys.readouterr().out.split())
    assert not (tmp_path / "run").exists()
    metrics = run_stages(job)
    assert tuple(metrics["counts"][name] for name in COUNTS) == counts
    assert {"teacher", "mm_student", "mke", "noisy_student"} <= set(metrics["arms"])
    assert metrics["arms"]["mke"]["num_test"]
    page = (tmp_path / "run" / "report" / "index.html").read_text()
    for arm in metrics["arms"].values():
        assert tuple(arm.get("further", {})) == FURTHER.get(experiment, ())
    assert ("mAUC" in page) == (experiment in FURTHER)
