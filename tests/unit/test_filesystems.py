"""Tests of opening URIs: common options, pyarrow where fsspec has nothing, and no secrets."""

import json

import pytest
from fsspec.implementations.arrow import ArrowFSWrapper

from mke_ray.errors import ConfigError, StoreError
from mke_ray.filesystems import check_uri, open_filesystem
from mke_ray.secret_looks import without_secrets
from mke_ray.storage import Root, open_root


def test_common_options_reach_s3_under_its_own_names():
    options = {
        "endpoint_url": "http://127.0.0.1:9000",
        "region": "eu-west-3",
        "anonymous": True,
        "client_kwargs": {"verify": False},
    }
    filesystem, path = open_filesystem("s3://bucket/x", options)
    assert path == "bucket/x"
    assert filesystem.endpoint_url == "http://127.0.0.1:9000"
    assert filesystem.client_kwargs == {"verify": False, "region_name": "eu-west-3"}
    assert filesystem.anon is True
    plain, _ = open_filesystem("s3://bucket/x", {"region": None, "anonymous": False})
    assert plain.client_kwargs == {} and plain.anon is False


def test_a_bucket_of_google_is_opened_by_pyarrow_where_gcsfs_is_missing():
    options = {"anonymous": True, "endpoint_url": "http://127.0.0.1:1"}
    filesystem, path = open_filesystem("gs://bucket/x", options)
    assert isinstance(filesystem, ArrowFSWrapper) and filesystem.fs.type_name == "gcs"
    assert path == "bucket/x"


def test_a_container_of_azure_is_opened_by_pyarrow_where_adlfs_is_missing(monkeypatch):
    key = "c2VjcmV0"
    filesystem, path = open_filesystem("az://box/x", {"account_name": "me", "account_key": key})
    assert filesystem.fs.type_name == "abfs" and path == "box/x"
    _, path = open_filesystem("abfs://box@me.dfs.core.windows.net/x", {"account_key": key})
    assert path == "box/x"
    monkeypatch.delenv("AZURE_STORAGE_ACCOUNT_NAME", raising=False)
    with pytest.raises(ConfigError, match="AZURE_STORAGE_ACCOUNT_NAME"):
        open_filesystem("az://box/x", {})


@pytest.mark.parametrize(
    ("uri", "options", "message"),
    [
        ("gs://bucket/x", {"region": "eu"}, "region=eu means nothing to gs"),
        ("az://box/x", {"account_name": "me", "anonymous": True}, "adlfs is not installed"),
        ("/tmp/x", {"endpoint_url": "http://x"}, "endpoint_url=http://x means nothing to file"),
        ("nonsense://x", {}, "nonsense:// cannot be opened"),
        ("gs://bucket/x", {"retries": 3}, "pip install gcsfs"),
    ],
)
def test_what_a_file_system_does_not_have_is_named(uri, options, message):
    with pytest.raises(ConfigError, match=message):
        open_filesystem(uri, options)


def test_pyarrow_makes_no_stores():
    root = Root("gs://bucket/x", {"anonymous": True, "endpoint_url": "http://127.0.0.1:1"})
    with pytest.raises(StoreError, match="pip install gcsfs"):
        root.create("claim", b"")


@pytest.mark.parametrize(
    "uri",
    [
        "s3://AKIA:hunter2@bucket/x",
        "ftp://me:hunter2@host/x",
        "https://host/x.mp4?X-Amz-Date=1&X-Amz-Signature=hunter2",
        "https://account.blob.core.windows.net/c/x?sv=1&sig=hunter2",
    ],
)
def test_a_uri_with_a_secret_is_refused_and_not_shown(uri):
    with pytest.raises(ConfigError, match=r"source\.root=.*storage_options") as refused:
        open_root(uri, key="source.root")
    assert "hunter2" not in str(refused.value)


def test_a_uri_without_a_secret_is_left_alone():
    for uri in ("s3://b/a:b@c?v=1", "abfs://box@me.dfs.core.windows.net/x", "/a/b:c@d"):
        assert without_secrets(uri) == uri
        check_uri(uri, key="root")


def test_an_option_inside_the_uri_is_refused_with_the_key_that_replaces_it():
    with pytest.raises(ConfigError, match=r"'endpoint_override'.*endpoint_url"):
        open_root("s3://bucket/x?endpoint_override=localhost:9000")


def test_a_wrong_option_says_nothing_of_the_right_ones():
    with pytest.raises(ConfigError) as refused:
        open_root("gs://bucket", {"access_token": "hunter2", "region": "eu"}, key="source.root")
    assert "hunter2" not in str(refused.value)
    assert json.dumps({"region": "eu"}) not in str(refused.value)
