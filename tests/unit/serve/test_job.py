"""What the job that serves says to the person who started it; Ray is not started."""

import contextlib
import logging

import pytest
from served_students import export

from mke_ray.config_serve import ServeConfig
from mke_ray.serve import job
from mke_ray.session import Session


@pytest.mark.parametrize(("verbose", "level"), [(False, logging.WARNING), (True, logging.NOTSET)])
def test_it_says_where_it_serves_and_what_ends_it(tmp_path, monkeypatch, caplog, verbose, level):
    monkeypatch.setattr(Session, "connected", lambda _: contextlib.nullcontext())
    monkeypatch.setattr(job, "start", lambda *_, **__: None)
    monkeypatch.setattr(job, "stay", lambda: None)
    of_serve = logging.getLogger("ray.serve")
    before = of_serve.level
    of_serve.setLevel(logging.NOTSET)
    try:
        with caplog.at_level(logging.INFO, logger="mke_ray"):
            job.serve([ServeConfig(folder=export(tmp_path / "student"), verbose=verbose)])
        assert of_serve.level == level  # Serve's own lines of its start are for developers
    finally:
        of_serve.setLevel(before)
    assert caplog.messages[-1].startswith("serving at http://127.0.0.1:")
    assert caplog.messages[-1].endswith("Ctrl-C ends it")
