"""The stage that says, after the first few thousand labels, whether a student is to be expected."""

import logging
from dataclasses import asdict, dataclass
from typing import Any

from mke_ray.config_preflight import OFF, STOP
from mke_ray.data.manifest import Manifest, UnitRef, evenly
from mke_ray.expansion.doubles import doubles_stage
from mke_ray.expansion.findings import REFINE_FOLDER, kept, known
from mke_ray.expansion.preflight_trial import Looking
from mke_ray.expansion.run import Run
from mke_ray.expansion.stages import Labels, TaughtTeacher, label_some
from mke_ray.expansion.witnesses import teachers_of, witnessed
from mke_ray.expansion.work import folder_name
from mke_ray.focus.preflight import Finding, Preflight, Verdict, judge
from mke_ray.focus.preflight_page import write_preflight
from mke_ray.labels.doubles import TAUGHT_SPLITS
from mke_ray.schema import LabelKind, Split, fingerprint

logger = logging.getLogger(__name__)

_VERSION = 2


@dataclass(frozen=True, slots=True)
class Labelled:
    """What there is when a run is looked at.

    Args:
        manifest: The samples.
        labels: The labels of the first of them, or of all.
        teacher: The teacher.
    """

    manifest: Manifest
    labels: Labels
    teacher: TaughtTeacher


def is_wanted(run: Run) -> bool:
    """Return whether a run is looked at ahead: the published student alone has no witnesses."""
    return run.job.preflight.mode != OFF and run.job.expansion.enabled


def first_units(run: Run, manifest: Manifest) -> list[UnitRef] | None:
    """Return the unlabeled units that a pre-flight looks at, None where that is all of them."""
    refs = list(manifest.unit_refs([Split.UNLABELED]))
    some = evenly(refs, run.job.preflight.samples)
    return None if len(some) == len(refs) else some


def preflight_ahead(run: Run, manifest: Manifest, teacher: TaughtTeacher) -> Preflight | None:
    """Label the first samples and look ahead, before the rest is labelled.

    Returns:
        None where nobody asks, or where all samples are so few that they are labelled first.
    """
    if not is_wanted(run) or (refs := first_units(run, manifest)) is None:
        return None
    ahead = [*manifest.unit_refs(TAUGHT_SPLITS), *refs]
    labels = label_some(run, manifest, teacher, ahead, "label for the pre-flight")
    manifest, _ = doubles_stage(run, manifest)
    return _looked(run, Labelled(manifest, labels, teacher), refs)


def preflight_of_all(run: Run, labelled: Labelled) -> Preflight | None:
    """Look ahead where all samples are labelled: the witnesses are those of the first round.

    Returns:
        None where nobody asks.
    """
    return _looked(run, labelled, None) if is_wanted(run) else None


def known_preflight(run: Run, labelled: Labelled) -> Preflight | None:
    """Return what a pre-flight of these labels and keys found, None where there is none."""
    if not is_wanted(run):
        return None
    found = known(run.root.child(REFINE_FOLDER), _made_of(run, labelled))
    return None if found is None else _judged(run, Finding(**found))


def is_to_stop(run: Run, found: Preflight) -> bool:
    """Return whether a run ends with its pre-flight."""
    return run.job.preflight.mode == STOP and found.verdict == Verdict.NO_GO


def named(run: Run) -> dict[str, Any]:
    """Return the modalities of teacher and witnesses, as pages and figures take them."""
    return {"teacher": run.job.teacher.modality, "witnesses": witnessed(run.job)}


def what_follows(run: Run, found: Preflight) -> str:
    """Say what becomes of a run after its pre-flight."""
    if is_to_stop(run, found):
        return (
            "The run ends here (preflight=stop), before more is labelled and trained. "
            "preflight=warn goes on all the same; what is labelled is kept."
        )
    return f"The run goes on (preflight={run.job.preflight.mode}); the gate has the last word."


def _looked(run: Run, labelled: Labelled, refs: list[UnitRef] | None) -> Preflight:
    """Look ahead, unless that was done, and say what was found."""
    with run.clock.stage("preflight"):
        looking = Looking(run, labelled.manifest, labelled.labels, labelled.teacher, refs)
        made_of = _made_of(run, labelled)
        plain = kept(run.root.child(REFINE_FOLDER), made_of, lambda: asdict(looking.finding()))
    found = _judged(run, Finding(**plain))
    page = _written(run, found)
    say = logger.warning if found.verdict == Verdict.NO_GO else logger.info
    say("pre-flight: %s", found.said)
    if not is_to_stop(run, found):
        for reason in found.reasons:
            logger.info("  %s", reason)
        logger.info("pre-flight: %s", page)
    return found


def _written(run: Run, found: Preflight) -> str:
    """Write the page if it is not there, and return where it is."""
    run.check_lease()
    return write_preflight(
        run.root, found, name=run.job.name, **named(run), end=what_follows(run, found)
    )


def _judged(run: Run, found: Finding) -> Preflight:
    """Return what a finding says of a run."""
    keys = run.job.preflight
    return judge(found, worth=keys.worth, certainty=keys.certainty, caveat=_caveat(run))


def _caveat(run: Run) -> str:
    """Return why the prediction of a gain does not hold for a run, "" where it does."""
    if run.source.label_space.kind != LabelKind.SINGLE:
        metric = "pixels" if run.source.label_space.kind == LabelKind.DENSE else "several classes"
        return (
            "How gains are predicted was measured on samples of one class alone, not on labels of "
            f"{metric}."
        )
    if more := teachers_of(run.job)[1:]:
        return (
            f"The other teachers ({', '.join(more)}) are not looked at, so that more may be gained."
        )
    return ""


def _made_of(run: Run, labelled: Labelled) -> list[Any]:
    """Return what a finding follows from.

    Not which unlabeled samples there are: a bucket that grows is not looked at again and again.
    """
    settings, keys = run.trial_settings(num_select=1), run.job.preflight
    return [
        folder_name(labelled.labels.labels),
        "preflight",
        _VERSION,
        labelled.teacher.fit,
        labelled.manifest.digest([Split.PROBE]),
        run.job.gate.select_fraction,
        fingerprint(asdict(settings)),
        [keys.samples, keys.epochs, run.job.seed],
        asdict(run.job.expansion),
    ]
