"""Which answers of a store are waited out before a source is said to be out of reach."""

import errno

import pytest

from mke_ray.data import reachable
from mke_ray.errors import ConfigError
from mke_ray.storage import Root

ROOT = Root("s3://bucket/videos")


def answering(monkeypatch, *answers):
    """Let a store give some answers in turn, the last one for ever; return the calls."""
    calls = []

    def answer(*call):
        calls.append(call)
        given = answers[min(len(calls), len(answers)) - 1]
        if isinstance(given, Exception):
            raise given
        return given

    monkeypatch.setattr(reachable, "_is_there", answer)
    return calls


@pytest.mark.parametrize("busy", [OSError(errno.EBUSY, "SlowDown"), TimeoutError("no answer")])
def test_a_store_that_is_busy_is_asked_again(monkeypatch, busy):
    calls = answering(monkeypatch, busy, busy, True)
    assert reachable.is_there(ROOT, "", key="source.root")
    assert len(calls) == 3


def test_a_store_that_stays_busy_is_named_after_some_seconds(monkeypatch):
    monkeypatch.setattr(reachable, "_PATIENCE_S", 0.7)
    calls = answering(monkeypatch, OSError(errno.EBUSY, "SlowDown"))
    with pytest.raises(ConfigError, match="SlowDown"):
        reachable.is_there(ROOT, "", key="source.root")
    assert len(calls) > 1


def test_a_folder_is_there_when_something_is_in_it(tmp_path):
    root = Root(str(tmp_path))
    with pytest.raises(ConfigError, match=r"source\.root=clips does not exist or is empty"):
        reachable.check_root(root, given="clips", holds="videos")
    (tmp_path / "one.mp4").touch()
    reachable.check_root(root, given="clips", holds="videos")


def test_what_is_wrong_for_good_is_asked_once(monkeypatch):
    calls = answering(monkeypatch, PermissionError("no"))
    with pytest.raises(ConfigError, match="permission denied"):
        reachable.is_there(ROOT, "", key="source.root")
    assert len(calls) == 1
