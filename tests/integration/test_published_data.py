"""Every experiment on a published data set, through every stage on tiny files of its layout."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from composed import composed
from published_data import (
    SMOKE,
    write_audioset,
    write_av_mnist_arrays,
    write_mm_imdb,
    write_mm_imdb_hdf5,
    write_nyu,
    write_ravdess,
    write_vggsound,
)

from mke_ray.data.mm_imdb import GENRES
from mke_ray.errors import StoreError
from mke_ray.expansion import expand
from mke_ray.expansion.whole import run_stages


def write_films_and_tokenizer(folder: Path) -> list[str]:
    """Write MM-IMDB, and beside it a language model with its tokenizer."""
    pytest.importorskip("transformers", reason="the extra transformers is not installed")
    from tiny_pretrained import save_bert

    write_mm_imdb(folder)
    save_bert(folder.parent / "bert", id2label={number: str(number) for number in range(23)})
    return [f"decode.plot.tokenizer={folder.parent / 'bert'}"]


RANKING, F1 = ("map", "mauc", "d_prime"), ("f1_micro", "f1_macro", "f1_weighted", "f1_samples")
FURTHER = {
    "vggsound": (*RANKING, "f1_macro", "f1_weighted"),
    "audioset": (*RANKING, *F1),
    "mm_imdb": (*RANKING, *F1),
    "mm_imdb_tokens": (*RANKING, *F1),
}
COUNTS = ("ok", "partial", "bad")
SETS: dict[str, tuple[Callable[[Path], list[str] | None], list[str], tuple[int, ...]]] = {
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
    "av_mnist_arrays": (
        write_av_mnist_arrays,
        ["source.labelled=0.3", "source.num_probe=20"],
        (86, 0, 0),
    ),
    "mm_imdb_tokens": (write_films_and_tokenizer, ["source.labelled=0.4"], (76, 2, 0)),
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
    found = write(tmp_path / "data") or []
    job = smoke(experiment, tmp_path / "data", *more, *overrides, *found)
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


def test_a_text_classifier_teaches_what_a_student_of_pretrained_weights_learns(tmp_path):
    found = write_films_and_tokenizer(tmp_path / "data")
    bert = tmp_path / "bert"
    overrides = [
        "teacher=pretrained_text",
        "teacher.modality=plot",
        "teacher.network.kind=multi",
        f"teacher.network.path={bert}",
        f"student.encoders.plot.path={bert}",
        "student.encoders.plot.config=null",
        "student.encoders.plot.trainable=last_1",
    ]
    with pytest.raises(StoreError, match=r"classes \['0', '1'.*they have to be the same"):
        run_stages(smoke("mm_imdb_tokens", tmp_path / "data", *found, *overrides))
    table = {str(number): genre for number, genre in enumerate(GENRES)}
    inner = f"path: {bert}, modality: plot, kind: multi"
    (tmp_path / "table.yaml").write_text(yaml.safe_dump(table))
    overrides[:4] = [
        "teacher=mapped",
        "teacher.modality=plot",
        f"+teacher.network.teacher={{_target_: mke_ray.models.text.TextTeacher, {inner}}}",
        f"teacher.network.table={tmp_path / 'table.yaml'}",
    ]
    metrics = run_stages(smoke("mm_imdb_tokens", tmp_path / "data", *found, *overrides))
    assert metrics["counts"]["partial"] == 2 and metrics["arms"]["teacher"]["num_test"] == 16
