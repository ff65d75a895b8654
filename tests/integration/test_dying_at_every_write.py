"""Exactly once, at every named point of a pass and of a removal: killed, held and failed there."""

import errno
import re
import signal
import uuid

import pytest
from fault_trials import (
    Trials,
    files_after,
    forget,
    label,
    label_patiently,
    label_without_lease,
    list_source,
    remove,
    state_of,
)

from mke_ray.fault_points import Fault

KINDS = {
    list_source: {"manifest/part", "manifest/meta", "manifest/progress"},
    label: {
        *("samples/attempt", "samples/commit", "samples/index", "samples/spec", "lease"),
        *("labels/attempt", "labels/commit", "labels/index", "labels/spec"),
    },
    forget: {
        *("samples/attempt", "samples/commit", "labels/attempt", "labels/commit", "lease"),
        *("manifest/marks", "manifest/meta", "manifest/part"),
    },
}


@pytest.fixture(scope="module")
def listed(tmp_path_factory):
    return files_after(tmp_path_factory.mktemp("listed"), list_source)


@pytest.fixture(scope="module")
def labelled(tmp_path_factory):
    folder = tmp_path_factory.mktemp("labelled")
    files = files_after(folder, list_source, label)
    assert state_of(str(folder))["problems"] == []
    return files


@pytest.fixture(params=["local", pytest.param("s3", marks=pytest.mark.s3)])
def new_uri(request, tmp_path):
    """Return what names a new root on a local disk, or on a real S3 server."""
    if request.param == "local":
        return lambda: str(tmp_path / uuid.uuid4().hex)
    server = request.getfixturevalue("s3_server")
    return lambda: server.uri("faults", uuid.uuid4().hex)


@pytest.fixture(params=[list_source, label, forget])
def trials(request, tmp_path, listed, labelled):
    before = {list_source: {}, label: listed, forget: labelled}
    return Trials(tmp_path, request.param, before[request.param])


class Undisturbed:
    """The points of an act, and what it leaves where nothing disturbs it."""

    def __init__(self, trials, uri):
        self.points = trials.points(uri)
        self.state = trials.look(uri)
        assert self.state["problems"] == []
        assert {point.split(":")[2] for point in self.points} >= KINDS[trials.act]

    def places(self, uri="local"):
        """Yield each point with its first and, on a local disk, its last occurrence."""
        for point, number in self.points.items():
            last = 1 if uri.startswith("s3:") else number
            yield from ((point, one) for one in sorted({1, last}))

    def check(self, state, where):
        """Compare what a disturbed act left."""
        assert state["problems"] == [], where
        assert state["content"] == self.state["content"], where
        for kind, number in state["files"].items():
            spare = 2 if kind == "lease" or kind.endswith("/index") else 0
            assert number <= self.state["files"].get(kind, 0) + spare, (where, kind, number)


def test_an_act_that_is_killed_anywhere_is_finished_by_the_next(trials, new_uri):
    undisturbed = Undisturbed(trials, new_uri())
    for point, number in undisturbed.places(new_uri()):
        uri, where = new_uri(), f"killed at {point} #{number}"
        assert trials.start(uri, Fault("kill", point, number)).wait() == signal.SIGKILL, where
        undisturbed.check(trials.finish(uri), where)


def test_an_act_that_is_killed_at_one_point_after_another_leaves_no_heap(trials, tmp_path):
    undisturbed = Undisturbed(trials, str(tmp_path / "undisturbed"))
    uri, signals = str(tmp_path / "again and again"), []
    for point in undisturbed.points:
        signals.append(trials.start(uri, Fault("kill", point)).wait())
        trials.before = {}
    assert signals.count(signal.SIGKILL) > 5  # what is done reaches no point again
    undisturbed.check(trials.finish(uri), "killed at all points on one root")


def test_an_act_that_fails_anywhere_is_finished_by_the_next(trials, new_uri):
    """On a disk that is full; on S3 where answers get lost, which costs nothing at all."""
    undisturbed = Undisturbed(trials, new_uri())
    for point in undisturbed.points:
        uri, where = new_uri(), f"failed at {point}"
        number = errno.EIO if uri.startswith("s3:") else errno.ENOSPC
        child = trials.start(uri, Fault("fail", point, errno=number))
        assert child.wait() == 0
        error = child.result().get("error")
        assert error in ((None,) if ":put:" in point else (None, "OSError", "StoreError")), where
        undisturbed.check(trials.finish(uri), where)


def test_an_act_that_sleeps_anywhere_while_another_does_it_doubles_nothing(trials, new_uri):
    undisturbed = Undisturbed(trials, new_uri())
    for point, number in undisturbed.places(new_uri()):
        uri, where = new_uri(), f"held at {point} #{number}"
        sleeper = trials.start(uri, Fault("stop", point, number))
        assert sleeper.wait() == signal.SIGSTOP, where
        trials.do(trials.act, uri=uri)
        sleeper.wake()
        assert sleeper.wait() == 0, where
        error = sleeper.result().get("error")
        assert error in (None, "StoreError"), (where, sleeper.result()["trace"])
        undisturbed.check(trials.look(uri), f"{where}, after it woke")


def test_a_pass_that_sleeps_while_samples_are_forgotten_brings_none_back(
    tmp_path, listed, labelled
):
    forgotten = Undisturbed(Trials(tmp_path, forget, labelled), str(tmp_path / "forgotten"))
    trials = Trials(tmp_path, label, listed)
    for point, number in Undisturbed(trials, str(tmp_path / "labelled")).points.items():
        uri, where = str(tmp_path / uuid.uuid4().hex), f"held at {point} #{number}"
        sleeper = trials.start(uri, Fault("stop", point, number))
        assert sleeper.wait() == signal.SIGSTOP, where
        trials.do(label, forget, uri=uri)
        sleeper.wake()
        assert sleeper.wait() == 0, where
        error = sleeper.result().get("error")
        assert error in (None, "StoreError"), (where, sleeper.result()["trace"])
        forgotten.check(trials.look(uri), where)


def test_a_pass_that_sleeps_while_its_own_samples_are_forgotten_is_finished_by_the_next(
    tmp_path, listed
):
    """What it has written and not yet committed is deleted meanwhile."""
    trials = Trials(tmp_path, label, listed)
    undisturbed = Undisturbed(trials, str(tmp_path / "labelled"))
    places = [place for place in undisturbed.places() if "attempt" in place[0]]
    assert len(places) > 6
    for point, number in places:
        uri, where = str(tmp_path / uuid.uuid4().hex), f"held at {point} #{number}"
        sleeper = trials.start(uri, Fault("stop", point, number))
        assert sleeper.wait() == signal.SIGSTOP, where
        trials.do(remove, uri=uri)
        sleeper.wake()
        assert sleeper.wait() == 0, where
        error = sleeper.result().get("error")
        assert error in ("StoreError", "OSError"), (where, sleeper.result().get("trace"))
        assert trials.finish(uri)["problems"] == [], where


def test_two_drivers_that_hold_no_lease_double_nothing(tmp_path, listed, new_uri):
    trials = Trials(tmp_path, label_without_lease, listed)
    alone = str(tmp_path / "alone")
    assert trials.start(alone).wait() == 0
    wanted = trials.look(alone)
    for _ in range(5):
        uri = new_uri()
        drivers = [trials.start(uri) for _ in range(2)]
        assert [one.wait() for one in drivers] == [0, 0]
        errors = [one.result().get("error") for one in drivers]
        assert set(errors) <= {None, "StoreError"} and None in errors, errors
        state = trials.look(uri)
        assert (state["problems"], state["content"]) == ([], wanted["content"])


def test_a_second_driver_is_told_who_holds_the_root(tmp_path, listed, new_uri):
    uri, trials = new_uri(), Trials(tmp_path, label_patiently, listed)
    first = trials.start(uri, Fault("stop", "write:begin:labels/attempt", 2))
    assert first.wait() == signal.SIGSTOP
    second = trials.start(uri)
    assert second.wait() == 0 and second.result()["error"] == "StoreError"
    assert re.search(rf"driver 'label' \(host .*, pid {first.pid}\)", second.result()["trace"])
    first.wake()
    assert first.wait() == 0 and "error" not in first.result()
    assert trials.look(uri)["problems"] == []
