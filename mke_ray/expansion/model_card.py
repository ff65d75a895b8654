"""The model card of a promoted student: what it is, what it was compared with, and its limits."""

from collections.abc import Iterator

from mke_ray import __version__
from mke_ray.evaluation import TEACHER
from mke_ray.evaluation.results import ArmResult
from mke_ray.expansion.outcome import Outcome
from mke_ray.expansion.run import Run
from mke_ray.expansion.teacher_words import teacher_words
from mke_ray.labels.counts import counts_in_use
from mke_ray.report.style import arm_title
from mke_ray.report.terminal import counts_line
from mke_ray.schema import LabelKind
from mke_ray.train.arms import EXPANSION_ARM

_KINDS = {
    LabelKind.SINGLE: "one class for each sample",
    LabelKind.MULTI: "any number of classes for each sample",
    LabelKind.DENSE: "one class for each pixel",
}
_MOST_CLASSES = 50


def model_card(run: Run, outcome: Outcome, *, temperature: float) -> str:
    """Return the model card of an exported student, in Markdown.

    Args:
        run: The run.
        outcome: What was found.
        temperature: Temperature of the student.
    """
    parts = [
        f"# Multimodal student of the run {run.job.name!r}",
        *_what_it_is(run, outcome, temperature),
        "## Verdict",
        outcome.decision.reason,
        "## Compared on the test set",
        *_arms(outcome),
        "## Data",
        *_data(run, outcome),
        "## Intended use and limits",
        *_limits(run, outcome),
        "## How to use it",
        _USE,
        f"Made by mke_ray {__version__}.",
    ]
    return "\n\n".join(parts) + "\n"


_USE = """```python
from mke_ray.data.one_sample import read_sample
from mke_ray.models import load_student

loaded = load_student("path/of/this/folder")
arrays, present = read_sample("clip.mp4", loaded.decode)
logits = loaded.student(arrays, present)
probabilities = loaded.probabilities(logits)  # calibrated by loaded.temperature
```

`arrays` holds per modality what `loaded.decode` says of it, `present` whether the sample has it;
modalities in files of their own are named, `read_sample({"image": "a.jpg"}, loaded.decode)`. Over
a whole bucket: `jobs/predict.py student.path=path/of/this/folder source.root=BUCKET root=OUT`."""


def _what_it_is(run: Run, outcome: Outcome, temperature: float) -> Iterator[str]:
    """Yield what the student reads and answers."""
    space = outcome.manifest.label_space
    named = ", ".join(space.classes[:_MOST_CLASSES])
    num_more = space.num_classes - _MOST_CLASSES
    more = f" and {num_more} more (student.json)" if num_more > 0 else ""
    yield (
        f"Reads {', '.join(run.job.student.encoders)}; a missing modality is allowed. Answers with "
        f"{_KINDS[space.kind]}. Classes: {named}{more}."
    )
    yield (
        f"{_origin(outcome)} {teacher_words(run.job.teacher)} Its logits are divided by the "
        f"temperature {temperature:.3g} to give probabilities."
    )


def _arms(outcome: Outcome) -> Iterator[str]:
    """Yield a table of the arms."""
    metric = outcome.evaluation.metric
    lines = [f"| arm | {metric} | 95% interval | gain | 95% interval |", "|---|---|---|---|---|"]
    for name, arm in outcome.evaluation.arms.items():
        gain = ("", "") if name == TEACHER else (f"{100 * arm.gain:+.1f}", _of(arm.gain_ci95, "+"))
        row = [arm_title(name), f"{arm.value:.1%}", _of(arm.ci95), *gain]
        lines.append(f"| {' | '.join(row)} |")
    yield "\n".join(lines)
    shipped = outcome.evaluation.arms[_shipped(outcome)]
    first = next(iter(shipped.seeds.values()), shipped.value)
    yield (
        f"This network alone: {first:.1%}, on {shipped.num_test} samples of {shipped.num_groups} "
        "groups; samples of one group are not independent, and intervals are over groups."
    )


def _data(run: Run, outcome: Outcome) -> Iterator[str]:
    """Yield what it was trained and tested with."""
    manifest, labels = outcome.manifest, outcome.labels
    counts = counts_in_use(labels.samples, manifest, labels.report.samples)
    splits = ", ".join(f"{number:,} {split}" for split, number in manifest.meta["counts"].items())
    source = str(run.job.source.get("_target_", "")).rpartition(".")[2]
    yield f"{source}: {splits}. {counts_line(counts)}"
    if outcome.doubles is not None:
        yield (
            f"{outcome.doubles.num_excluded} samples that occur in several splits were left out of "
            "training."
        )


def _limits(run: Run, outcome: Outcome) -> Iterator[str]:
    """Yield what it is for, and what it was not shown to do."""
    yield (
        f"For samples like those of the data above: what it does on others was not measured. The "
        f"gate compared it with its teacher on the labelled samples that there were, so errors "
        f"that its teacher, the labels and the probe share are not seen; classes other than these "
        f"{outcome.manifest.label_space.num_classes} get one of them."
    )
    found = outcome.contribution
    if found is not None:
        alone = [
            f"{', '.join(one.modalities)} alone: {one.value:.1%}"
            for one in found.parts
            if len(one.modalities) < len(found.modalities)
        ]
        yield f"With all modalities {found.whole.value:.1%} on the test set; {'; '.join(alone)}."
        if not found.knows_gaps:
            yield "No modality was missing in its training: with one missing it is less sure."
    unfair = "; ".join(
        f"{arm_title(name)} {arm.value:.1%}" for name, arm in _better(outcome) if name != TEACHER
    )
    if unfair:
        yield f"Better on the test set than this student: {unfair}."


def _better(outcome: Outcome) -> Iterator[tuple[str, ArmResult]]:
    """Yield the arms that are better than the student."""
    arms = outcome.evaluation.arms
    mine = arms[_shipped(outcome)].value
    yield from ((name, arm) for name, arm in arms.items() if arm.value > mine)


def _shipped(outcome: Outcome) -> str:
    """Return the arm that is shipped."""
    assert outcome.compared is not None  # an evaluated run compared something
    return outcome.compared.shipped


def _of(ci95: tuple[float, float] | None, sign: str = "") -> str:
    """Return an interval in points."""
    return "" if ci95 is None else f"{100 * ci95[0]:{sign}.1f} to {100 * ci95[1]:{sign}.1f}"


def _origin(outcome: Outcome) -> str:
    """Say what a student was trained on."""
    if outcome.refined is None:
        return (
            "Trained without labels from the teacher's pseudo-labels by multimodal knowledge "
            "expansion (Xue et al., ICCV 2021)."
        )
    shipped = next(one for one in outcome.fits if one.arm == EXPANSION_ARM)
    true_of = {str(row.split) for row in shipped.rows if row.targets == "true"}
    more = {
        "labelled": "the labelled samples in the teacher's modality",
        "probe": "the labelled pairs of the select part of the probe",
    }
    also = [words for split, words in more.items() if split in true_of]
    return (
        "Trained on the teacher's pseudo-labels, refined by witnesses of the other modalities"
        + "".join(f", and on {words}" for words in also)
        + "."
    )
