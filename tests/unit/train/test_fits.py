import json

import pytest
from training_stores import fit_spec

from mke_ray.errors import ConfigError, StoreError
from mke_ray.storage import open_root
from mke_ray.train.fits import FitSpec, FitStore, RowSelection

FILES = {"student.safetensors": b"weights", "fit.json": b'{"a": 1}', "history.json": b"[]"}


def test_a_fit_survives_the_way_through_json():
    spec = fit_spec(rows=(RowSelection("labelled", "true", modalities=("a",), weight=0.25),))
    assert FitSpec.from_dict(json.loads(json.dumps(spec.to_dict()))) == spec


def test_the_fingerprint_changes_with_what_is_trained_and_not_with_its_name():
    spec = fit_spec()
    assert fit_spec(name="other", arm="other").fingerprint() == spec.fingerprint()
    changes = [{"seed": 1}, {"labels": "u"}, {"temperature": 2.0}, {"window_units": 4}]
    assert len({spec.fingerprint(), *(fit_spec(**c).fingerprint() for c in changes)}) == 5


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
    store = FitStore(open_root(str(tmp_path)))
    store.folder("f").write("student.safetensors", b"half")
    assert not store.has("f")
    with pytest.raises(StoreError, match="no finished fit"):
        store.history("f")
    assert store.save("f", FILES)
    assert store.has("f") and store.facts("f") == {"a": 1}


def test_the_first_to_finish_a_fit_wins(tmp_path):
    store = FitStore(open_root(str(tmp_path)))
    assert store.save("f", FILES)
    assert not store.save("f", {**FILES, "history.json": b"[1]"})
    assert store.history("f") == []


def test_weights_that_were_changed_afterwards_are_refused(tmp_path):
    store = FitStore(open_root(str(tmp_path)))
    store.save("f", FILES)
    store.folder("f").write("student.safetensors", b"other")
    with pytest.raises(StoreError, match="not the file"):
        store.weights("f")
    with pytest.raises(StoreError, match="not the file"):
        store.load("f")
