"""What a labelling pass says of every teacher: its store, and how good its labels are."""

# N samples of the select part.

from collections.abc import Iterator

from mke_ray.data.manifest import Manifest
from mke_ray.expansion.run import Run
from mke_ray.expansion.stages import Labels
from mke_ray.labels.probe import SELECT, probe_part
from mke_ray.labels.store import UnitStore
from mke_ray.metrics import accuracy, mean_average_precision
from mke_ray.schema import LabelKind, LabelSpace, Split


def teacher_lines(run: Run, manifest: Manifest, labels: Labels) -> Iterator[str]:
    """Yield a line per teacher, with its value on the select part of the probe where that tells.

    Neither the gate part nor the test set is looked at.

    Args:
        run: The run.
        manifest: Its manifest, with the marks of copies.
        labels: What the pass left behind.
    """
    for name, store in {"teacher": labels.labels, **labels.more}.items():
        value = select_value(store, manifest, select_fraction=run.job.gate.select_fraction)
        yield f"{name}: labels in {store.root.uri}{f', {value}' if value else ''}"


def select_value(store: UnitStore, manifest: Manifest, *, select_fraction: float) -> str:
    """Return how good the labels of a store are on the select part, "" where nobody can tell.

    Args:
        store: A label store.
        manifest: The manifest; marked rows do not count.
        select_fraction: Share of the probe's groups that is the select part.
    """
    space = manifest.label_space
    if space.kind not in (LabelKind.SINGLE, LabelKind.MULTI):
        return ""
    logits, truths, is_single = [], [], space.kind is LabelKind.SINGLE
    for ref in manifest.unit_refs([Split.PROBE]):
        said = store.read(ref.unit, columns=["logits"]).column("logits").to_pylist()
        for row, logits_C in zip(manifest.read_unit(ref), said, strict=True):
            is_select = probe_part(row.group, select_fraction=select_fraction) == SELECT
            has_truth = bool(row.labels) if is_single else row.labels is not None
            is_known = has_truth and logits_C is not None and not row.mark
            if is_select and is_known:
                logits.append(logits_C)
                truths.append(row.labels)
    if not logits:
        return ""
    return f"{_measured(logits, truths, space)} on {len(logits)} samples of the probe's select part"


def _measured(logits: list[list[float]], truths: list[tuple[int, ...]], space: LabelSpace) -> str:
    """Return the metric of a label space, for a person."""
    if space.kind is LabelKind.SINGLE:
        said = [max(range(space.num_classes), key=logits_C.__getitem__) for logits_C in logits]
        return f"accuracy {accuracy(said, [one[0] for one in truths]):.3f}"
    truth_NC = [[int(number in one) for number in range(space.num_classes)] for one in truths]
    return f"mAP {mean_average_precision(logits, truth_NC):.3f}"
