"""Which local folders a run asks the nodes of a cluster for."""

import contextlib

import pytest
from composed import composed

from mke_ray.expansion import run as run_module
from mke_ray.expansion.checks import check_job
from mke_ray.session import Session

VIDEOS = ("experiment=videos", "source.classes=[a,b]")


@pytest.fixture
def asked(monkeypatch):
    calls = []
    monkeypatch.setattr(Session, "connected", lambda _: contextlib.nullcontext())
    monkeypatch.setattr(run_module, "is_spread", lambda: True)
    monkeypatch.setattr(run_module, "check_shared", lambda *folders: calls.append(folders))
    return calls


@pytest.mark.parametrize(
    ("root", "source", "wanted"),
    [
        ("/data/run", ["source.root=/data/videos"], ({"root"}, {"source.root"})),
        ("/data/run", ["source.root=/data/run-videos"], ({"root"}, {"source.root"})),
        ("/data/run", ["source.root=/data/run/source"], ({"root"}, set())),
        ("/data/run", ["source.root=file:///data/videos"], ({"root"}, {"source.root"})),
        ("/data/run", ["source.root=s3://bucket/videos"], ({"root"}, set())),
        ("/data/run", ["source.root=/data/tables", "source.table=t.csv"], ({"root"}, set())),
        ("/data/run", ["source=manifest", "source.table=/data/t.csv"], ({"root"}, set())),
        ("s3://bucket/run", ["source.root=/data/videos"], (set(), {"source.root"})),
    ],
)
def test_a_connected_run_asks_for_its_local_folders(asked, root, source, wanted):
    (job,) = composed(*VIDEOS, f"root={root}", *source)
    check_job(job).connect()
    (folders,) = asked
    assert tuple(set(one) for one in folders) == wanted
    assert set(folders[0].values()) <= {root}


def test_one_node_is_not_asked(asked, monkeypatch):
    monkeypatch.setattr(run_module, "is_spread", lambda: False)
    (job,) = composed(*VIDEOS, "root=/data/run", "source.root=/data/videos")
    check_job(job).connect()
    assert asked == []
