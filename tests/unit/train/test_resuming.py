"""Which checkpoint is taken, where the newest is damaged."""

import contextlib
import shutil

import pytest
from training_stores import fit_spec, make_run

from mke_ray.errors import DamagedCheckpointError
from mke_ray.storage import open_root
from mke_ray.train import resuming
from mke_ray.train.assemble import Workplace, assemble
from mke_ray.train.checkpoints import write_state
from mke_ray.train.loop import FitState
from mke_ray.train.resuming import newest_whole


class Folder:
    """A checkpoint that lies in a folder."""

    def __init__(self, path):
        self.path = path

    @contextlib.contextmanager
    def as_directory(self):
        if not self.path.exists():  # as a folder of a bucket, which has to be fetched first
            raise FileNotFoundError(f"no such key {self.path.name}")
        yield str(self.path)


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    root = open_root(str(tmp_path_factory.mktemp("run")))
    make_run(root, {"unlabeled": 40})
    return assemble(fit_spec(), Workplace(root, {"type": "torch"}))


@pytest.fixture
def kept(tmp_path, parts):
    """Checkpoints of a fit at its end, and of the next one at steps 5 and 10."""
    folders = []
    for fit_id, cursor in (("first", 12), ("second", 5), ("second", 10)):
        folder = tmp_path / f"{fit_id}-{cursor}"
        folder.mkdir()
        write_state(folder, fit_id, parts=parts, state=FitState(cursor))
        folders.append(folder)
    return folders


def spoil(folder, name="engine/torch.pt"):
    (folder / name).write_bytes(b"spoilt")


def taken(folders, fits=("second",)):
    with newest_whole([Folder(one) for one in folders], fits) as (found, warning):
        return found and (found.head["fit"], found.head["cursor"]), warning


def test_without_damage_the_newest_is_taken_and_nothing_is_said(kept):
    assert taken(kept) == (("second", 10), "")
    assert taken([]) == (None, "")


def test_the_warning_names_the_file_the_fit_and_the_steps(kept):
    spoil(kept[2])
    found, warning = taken(kept)
    assert found == ("second", 5)
    assert "second-10: engine/torch.pt is missing or not the file" in warning
    assert "fit second goes on at step 5, and the steps from there to step 10" in warning


def test_a_fit_without_a_whole_checkpoint_starts_anew_where_one_of_another_fit_is_whole(kept):
    spoil(kept[2])
    spoil(kept[1])
    found, warning = taken(kept)
    assert found == ("first", 12)
    assert "fit second starts anew, and its steps to step 10 are made again" in warning


def test_damage_of_a_fit_that_is_finished_costs_nothing(kept):
    spoil(kept[0])
    assert taken(kept[:1]) == (("first", 12), "")


def test_a_checkpoint_that_is_gone_is_passed_over_as_a_damaged_one_is(kept):
    shutil.rmtree(kept[2])
    found, warning = taken(kept)
    assert found == ("second", 5)
    assert "second-10 is gone (no such key second-10)" in warning


@pytest.mark.parametrize("is_gone", [True, False])
def test_what_another_rank_cannot_fetch_is_passed_over_or_asked_for_again_by_all(
    kept, monkeypatch, is_gone
):
    others = [(is_gone, "of rank 1")]  # of the first that is asked for
    monkeypatch.setattr(
        resuming, "of_all_ranks", lambda mine: [mine, others.pop() if others else mine]
    )
    if is_gone:
        found, warning = taken(kept)
        assert found == ("second", 5) and "second-10 is gone (of rank 1)" in warning
    else:
        with pytest.raises(OSError, match="second-10 could not be fetched: of rank 1"):
            taken(kept)


def test_where_none_is_whole_the_newest_is_named(kept):
    for folder in kept:
        spoil(folder, "state.json")
    with pytest.raises(DamagedCheckpointError, match=r"second-10: state\.json"):
        taken(kept)
