"""Units in work at once: who waits for whom, the same labels, nothing that outlives the pass."""

import itertools
import threading
from dataclasses import replace

import pytest
from label_fakes import FakeReader, FakeTeacher, make_world, teacher_spec

from mke_ray.labels.labelling import LocalRunner, run_pass
from mke_ray.labels.store import UnitStore
from mke_ray.labels.teaching import Teaching
from mke_ray.labels.worker import UnitWorker
from mke_ray.models.computing import Computing
from mke_ray.storage import open_root

WAIT_S = 20.0
BROKEN = {1: "bad", 2: "no_y", 3: "io", 6: "gone"}
NETWORK = {"_target_": "label_fakes.NetworkTeacher"}


@pytest.fixture
def root(tmp_path):
    return open_root(str(tmp_path / "run"))


def refs_of(plan):
    return list(plan.manifest.unit_refs())


def tables_of(plan):
    return [store.read(ref.unit) for store in plan.stores for ref in refs_of(plan)]


def test_labels_do_not_depend_on_the_units_in_work_at_once(root, tmp_path):
    plain = make_world(root, 42, broken=BROKEN, teachers=[NETWORK])
    run_pass(plain, refs_of(plain), LocalRunner())
    for units_ahead in (1, 3):
        folder = open_root(str(tmp_path / f"{units_ahead}"))
        plan = make_world(folder, 42, broken=BROKEN, teachers=[NETWORK])
        plan = replace(plan, units_ahead=units_ahead)
        report = run_pass(plan, refs_of(plan), LocalRunner())
        assert report.num_units_run == 11
        assert tables_of(plan) == tables_of(plain)


def test_a_unit_is_decoded_and_another_written_while_a_third_is_with_the_teacher(root, monkeypatch):
    """The second unit's teacher waits for the first to be written and the third to be decoded.

    Which unit is first is chance: three threads begin at once.
    """
    plan = replace(make_world(root, 12), units_ahead=1)
    is_written, is_decoded = threading.Event(), threading.Event()
    predict, read, commit = FakeTeacher.predict, FakeReader.read, UnitStore.commit
    num_asked, num_labelled, num_read = (itertools.count() for _ in range(3))

    def seen(self, arrays_BX):
        if next(num_asked) == 1:
            assert is_written.wait(WAIT_S) and is_decoded.wait(WAIT_S)
        return predict(self, arrays_BX)

    def slow_commit(self, unit, table, facts=None):
        is_first = "logits" in table.schema.names and next(num_labelled) == 0
        if is_first:
            assert is_decoded.wait(WAIT_S)  # of the third unit, while this one is written
        done = commit(self, unit, table, facts)
        if is_first:
            is_written.set()
        return done

    def seen_read(self, row):
        if next(num_read) == 11:
            is_decoded.set()
        return read(self, row)

    monkeypatch.setattr(FakeTeacher, "predict", seen)
    monkeypatch.setattr(FakeReader, "read", seen_read)
    monkeypatch.setattr(UnitStore, "commit", slow_commit)
    assert run_pass(plan, refs_of(plan), LocalRunner()).num_units_run == 3


def test_one_unit_at_a_time_is_decoded_and_one_is_with_a_teacher(root, monkeypatch):
    plan = make_world(root, 40, teachers=[teacher_spec(), teacher_spec(modality="y")])
    plan = replace(plan, units_ahead=4)
    lock, inside, most = threading.Lock(), {"read": set(), "predict": set()}, []

    def watched(stage, function):
        def watch(*args):
            me = threading.get_ident()
            with lock:
                inside[stage].add(me)
                most.append((stage, len(inside[stage])))
            found = function(*args)
            with lock:
                inside[stage].discard(me)
            return found

        return watch

    monkeypatch.setattr(FakeReader, "read", watched("read", FakeReader.read))
    monkeypatch.setattr(Teaching, "predicted", watched("predict", Teaching.predicted))
    run_pass(plan, refs_of(plan), LocalRunner())
    assert set(most) == {("read", 1), ("predict", 1)}


def test_nothing_goes_on_when_the_pass_is_stopped(root):
    plan = replace(make_world(root, 40, delay_s=0.005), units_ahead=1)

    def stop(num_done, *_):
        if num_done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_pass(plan, refs_of(plan), LocalRunner(), progress=stop)
    before = plan.samples.committed()
    assert 0 < len(before) < 10
    assert not [t for t in threading.enumerate() if t.name.startswith("ThreadPoolExecutor")]
    assert plan.samples.committed() == before


def test_a_pass_without_overlap_has_one_unit_in_work(root):
    plan = make_world(root, 4)
    assert (plan.units_at_once, replace(plan, units_ahead=1).units_at_once) == (1, 3)
    assert plan.decodes and plan.computes
    assert not make_world(root, 4, teachers=[]).computes


def test_default_switches_keep_the_place_of_labels_and_others_change_it(root, tmp_path):
    plan = make_world(root, 4)
    assert plan.teachers[0].labels.root.uri.endswith("/labels/fae8074129de2622")
    assert "computing" not in plan.teachers[0].labels.spec
    plans = [make_world(root, 4, computing=Computing("bfloat16")), plan]
    places = {one.teachers[0].labels.root.uri for one in plans}
    assert len(places) == 2
    assert plans[0].teachers[0].labels.spec["computing"] == {"precision": "bfloat16"}


def test_the_teacher_of_a_worker_computes_as_the_plan_says(root, monkeypatch):
    dtypes = []
    plan = make_world(root, 4, teachers=[NETWORK], computing=Computing("bfloat16"))
    worker = UnitWorker(plan)
    prepare = Computing.prepare

    def prepared(self, teacher):
        prepare(self, teacher)
        teacher.network[-1].register_forward_hook(lambda _m, _a, out: dtypes.append(str(out.dtype)))

    monkeypatch.setattr(Computing, "prepare", prepared)
    worker.run(refs_of(plan)[0])
    assert dtypes == ["torch.bfloat16"]
    logits = plan.teachers[0].labels.read(refs_of(plan)[0].unit).column("logits")
    assert str(logits.type) == "list<element: float>"
