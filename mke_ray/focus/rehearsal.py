"""The rehearsal behind ``dry_run=true`` of a study: every fit takes one step, nothing is kept."""

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch

from mke_ray.config import build
from mke_ray.config_schema import JobConfig
from mke_ray.data.sources import Previewed, Source
from mke_ray.focus.carrying import LOCAL
from mke_ray.focus.channels import num_kept_of
from mke_ray.focus.distilling import measured
from mke_ray.focus.draw import Draw, batches_of, decode_of, labelled_samples
from mke_ray.focus.gaussian import carry_out
from mke_ray.focus.gaussian_study import works_of
from mke_ray.focus.left_out import LeftOut
from mke_ray.focus.saliency import MIN_ROWS
from mke_ray.focus.samples import source_batches, taken
from mke_ray.models.device import training_device
from mke_ray.schema import Batch, Split

NUM_SAMPLES = 2


def rehearse_draw(job: JobConfig) -> list[str]:
    """Read two samples to train on and two to test, and take one step of every fit of a draw.

    Channels are ranked on the two samples again and again, which says nothing but that it works.
    With ``scaling.launch=local`` it is done on the device of the run, else on a CPU.

    Args:
        job: Configuration of the draw.

    Returns:
        What was done, in lines.

    Raises:
        ConfigError: No sample can be used, or the layer has no channels to choose from.
    """
    short = replace(
        job,
        fit=replace(job.fit, num_steps=1),
        focus=replace(job.focus, num_permutations=1),
    )
    with tempfile.TemporaryDirectory(prefix="mke_ray_dry_run_") as scratch:
        record = measured(_small_draw(short, scratch))
    num = len(record["saliency"])
    return [
        f"samples         {record['num_train']} to train on and {record['num_test']} to test were "
        "read",
        f"rehearsal       one step of every fit; layer {job.focus.layer} has {num} channels, of "
        f"which {num_kept_of(num, job.focus.kept)} are kept",
    ]


def rehearse_gaussian(job: JobConfig) -> list[str]:
    """Draw a few samples of one seed, and take one step of every fit of the synthetic study.

    Args:
        job: The configuration.

    Returns:
        What was done, in lines.
    """
    keys = job.focus.gaussian
    small = replace(keys, num_seeds=1, num_train=MIN_ROWS, num_test=NUM_SAMPLES, num_steps=1)
    focus = replace(job.focus, gaussian=small, num_permutations=1)
    records = [one for work in works_of(replace(job, focus=focus)) for one in carry_out(work)]
    return [f"rehearsal       one step of every fit of one seed in each of {len(records)} settings"]


def _small_draw(job: JobConfig, scratch: str) -> Draw:
    """Return a draw of very few samples; of a source that makes its own, a few made in scratch."""
    source: Source = build(job.source)
    source = source.preview(scratch) if isinstance(source, Previewed) else source
    device = training_device(job.scaling.gpus_per_worker if job.scaling.launch == LOCAL else 0.0)
    train, test = (
        _few(job, source, splits).to(device) for splits in (job.focus.splits, [Split.TEST])
    )
    again = taken(train, torch.arange(MIN_ROWS) % train.num_samples)
    return Draw(job, train, test, lambda: iter([again]), source.label_space.num_classes)


def _few(job: JobConfig, source: Source, splits: Sequence[str]) -> Batch:
    """Return the first samples of some splits that can be used."""
    left_out = LeftOut()
    batches = _batches(job, source, splits, left_out)
    return labelled_samples(job, batches, splits, left_out=left_out, most=NUM_SAMPLES)


def _batches(
    job: JobConfig, source: Source, splits: Sequence[str], left_out: LeftOut
) -> Iterator[Batch]:
    """Yield samples of some splits, those of a source very few at a time."""
    decode = decode_of(job)
    if job.focus.samples is not None:
        num_classes = source.label_space.num_classes
        return batches_of(job, decode, splits, num_classes, left_out=left_out)
    return source_batches(source, decode, splits, left_out=left_out, rows_at_once=NUM_SAMPLES)
