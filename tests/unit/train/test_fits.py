import json
import threading

import pytest
from training_stores import fit_spec

from mke_ray.errors import ConfigError, StoreError
from mke_ray.storage import Root, open_root
from mke_ray.train.fits import FitSpec, FitStore, RowSelection

FILES = {"student.safetensors": b"weights", "fit.json": b'{"a": 1}', "history.json": b"[]"}


def test_a_fit_survives_the_way_through_json():
    spec = fit_spec(rows=(RowSelection("labelled", "true", modalities=("a",), weight=0.25),))
    assert FitSpec.from_dict(json.loads(json.dumps(spec.to_dict()))) == spec


def test_the_fingerprint_changes_with_what_is_trained_and_not_with_its_name():
    spec = fit_spec()
    assert fit_spec(name="other", arm="other").fingerprint() == spec.fingerprint()
    changes = [{"seed": 1}, {"labels": "u"}, {"temperature": 2.0}, {"window_units": 4}]
    changes.append({"data": "other rows"})
    assert len({spec.fingerprint(), *(fit_spec(**c).fingerprint() for c in changes)}) == 6


def test_pretrained_files_count_by_their_digest_wherever_they_lie():
    def of(**encoder):
        student = fit_spec().student
        encoders = {name: {**one, **encoder} for name, one in student["encoders"].items()}
        return fit_spec(student={**student, "encoders": encoders}).fingerprint()

    here = of(path="/here", digest="d")
    assert here == of(path="/there", digest="d") == of(path="o/n", revision="c", digest="d")
    assert len({here, of(path="/here", digest="e"), of(path="/here"), of(path="/there")}) == 4


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"num_epochs": 3}, "num_steps"),
        ({"num_steps": None}, "num_epochs"),
        ({"label_kind": "medium"}, "labels.kind"),
        ({"rows": ()}, "no rows"),
        ({"labels": None}, "label store"),
    ],
)
def test_a_fit_that_cannot_be_is_refused_by_name(changes, key):
    with pytest.raises(ConfigError, match=key):
        fit_spec(**changes)


@pytest.mark.parametrize(
    "wrong",
    [{"split": "train"}, {"split": "probe", "targets": "teacher"}, {"split": "probe", "weight": 0}],
)
def test_rows_that_do_not_exist_are_refused(wrong):
    with pytest.raises(ConfigError):
        RowSelection(**wrong)


def test_epochs_become_steps_by_the_number_of_batches():
    assert fit_spec(num_steps=None, num_epochs=3).total_steps(7) == 21
    assert fit_spec(num_steps=5).total_steps(7) == 5


def test_a_fit_is_finished_only_when_done_is_there(tmp_path):
    root = open_root(str(tmp_path))
    store = FitStore(root)
    root.child("fits", "f", "attempt-of-another").write("student.safetensors", b"half")
    assert not store.has("f")
    for ask in (store.history, store.student_folder, store.weights_digest):
        with pytest.raises(StoreError, match="no finished fit"):
            ask("f")
    assert store.save("f", FILES)
    assert store.has("f") and store.student_folder("f").read("fit.json") == b'{"a": 1}'


def test_the_first_to_finish_a_fit_wins(tmp_path):
    store = FitStore(open_root(str(tmp_path)))
    assert store.save("f", FILES)
    assert not store.save("f", {**FILES, "history.json": b"[1]"})
    assert store.history("f") == []


class BarrierRoot(Root):
    """A root whose writers wait for each other after every file, as two late ones would."""

    barrier = threading.Barrier(2)

    def child(self, *parts):
        return BarrierRoot(super().child(*parts).uri, self.options)

    def write(self, name, content):
        super().write(name, content)
        self.barrier.wait(timeout=20)


def test_two_writers_at_once_leave_the_files_of_one_of_them_and_no_other(tmp_path):
    store = FitStore(BarrierRoot(str(tmp_path)))
    wins = {}

    def save(writer):
        files = {name: writer.encode() + content for name, content in FILES.items()}
        wins[writer] = store.save("f", files)

    threads = [threading.Thread(target=save, args=(writer,)) for writer in "AB"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(wins.values()) == [False, True]
    winner = next(writer for writer, won in wins.items() if won).encode()
    folder = store.student_folder("f")
    assert {name: folder.read(name) for name in FILES} == {n: winner + c for n, c in FILES.items()}
    left = list(open_root(str(tmp_path)).names("fits/f"))
    assert len(left) == len(FILES) + 1


def test_a_claim_whose_answer_was_lost_is_still_a_win(tmp_path, monkeypatch):
    create = Root.create

    def lose_the_answer(self, name, content):
        create(self, name, content)
        return False

    monkeypatch.setattr(Root, "create", lose_the_answer)
    store = FitStore(open_root(str(tmp_path)))
    assert store.save("f", FILES)
    assert store.history("f") == []


def test_a_fit_of_another_format_is_refused_with_the_way_out(tmp_path):
    root = open_root(str(tmp_path))
    root.write("fits/f/done.json", b'{"format_version": 1, "sha256": {}}')
    with pytest.raises(StoreError, match=r"fits/f has format version 1.*another root"):
        FitStore(root).student_folder("f")


def test_weights_that_were_changed_afterwards_are_refused(tmp_path):
    store = FitStore(open_root(str(tmp_path)))
    store.save("f", FILES)
    store.student_folder("f").write("student.safetensors", b"other")
    with pytest.raises(StoreError, match="not the file"):
        store.weights("f")
    with pytest.raises(StoreError, match="not the file"):
        store.load("f")


def test_switches_of_the_objective_that_are_off_leave_the_name_of_a_fit_as_it_was():
    plain = fit_spec()
    off = {"loss": None, "mix": None, "balance": None, "unimodal_weight": 0.0}
    switched = fit_spec(objective={**plain.objective, **off})
    assert switched.fingerprint() == plain.fingerprint()
    on = fit_spec(objective={**plain.objective, "unimodal_weight": 0.3})
    assert on.fingerprint() != plain.fingerprint()
