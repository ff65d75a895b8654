import json
import math
from dataclasses import replace

import pytest
import torch
from training_stores import STUDENT, fit_spec, make_run

from mke_ray.errors import ConfigError, DeviceMemoryError, StoreError, TrainingError
from mke_ray.schema import Batch
from mke_ray.storage import open_root
from mke_ray.train.accumulation import StepRules
from mke_ray.train.assemble import Workplace, assemble
from mke_ray.train.checkpoints import open_checkpoint, read_state, write_state
from mke_ray.train.fits import FitStore, RowSelection
from mke_ray.train.launch import run_fits
from mke_ray.train.loop import FitState, apply_views, fit, is_due, logged_every
from mke_ray.train.non_finite import LEFT_OUT
from mke_ray.train.progress import StepCounts
from mke_ray.train.run import FitWatch, fit_facts, run_fit
from mke_ray.train.scaling import Scaling, check_fits

NOISY = {"_target_": "mke_ray.objectives.MKEObjective", "alpha": 1.0}
TORCH = {"type": "torch"}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = open_root(str(tmp_path_factory.mktemp("run")))
    make_run(root, {"labelled": 20, "unlabeled": 90, "probe": 40, "test": 9})
    return root


@pytest.fixture
def fresh(tmp_path):
    root = open_root(str(tmp_path))
    make_run(root, {"unlabeled": 40, "probe": 24})
    return root


def train(spec, root, *, state=None, parts=None, checkpoints=None, every=0):
    parts = parts or assemble(spec, Workplace(root, TORCH))
    watch = FitWatch(spec, None, checkpoints, log_every_steps=5, checkpoint_every_steps=every)
    return parts, fit(spec, parts, state=state or FitState(), watch=watch)


def same_weights(one, other):
    mine, theirs = one.engine.weights(), other.engine.weights()
    return all(torch.equal(mine[name], theirs[name]) for name in mine)


def test_training_lowers_the_loss_and_learns_the_teachers_labels(root):
    spec = fit_spec(num_steps=150, optimizer={"type": "adamw", "lr": 2e-2})
    _, state = train(spec, root)
    losses = [record["loss"] for record in state.history]
    assert losses[-1] < 0.3 * losses[0]


def test_a_modality_that_the_first_rows_do_not_show_is_normalised_all_the_same(tmp_path):
    root = open_root(str(tmp_path))
    make_run(root, {"labelled": 400, "probe": 16})
    rows = (
        RowSelection("labelled", targets="true", modalities=("a",)),
        RowSelection("probe", targets="true"),
    )
    for seed in range(4):
        spec = fit_spec(rows=rows, labels=None, num_norm_samples=16, seed=seed)
        student = assemble(spec, Workplace(root, TORCH)).engine.module
        assert student.encoder("b").normaliser.mean.abs().min() > 0


def test_the_same_fit_twice_gives_the_same_weights_and_another_seed_others(root):
    student = {**STUDENT, "dropout": 0.3}
    spec = fit_spec(student=student, objective=NOISY)
    one, other = train(spec, root)[0], train(spec, root)[0]
    assert same_weights(one, other)
    assert not same_weights(one, train(replace(spec, seed=1), root)[0])


@pytest.mark.parametrize("ema_decay", [None, 0.9])
def test_a_fit_resumed_from_a_checkpoint_ends_with_the_same_weights(root, tmp_path, ema_decay):
    student = {**STUDENT, "dropout": 0.3}
    spec = fit_spec(student=student, objective=NOISY, num_steps=14, ema_decay=ema_decay)
    kept = Kept(tmp_path)
    whole, state = train(spec, root, checkpoints=kept, every=6)
    assert kept.folders == [tmp_path / "0", tmp_path / "1"]
    late = assemble(spec, Workplace(root, TORCH))
    resumed = read_state(open_checkpoint(tmp_path / "0"), spec.fingerprint(), late)
    assert resumed.cursor == 6
    _, end = train(spec, root, state=resumed, parts=late)
    assert same_weights(whole, late)
    if ema_decay:
        means = [one.average.over(one.engine.weights()) for one in (whole, late)]
        assert all(torch.equal(means[0][name], means[1][name]) for name in means[0])
    assert [r["loss"] for r in end.history] == [r["loss"] for r in state.history]


class Kept:
    """Keeps checkpoints in folders."""

    def __init__(self, folder, urgent_step=None):
        self.folder = folder
        self.folders = []
        self.urgent_step = urgent_step
        self.urgent = []

    def is_urgent(self, step):
        return step == self.urgent_step

    def save(self, write, *, is_urgent):
        self.urgent.append(is_urgent)
        folder = self.folder / str(len(self.folders))
        folder.mkdir()
        write(folder)
        self.folders.append(folder)


def test_a_checkpoint_is_made_at_once_where_a_node_is_about_to_go(root, tmp_path):
    kept = Kept(tmp_path, urgent_step=8)
    train(fit_spec(), root, checkpoints=kept, every=5)
    cursors = [json.loads((one / "state.json").read_text())["cursor"] for one in kept.folders]
    assert (cursors, kept.urgent) == ([5, 8, 10], [False, True, False])


def test_a_damaged_checkpoint_is_not_taken(root, tmp_path):
    spec = fit_spec()
    parts, state = train(spec, root)
    write_state(tmp_path, spec.fingerprint(), parts=parts, state=state)
    written = tmp_path / "engine/torch.pt"
    content = bytearray(written.read_bytes())
    content[len(content) // 2] ^= 1
    written.write_bytes(content)
    with pytest.raises(TrainingError, match=r"engine/torch\.pt is missing or not the file"):
        open_checkpoint(tmp_path)
    written.unlink()
    with pytest.raises(TrainingError, match=r"engine/torch\.pt is missing"):
        open_checkpoint(tmp_path)


def test_a_checkpoint_of_another_fit_is_not_taken(root, tmp_path):
    spec, other = fit_spec(), fit_spec(seed=9)
    parts, state = train(spec, root)
    write_state(tmp_path, spec.fingerprint(), parts=parts, state=state)
    written = open_checkpoint(tmp_path)
    assert read_state(written, other.fingerprint(), parts).cursor == 0
    assert read_state(written, spec.fingerprint(), parts).cursor == 12


def test_a_checkpoint_of_other_rows_is_not_taken(root, fresh, tmp_path_factory):
    spec = fit_spec()
    parts, state = train(spec, root)
    folder = tmp_path_factory.mktemp("checkpoint")
    write_state(folder, spec.fingerprint(), parts=parts, state=state)
    elsewhere = assemble(spec, Workplace(fresh, TORCH))
    assert read_state(open_checkpoint(folder), spec.fingerprint(), elsewhere).cursor == 0


def test_a_loss_that_is_not_finite_stops_before_the_step_and_names_its_samples(root):
    spec = fit_spec()
    parts = assemble(spec, Workplace(root, TORCH))
    before = parts.engine.weights()
    seen = []

    def objective(student, batch, progress):
        seen.append(batch.sample_id_B.tolist())
        loss = student(batch.arrays, batch.present).mean()
        return {"loss": loss * math.nan if len(seen) == 1 else loss}

    with pytest.raises(TrainingError, match="step 0") as error:
        train(spec, root, parts=replace(parts, objective=objective))
    assert str(seen[0][0]) in str(error.value)
    after = parts.engine.weights()
    assert all(torch.equal(before[name], after[name]) for name in before)


class SpoiltOnce:
    """A loss that is NaN in some calls; notes the samples of every call."""

    def __init__(self, *calls):
        self.calls, self.seen = calls, []

    def __call__(self, student, batch, progress):
        self.seen.append(batch.sample_id_B.tolist())
        loss = student(batch.arrays, batch.present).square().mean()
        return {"loss": loss * (math.nan if len(self.seen) - 1 in self.calls else 1.0)}


def with_rules(spec, root, **rules):
    return assemble(spec, Workplace(root, TORCH, rules=StepRules(**rules)))


def test_steps_within_the_budget_are_left_out_logged_and_counted(fresh, caplog):
    spec = fit_spec(num_steps=6, ema_decay=0.5)
    objective = SpoiltOnce(2, 4)
    parts = replace(with_rules(spec, fresh, skip_non_finite=2), objective=objective)
    parts, state = train(spec, fresh, parts=parts)
    left = [one for one in state.history if LEFT_OUT in one]
    assert [(one["step"], one[LEFT_OUT]) for one in left] == [(3, "loss"), (5, "loss")]
    assert left[0]["sample_ids"] == objective.seen[2]
    assert all(str(one) in caplog.text for one in objective.seen[2] + objective.seen[4])
    assert fit_facts(spec, parts, state=state, engine=TORCH)["num_left_out_steps"] == 2
    assert not any(torch.isnan(one).any() for one in parts.engine.weights().values())
    assert parts.average.over(parts.engine.weights())["output.bias"].isfinite().all()


def test_a_step_left_out_changes_nothing(fresh):
    spec = fit_spec(num_steps=3, ema_decay=0.5)
    parts = with_rules(spec, fresh, skip_non_finite=3)
    before = parts.engine.weights()
    parts = replace(parts, objective=SpoiltOnce(0, 1, 2))
    parts, state = train(spec, fresh, parts=parts)
    for after in (parts.engine.weights(), parts.average.over(before)):
        assert all(torch.equal(before[name], after[name]) for name in before)
    assert [one["step"] for one in state.history] == [1, 2, 3]


def test_the_first_step_over_the_budget_ends_the_fit_also_after_a_resume(fresh, tmp_path):
    spec = fit_spec(num_steps=6)
    parts = replace(with_rules(spec, fresh, skip_non_finite=1), objective=SpoiltOnce(1, 3))
    with pytest.raises(TrainingError, match=r"step 3 .*skip_non_finite=2 .*1 steps were left"):
        train(spec, fresh, parts=parts)
    parts = replace(with_rules(spec, fresh, skip_non_finite=1), objective=SpoiltOnce(0))
    state = FitState(4, 0.0, [{"step": 2, LEFT_OUT: "loss"}])
    with pytest.raises(TrainingError, match="step 4"):
        train(spec, fresh, parts=parts, state=state)


def test_only_the_samples_of_the_spoilt_micro_batch_are_named(fresh):
    spec = fit_spec()
    objective = SpoiltOnce(1)
    parts = replace(with_rules(spec, fresh, micro_batch=5), objective=objective)
    with pytest.raises(TrainingError) as error:
        train(spec, fresh, parts=parts)
    assert [len(one) for one in objective.seen] == [5, 5, 5, 1]
    named = [one for ids in objective.seen for one in ids if str(one) in str(error.value)]
    assert named == objective.seen[1]


def test_every_term_of_an_objective_is_the_same_in_micro_batches(fresh):
    terms = {"consistency_weight": 0.5, "unimodal_weight": 0.3, "modality_dropout": {"a": 0.5}}
    spec = fit_spec(num_steps=4, objective={**NOISY, "alpha": 0.0, **terms})
    whole, told = train(spec, fresh)
    cut, also = train(spec, fresh, parts=with_rules(spec, fresh, micro_batch=3))
    mine, theirs = whole.engine.weights(), cut.engine.weights()
    for name, weight in mine.items():
        torch.testing.assert_close(weight, theirs[name], rtol=0, atol=1e-5)
    for term in ("loss", "pseudo_label", "unimodal", "consistency"):
        assert also.history[-1][term] == pytest.approx(told.history[-1][term], rel=1e-3)


def test_validation_passes_are_no_larger_than_a_micro_batch(root):
    sizes = []
    parts = with_rules(fit_spec(validate_every_steps=5), root, micro_batch=7)
    parts.engine.module.output.register_forward_hook(lambda *one: sizes.append(len(one[2])))
    metrics = parts.validate(parts.engine.student.eval())
    assert max(sizes) == 7
    whole = assemble(fit_spec(validate_every_steps=5), Workplace(root, TORCH))
    assert metrics == pytest.approx(whole.validate(whole.engine.student.eval()), rel=1e-5)


def test_a_full_memory_is_answered_by_the_keys_that_help(fresh):
    def objective(student, batch, progress):
        raise torch.OutOfMemoryError("CUDA out of memory")

    spec = fit_spec()
    parts = replace(assemble(spec, Workplace(fresh, TORCH)), objective=objective)
    with pytest.raises(DeviceMemoryError, match=r"scaling\.micro_batch=8 .* 16 rows"):
        train(spec, fresh, parts=parts)


def test_the_objective_is_told_how_far_training_is(root):
    spec = fit_spec(num_steps=4)
    parts = assemble(spec, Workplace(root, TORCH))
    told = []

    def objective(student, batch, progress):
        told.append(progress)
        return {"loss": student(batch.arrays, batch.present).square().mean()}

    train(spec, root, parts=replace(parts, objective=objective))
    assert told == [0.0, 0.25, 0.5, 0.75]


def test_the_select_part_of_the_probe_is_looked_at_when_due(root):
    _, state = train(fit_spec(validate_every_steps=5), root)
    looks = {r["step"]: r["select_accuracy"] for r in state.history if "select_accuracy" in r}
    assert list(looks) == [5, 10, 12]
    assert all(0 <= value <= 1 for value in looks.values())


def test_looking_at_the_probe_does_not_change_training(root):
    student = {**STUDENT, "dropout": 0.3}
    one, _ = train(fit_spec(student=student), root)
    other, _ = train(fit_spec(student=student, validate_every_steps=2), root)
    assert same_weights(one, other)


def test_logged_steps_carry_loss_parts_rate_speed_and_wait(root):
    _, state = train(fit_spec(num_steps=52), root)
    assert [record["step"] for record in state.history] == [*range(5, 51, 5), 52]
    keys = {"loss", "pseudo_label", "lr", "grad_norm", "samples_per_s", "data_wait", "epoch"}
    assert keys <= set(state.history[0])
    assert 0 <= state.history[-1]["data_wait"] <= 1


def test_normalisation_comes_from_the_rows_that_the_fit_may_see(root):
    student = {**STUDENT, "encoders": {"a": STUDENT["encoders"]["a"]}}
    rows = (RowSelection("labelled", "true"),)
    spec = fit_spec(student=student, rows=rows, labels=None, global_batch=0)
    parts = assemble(spec, Workplace(root, TORCH))
    seen = parts.feed.item(0).batch.arrays["a"]
    normaliser = parts.engine.module.encoder("a").normaliser
    assert torch.allclose(normaliser.mean, seen.mean(0), atol=1e-5)


def test_views_are_drawn_from_the_sample_and_the_epoch_alone():
    def crop(x_BX, key_B):
        return x_BX + (key_B % 97)[:, None]

    batch = Batch(
        torch.tensor([5, 6]),
        {"a": torch.zeros(2, 1), "b": torch.zeros(2, 1)},
        {},
        torch.zeros(2, 2),
        torch.ones(2),
        epoch=1,
        seed=3,
    )
    seen = apply_views(batch, {"a": crop}).arrays
    flipped = replace(batch, sample_id_B=batch.sample_id_B.flip(0))
    assert torch.equal(seen["a"], apply_views(flipped, {"a": crop}).arrays["a"].flip(0))
    assert not torch.equal(seen["a"], apply_views(replace(batch, epoch=2), {"a": crop}).arrays["a"])
    assert not seen["b"].any()


def test_what_is_due_every_so_many_steps_comes_then_and_at_the_end():
    assert [s for s in range(10) if is_due(s, 4, num_steps=10)] == [3, 7, 9]
    assert [s for s in range(10) if is_due(s, 0, num_steps=10)] == [9]
    assert [s for s in range(10) if is_due(s, 4)] == [3, 7]


def test_finished_fits_are_stored_whole_and_not_trained_again(fresh):
    spec = fit_spec()
    told = []
    arguments = {"root": fresh, "launch": "local", "scaling": {}, "engine": TORCH}
    run_fits([spec], **arguments, progress=lambda *line: told.append(line))
    store = FitStore(fresh)
    facts = json.loads(store.student_folder(spec.fingerprint()).read("fit.json"))
    assert facts["num_steps"] == 12 and facts["world_size"] == 1
    assert told[-1][:2] == (12, 12)
    loaded = store.load(spec.fingerprint())
    parts, _ = train(spec, fresh)
    arrays = {"a": torch.ones(2, 3), "b": torch.ones(2, 2)}
    present = {"a": torch.ones(2, dtype=torch.bool), "b": torch.ones(2, dtype=torch.bool)}
    assert torch.equal(loaded.student(arrays, present), parts.engine.module.eval()(arrays, present))
    digest = store.weights_digest(spec.fingerprint())
    told.clear()
    run_fits([spec], **arguments, progress=lambda *line: told.append(line))
    assert not told and store.weights_digest(spec.fingerprint()) == digest


def test_the_running_mean_is_what_is_stored_where_the_fit_keeps_one(fresh):
    spec = fit_spec(ema_decay=0.9)
    run_fits([spec], root=fresh, launch="local", scaling={}, engine=TORCH)
    parts, _ = train(spec, fresh)
    stored = FitStore(fresh).weights(spec.fingerprint())
    expected = parts.average.over(parts.engine.weights())
    assert all(torch.equal(stored[name], expected[name]) for name in expected)


def test_a_fit_starts_from_the_encoders_of_another(fresh):
    teacher = fit_spec(student={**STUDENT, "encoders": {"a": STUDENT["encoders"]["a"]}})
    spec = fit_spec(init_from=teacher.fingerprint())
    with pytest.raises(StoreError, match="no finished fit"):
        assemble(spec, Workplace(fresh, TORCH))
    run_fits([teacher], root=fresh, launch="local", scaling={}, engine=TORCH)
    parts = assemble(spec, Workplace(fresh, TORCH))
    mine, stored = parts.engine.weights(), FitStore(fresh).weights(teacher.fingerprint())
    shared = [name for name in stored if name.startswith("encoders.a.")]
    assert len(shared) >= 4
    assert all(torch.equal(mine[name], stored[name]) for name in shared)


def test_a_modality_that_is_not_stored_is_refused_by_name(fresh):
    encoders = {"c": {"type": "features", "num_inputs": 3}}
    with pytest.raises(ConfigError, match=r"\['c'\]"):
        assemble(fit_spec(student={**STUDENT, "encoders": encoders}), Workplace(fresh, TORCH))


def test_fits_of_the_same_stores_share_decoded_units(root):
    workplace = Workplace(root, TORCH)
    assert workplace.reader(fit_spec()) is workplace.reader(fit_spec(seed=4))
    assert workplace.reader(fit_spec()) is not workplace.reader(fit_spec(temperature=2.0))


def test_a_fit_without_a_probe_is_trained_all_the_same(tmp_path):
    root = open_root(str(tmp_path))
    make_run(root, {"unlabeled": 20})
    spec = fit_spec(validate_every_steps=4)
    run_fit(spec, Workplace(root, TORCH), watch=FitWatch(spec, None, None, 0, 0))
    records = FitStore(root).history(spec.fingerprint())
    assert len(records) == 1 and "select_accuracy" not in records[0]


@pytest.mark.parametrize(
    ("launch", "engine", "spec", "key"),
    [
        ("cluster", TORCH, {}, "scaling.launch"),
        ("local", {"type": "jax"}, {}, "engine.type"),
        ("local", {"type": "deepspeed"}, {}, "scaling.launch=trainer"),
        ("trainer", {"type": "deepspeed", "config": {"train_batch_size": 3}}, {}, "global_batch"),
        ("trainer", {"type": "deepspeed", "config": {"amp": {}}}, {}, "config.amp"),
        ("local", TORCH, {"optimizer": {"type": "lion", "lr": 1}}, "optimizer.type"),
        ("local", TORCH, {"schedule": {"type": "step"}}, "schedule.type"),
    ],
)
def test_what_cannot_work_is_refused_before_any_worker_starts(launch, engine, spec, key):
    with pytest.raises(ConfigError, match=key):
        check_fits([fit_spec(**spec)], launch=launch, scaling=Scaling(), engine=engine)


@pytest.mark.parametrize("rules", [{"micro_batch": 0}, {"skip_non_finite": -1}])
def test_rules_of_steps_that_make_no_sense_are_refused(rules):
    with pytest.raises(ConfigError, match=next(iter(rules))):
        check_fits([fit_spec()], launch="local", scaling=Scaling(**rules), engine=TORCH)


def test_keys_of_other_rooms_in_the_scaling_section_are_left_alone():
    scaling = Scaling.from_dict({"launch": "tasks", "num_workers": 4, "window_units": 3})
    assert scaling.num_workers == 4


def test_steps_of_fits_not_begun_are_guessed_from_those_known():
    counts = StepCounts({"a": 10, "b": None, "c": 30})
    counts.update("a", 10, 10, "")
    assert counts.read() == (10, 60, "")
    counts.update("b", 5, 50, "b goes on")
    assert counts.read() == (15, 90, "b goes on")


def test_progress_says_training_once_a_fit_is_begun_and_keeps_what_others_logged():
    counts = StepCounts({"a": 10, "b": 10})
    assert counts.read() == (0, 20, "starting workers")
    counts.begin()
    assert counts.read() == (0, 20, "training")
    counts.update("a", 5, 10, "a loss 1.0")
    counts.begin()
    assert counts.read() == (5, 20, "a loss 1.0")


def test_progress_says_that_workers_are_started_again_and_why():
    counts = StepCounts({"a": 10})
    counts.begin()
    counts.update("a", 5, 10, "a loss 1.0")
    counts.restart("lost worker 1")
    assert counts.read() == (5, 10, "starting workers again: lost worker 1")
    counts.begin()
    assert counts.read() == (5, 10, "training, restarted 1 time")
    counts.restart("lost worker 0")
    counts.begin()
    counts.update("a", 4, 10, "a loss 1.1")
    assert counts.read() == (4, 10, "a loss 1.1, restarted 2 times")


@pytest.mark.parametrize(
    ("every", "num_steps", "expected"),
    [(100, 400, 40), (10, 400, 10), (100, 9, 1), (0, 400, 0), (1, 5, 1)],
)
def test_a_fit_logs_ten_times_at_least_unless_only_its_end_is_wanted(every, num_steps, expected):
    assert logged_every(every, num_steps=num_steps) == expected
