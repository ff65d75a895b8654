"""What networks say of samples, and the labels derived from it, computed where not there yet."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from mke_ray.data.manifest import Manifest, UnitRef
from mke_ray.evaluation import PredictionPlan, run_predictions
from mke_ray.evaluation.packed import Packing
from mke_ray.expansion.compacting import compact_store
from mke_ray.expansion.run import Run
from mke_ray.expansion.stages import Labels
from mke_ray.expansion.work import (
    folder_name,
    is_little,
    light_runner,
    origin_of,
)
from mke_ray.labels.dense import DenseForm
from mke_ray.labels.derivations import Derivation
from mke_ray.labels.derived import DerivedPlan, derive
from mke_ray.labels.folds import FoldDivision
from mke_ray.labels.labelling import LocalRunner
from mke_ray.labels.lazy_runner import LazyRunner
from mke_ray.labels.store import UnitStore
from mke_ray.report.progress import stage_progress
from mke_ray.schema import Split
from mke_ray.train.fits import FitSpec, FitStore

ANSWERED_CLASSES = 2  # times as many classes of a pixel are kept of a witness as of a label


@dataclass(frozen=True, slots=True)
class Answers:
    """Asks networks, and derives labels from what they and the teachers say.

    Args:
        run: The run.
        manifest: Its samples.
        labels: The labels of the teachers.
    """

    run: Run
    manifest: Manifest
    labels: Labels

    def predicted(
        self,
        fits: Sequence[FitSpec],
        splits: Sequence[str],
        folds: FoldDivision | None = None,
        *,
        more: Sequence[UnitRef] = (),
    ) -> UnitStore:
        """Return what networks say of some splits, computed where it is not there.

        Args:
            fits: The networks.
            splits: The splits.
            folds: Folds of witnesses, which dense labels need.
            more: Further units.
        """
        run, store = self.run, FitStore(self.run.root)
        plan = PredictionPlan(
            root=run.root,
            samples=folder_name(self.labels.samples),
            decode=run.job.decode,
            students={one.fingerprint(): store.student_folder(one.fingerprint()) for one in fits},
            classes=run.classes(),
            device=run.labelling_device,
            origin=origin_of(run, run.job.labelling.num_cpus),
            packing=self._packing(folds),
        )
        refs = [*self.manifest.unit_refs(splits), *more]
        run.refer(f"predictions/{plan.name}")
        runner = light_runner(plan, refs) or LazyRunner(run.working_runner)
        with stage_progress(f"ask {fits[0].name.partition('/')[0]}", unit="samples") as progress:
            said = run_predictions(plan, refs, runner=runner.run, progress=progress)
        return compact_store(run, said, refs)

    def derived(
        self,
        said: UnitStore | None,
        derivation: Derivation,
        splits: Sequence[str] = (Split.UNLABELED, Split.PROBE, Split.TEST),
        *,
        weighed: UnitStore | None = None,
        refs: Sequence[UnitRef] | None = None,
    ) -> UnitStore:
        """Return labels derived from what networks said, computed where they are not there.

        Args:
            said: What networks said; None where only teachers did.
            derivation: How labels are made.
            splits: Splits that get labels.
            weighed: Labels whose weights these take over.
            refs: Units that get labels, in the place of ``splits``.
        """
        more = {folder_name(one): one for one in self.labels.more.values()}
        args = (self.run.root, self.manifest, self.labels.labels, said, derivation)
        plan = DerivedPlan(*args, weighed=weighed, more=more)
        self.run.refer(f"labels/{plan.name}")
        refs = list(self.manifest.unit_refs(splits) if refs is None else refs)
        with stage_progress("refine labels", unit="samples") as progress:
            runner = (
                LocalRunner()
                if is_little(refs)
                else LazyRunner(self.run.working_runner, is_light=True)
            )
            made = derive(plan, refs, runner=runner, progress=progress)
        return compact_store(self.run, made, refs)

    def _packing(self, folds: FoldDivision | None) -> Packing | None:
        """Return how answers are kept where labels are dense; None where they are not."""
        form = DenseForm.of_spec(self.labels.labels.spec)
        if form is None:
            return None
        top_k = min(form.num_classes, ANSWERED_CLASSES * form.top_k)
        return Packing(replace(form, top_k=top_k), self.manifest, folds)
