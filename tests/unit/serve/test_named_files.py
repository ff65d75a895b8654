"""Files that a JSON request names: fetched once each, and no more than a request may send."""

import asyncio
import json

import pytest
from starlette.requests import Request

from mke_ray.serve.addresses import AllowedUris
from mke_ray.serve.limits import ServeLimits
from mke_ray.serve.problems import ProblemError
from mke_ray.serve.requests import sent_samples

LIMITS = ServeLimits(body_bytes=2500, file_bytes=1000)


def named(folder, *names):
    """Return the samples of a JSON request that names files of a folder."""
    body = json.dumps({"items": [{"uri": f"{folder}/{name}"} for name in names]}).encode()

    async def receive():
        return {"type": "http.request", "body": body, "more_body": False}

    headers = [(b"content-type", b"application/json")]
    request = Request({"type": "http", "method": "POST", "headers": headers}, receive)
    uris = AllowedUris([str(folder)], LIMITS.file_bytes)
    return asyncio.run(sent_samples(request, fields=["clip"], limits=LIMITS, uris=uris))


@pytest.fixture
def folder(tmp_path):
    for name, size in {"a": 1000, "b": 1000, "half": 500, "c": 501, "long": 1001}.items():
        (tmp_path / name).write_bytes(name[:1].encode() * size)
    return tmp_path


def test_named_files_together_are_bounded_as_a_body_is(folder):
    whole = named(folder, "a", "b", "half")
    assert [one.files["clip"][:1] for one in whole] == [b"a", b"b", b"h"]
    with pytest.raises(ProblemError, match="2,500 bytes together") as refused:
        named(folder, "a", "b", "c")
    assert refused.value.status == 413


def test_a_file_that_is_named_often_is_held_once(folder):
    samples = named(folder, *["a"] * 16)
    assert len(samples) == 16
    assert len({id(one.files["clip"]) for one in samples}) == 1


def test_a_file_that_cannot_be_had_takes_no_other_with_it(folder):
    long, there, none = named(folder, "long", "a", "none")
    assert (long.status, none.status) == (413, 422)
    assert len(there.files["clip"]) == 1000
