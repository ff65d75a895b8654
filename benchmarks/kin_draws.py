"""One draw of a setting as plain tensors: whole runs of ours, and what its kin learn from."""

# N samples, C classes, D features.

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from hydra import compose, initialize_config_dir
from torch import Tensor

from mke_ray.config import jobs_from, register_schema
from mke_ray.config_schema import JobConfig
from mke_ray.data.codec import empty_modality
from mke_ray.data.manifest import Manifest
from mke_ray.evaluation.predictions import stored_batch
from mke_ray.expansion.checks import open_run
from mke_ray.expansion.draws import inside_one_task
from mke_ray.expansion.run import Run
from mke_ray.expansion.stages import Labels, known_labels, known_teacher
from mke_ray.expansion.whole import run_stages
from mke_ray.labels.derived import logits_of
from mke_ray.labels.probe import SELECT, probe_part
from mke_ray.labels.sample_reader import sample_reader
from mke_ray.schema import Split
from mke_ray.train.fits import FitSpec

REPOSITORY = Path(__file__).parents[1]
LEAST_SELECT = 20  # of fewer samples our recipe fits nothing


@dataclass(frozen=True, slots=True, eq=False)
class Samples:
    """Samples of one part of the data.

    Args:
        arrays: Per modality the features [N, D], zeros where a sample lacks it.
        present: Per modality whether a sample has it [N].
        truth_N: True classes; of unlabeled samples for counting alone.
        teacher_NC: Logits of the teacher.
        groups: Who or what each sample comes from.
    """

    arrays: Mapping[str, Tensor]
    present: Mapping[str, Tensor]
    truth_N: Tensor
    teacher_NC: Tensor
    groups: Sequence[str]

    def __len__(self) -> int:
        """Return the number of samples N."""
        return len(self.truth_N)

    def accuracy(self, answer_N: Tensor) -> float:
        """Return the share of right answers."""
        return float((answer_N == self.truth_N).double().mean())


@dataclass(frozen=True, slots=True, eq=False)
class Draw:
    """One draw of the data, with the teacher and the settings of our run.

    Args:
        unlabeled: Pairs of modalities without labels.
        labelled: The labelled split, in the teacher's modality alone.
        select: Labelled pairs of the select part of the probe.
        test: The test split.
        teacher_modality: What the teacher reads.
        spec: The fit of the published student, whose network, steps and optimizer all share.
        unimodal_head_hidden: Hidden layers of the head of a network of one modality.
        labelled_share: Weight of the labelled split, as a share of the unlabeled one's.
        paired_weight: Weight of each pair of the select part; 0 keeps them out of training.
        gains: What the arms of our run gained over the teacher on the test split.
    """

    unlabeled: Samples
    labelled: Samples
    select: Samples
    test: Samples
    teacher_modality: str
    spec: FitSpec
    unimodal_head_hidden: tuple[int, ...]
    labelled_share: float
    paired_weight: float
    gains: Mapping[str, float]

    @property
    def num_classes(self) -> int:
        """Number of classes C."""
        return self.unlabeled.teacher_NC.shape[1]

    @property
    def modalities(self) -> tuple[str, ...]:
        """Modalities of the student, the teacher's first."""
        names = sorted(self.spec.student["encoders"])
        return tuple(sorted(names, key=lambda name: name != self.teacher_modality))

    @property
    def hard(self) -> Tensor:
        """The teacher's labels of the unlabeled samples, one-hot."""
        return torch.eye(self.num_classes)[self.unlabeled.teacher_NC.argmax(dim=1)]

    @property
    def can_choose(self) -> bool:
        """Whether the select part is large enough to choose by, and no network learns from it."""
        return len(self.select) >= LEAST_SELECT and self.paired_weight == 0


def jobs_of(overrides: Sequence[str], *, num_draws: int, root: Path) -> list[JobConfig]:
    """Return the job of every draw, each to be carried out in this process."""
    register_schema()
    more = [f"data_seeds={num_draws}", f"root={root}", "objective=expansion"]
    with initialize_config_dir(str(REPOSITORY / "conf"), version_base="1.3"):
        jobs = jobs_from(compose("config", overrides=[*overrides, *more]))
    return [inside_one_task(job) for job in jobs]


def draw_of(job: JobConfig) -> Draw:
    """Carry out a whole run of ours where it is not there, and return its draw."""
    metrics = run_stages(job)
    gains = {arm: one["gain"] for arm, one in metrics["arms"].items() if arm != "teacher"}
    with open_run(job) as run:
        manifest = run.manifest()
        teacher = known_teacher(run, manifest)
        labels = known_labels(run, manifest, teacher)
        settings = run.trial_settings()
        parts = _parts(run, manifest, labels)
    return Draw(
        **parts,
        teacher_modality=job.teacher.modality,
        spec=settings.fits(["mke"], [job.seed])[0],
        unimodal_head_hidden=settings.unimodal_head_hidden,
        labelled_share=job.expansion.labelled_share,
        paired_weight=job.expansion.paired_weight,
        gains=gains,
    )


def _parts(run: Run, manifest: Manifest, labels: Labels) -> dict[str, Samples]:
    """Return the samples of every part, those of the probe that are of the select part alone."""
    fraction = run.job.gate.select_fraction
    found = {}
    for name, split in (
        ("unlabeled", Split.UNLABELED),
        ("labelled", Split.LABELLED),
        ("select", Split.PROBE),
        ("test", Split.TEST),
    ):
        samples = _read(run, manifest, labels, split)
        if name == "select":
            parts = [probe_part(one, select_fraction=fraction) for one in samples.groups]
            samples = picked(samples, [one for one, part in enumerate(parts) if part == SELECT])
        found[name] = samples
    others = [name for name in run.job.student.encoders if name != run.job.teacher.modality]
    found["labelled"] = hidden(found["labelled"], others)
    return found


def picked(samples: Samples, rows: Sequence[int]) -> Samples:
    """Return some of the samples."""
    chosen = torch.tensor(list(rows), dtype=torch.long)
    return Samples(
        {name: one[chosen] for name, one in samples.arrays.items()},
        {name: one[chosen] for name, one in samples.present.items()},
        samples.truth_N[chosen],
        samples.teacher_NC[chosen],
        [samples.groups[row] for row in rows],
    )


def hidden(samples: Samples, modalities: Sequence[str]) -> Samples:
    """Return the samples without some modalities."""
    present = dict(samples.present)
    for name in modalities:
        present[name] = torch.zeros_like(present[name])
    return Samples(samples.arrays, present, samples.truth_N, samples.teacher_NC, samples.groups)


def _read(run: Run, manifest: Manifest, labels: Labels, split: str) -> Samples:
    """Return all samples of a split with a true label, and the teacher's logits of them."""
    decode = {name: run.decode[name] for name in run.job.student.encoders}
    reader = sample_reader(labels.samples, run.root, None)
    num_classes = manifest.label_space.num_classes
    arrays: dict[str, list[Tensor]] = {
        name: [torch.from_numpy(empty_modality(spec))[None][:0]] for name, spec in decode.items()
    }
    present = {name: [torch.zeros(0, dtype=torch.bool)] for name in decode}
    truth: list[int] = []
    groups: list[str] = []
    logits = [np.zeros((0, num_classes))]
    for ref in manifest.unit_refs([split]):
        rows = manifest.read_unit(ref)
        used = [number for number, row in enumerate(rows) if row.labels and not row.mark]
        table = reader.read(ref.unit, [*reader.small_columns, *decode])
        unit, has = stored_batch(table, decode)
        for name in decode:
            arrays[name].append(unit[name][used])
            present[name].append(has[name][used])
        logits.append(logits_of(labels.labels.read(ref.unit), "logits", num_classes)[used])
        truth += [(rows[number].labels or (0,))[0] for number in used]
        groups += [rows[number].group for number in used]
    return Samples(
        {name: torch.cat(some) for name, some in arrays.items()},
        {name: torch.cat(some) for name, some in present.items()},
        torch.tensor(truth, dtype=torch.long),
        torch.from_numpy(np.concatenate(logits)).float(),
        groups,
    )
