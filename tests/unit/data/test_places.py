"""No key of a table, a listing or a store leads to where its root is not."""

import os
import re
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from composed import composed
from hypothesis import given
from hypothesis import strategies as st

from mke_ray.data.links import UnusableKeyError
from mke_ray.data.listing import walk
from mke_ray.data.pairs import PairsSource
from mke_ray.data.places import Places
from mke_ray.data.sources import SourceRow
from mke_ray.data.videos import VideosSource
from mke_ray.errors import ConfigError, MediaError, StoreError
from mke_ray.schema import DecodeSpec, FeatureSpec, ManifestRow, VideoSpec
from mke_ray.storage import Root, open_root

ROOTS = ["/data/videos", "s3://bucket/videos", "https://host/videos"]
CLIMBING = ("..", "%2e%2e", "%2E.", "%252e%252e", "..\\")
OTHERS = (".", "", "a", "é", "\0", "a\nb", "a..b", "::", "file:", "http:", "s3:", "bucket", "~")
PARTS = st.sampled_from([*CLIMBING, *OTHERS, "etc", "?versionId=1"])
KEYS = st.lists(PARTS, max_size=6).map("/".join) | st.text(max_size=20)
OUTSIDE = [
    "../secret.mp4",
    "a/../../secret.mp4",
    "a/%2e%2e/%2E%2e/secret.mp4",
    "a/%252e%252e/secret.mp4",
    "a\\..\\..\\secret.mp4",
    "/etc/passwd",
    "a\0.mp4",
    "a\nb.mp4",
    "file:///etc/passwd",
    "file:///data/videos/../../etc/passwd",
    "http://169.254.169.254/latest/meta-data",
    "s3://another/x.mp4",
    "s3://bucket/videos-of-others/x.mp4",
    "zip://x.mp4::file:///etc/x.zip",
    "",
]


def where(root_uri: str, key: str) -> tuple[str, str]:
    """Return protocol and path of what a key means to whoever decodes it a few times."""
    is_uri = re.match(r"[a-z][a-z0-9+.-]*://", key, re.IGNORECASE)
    whole = key if is_uri else f"{root_uri}/{key}"
    cut = whole.rpartition if is_uri else whole.partition  # a name may hold :// too
    protocol, _, rest = cut("://") if is_uri or "://" in root_uri else ("file", "", whole)
    for _ in range(5):
        rest = unquote(rest).replace("\\", "/")
    return protocol.lower(), os.path.normpath(f"/{rest.lstrip('/')}")


def as_read(row: SourceRow) -> ManifestRow:
    return ManifestRow(1, "u", row.key, row.size, "", None, None, row.key, "unlabeled", None)


@pytest.mark.parametrize("root_uri", ROOTS)
@given(key=KEYS)
def test_a_key_is_refused_or_leads_below_the_root(root_uri: str, key: str) -> None:
    try:
        Places(root_uri).check(key)
    except UnusableKeyError as error:
        assert "source.root" in str(error)
        return
    (protocol, path), (own, top) = where(root_uri, key), where(root_uri, "")
    assert protocol == own
    assert path == top or path.startswith(f"{top}/")
    assert not set("\0\n") & set(path)


@pytest.mark.parametrize("root_uri", ROOTS)
@pytest.mark.parametrize("key", OUTSIDE)
def test_a_key_that_leads_out_is_refused_with_the_way_out(root_uri: str, key: str) -> None:
    with pytest.raises(UnusableKeyError, match=r"source\.root.*source\.places"):
        Places(root_uri).check(key)


def test_full_uris_below_the_root_and_in_places_that_are_named_are_read() -> None:
    Places("/data/videos").check("file:///data/videos/a/1.mp4")
    Places("s3://bucket/videos/").check("s3://bucket/videos/a/1.mp4")
    named = Places("/data/videos", further=("/more/", "s3://another/some", "https://host/v"))
    for key in ("file:///more/1.mp4", "s3://another/some/1.mp4", "HTTPS://host/v/1.mp4"):
        named.check(key)
    for key in ("file:///moreover/1.mp4", "s3://another/1.mp4", "https://host/v/%2e%2e/1.mp4"):
        with pytest.raises(UnusableKeyError):
            named.check(key)


@pytest.mark.parametrize(
    ("top", "other"),
    [
        ("s3a://b/v", "s3://b/v/1.mp4"),
        ("s3://b/v", "S3A://b/v/1.mp4"),
        ("gcs://b/v", "gs://b/v/1.mp4"),
        ("abfs://b/v", "az://b/v/1.mp4"),
    ],
)
def test_several_names_of_one_store_are_one(top: str, other: str) -> None:
    Places(top).check(other)
    Places("/data", further=(top,)).check(other)
    with pytest.raises(UnusableKeyError):
        Places(top).check(other.replace("/v/", "/videos/"))
    with pytest.raises(UnusableKeyError):
        Places(top).check(other.replace(other.partition(":")[0], "https"))


def test_the_options_of_a_root_are_those_of_its_store_by_another_name() -> None:
    places = Places("s3a://b/v", {"endpoint_url": "http://127.0.0.1:9", "anonymous": True})
    root, _ = places.find("s3://b/v/1.mp4")
    assert getattr(root.filesystem(), "endpoint_url", None) == "http://127.0.0.1:9"


def test_a_root_that_is_a_link_holds_what_its_target_does(tmp_path) -> None:
    (tmp_path / "nfs" / "data").mkdir(parents=True)
    (tmp_path / "nfs" / "other").mkdir()
    (tmp_path / "nfs" / "data" / "1.mp4").write_bytes(b"1")
    os.symlink(tmp_path / "nfs" / "data", tmp_path / "data")
    for root, key in (("data", "nfs/data/1.mp4"), ("nfs/data", "data/1.mp4")):
        places = Places(f"{tmp_path}/{root}")
        found, name = places.find_to_read(f"file://{tmp_path}/{key}")
        assert found.read(name) == b"1"
        with pytest.raises(UnusableKeyError):
            places.check(f"file://{tmp_path}/nfs/other/1.mp4")


def test_places_are_those_of_the_folder_that_a_job_is_started_in(monkeypatch, tmp_path) -> None:
    monkeypatch.chdir(tmp_path)
    told = ["source=videos", "source.classes=[cat,dog]", "source.root=data"]
    (job,) = composed(*told, "source.places=[more,s3://bucket/x]")
    assert job.source["places"] == [f"{tmp_path}/more", "s3://bucket/x"]


@given(name=KEYS)
def test_a_name_in_a_store_is_refused_or_stays_below_it(name: str) -> None:
    root = Root("/data/run")
    try:
        found = root.child(name).path("x") if name else root.path(name)
        path = root.path(name)
    except StoreError as error:
        assert "/data/run" in str(error)
        return
    for one in (found, path):
        assert os.path.normpath(one) == "/data/run" or os.path.normpath(one).startswith(
            "/data/run/"
        )
        assert "\0" not in one


@pytest.mark.parametrize(
    "uri", ["", "  ", "a\0b", "/data/a\nb", "zip://x::file:///etc/x.zip", "simplecache::s3://b/x"]
)
def test_a_root_that_is_no_plain_path_is_refused_by_its_key(uri: str) -> None:
    with pytest.raises(ConfigError, match=r"source\.root=.*no plain path or URI"):
        open_root(uri, key="source.root")


def test_an_address_of_six_parts_is_a_plain_uri() -> None:
    with pytest.raises(ConfigError, match="nowhere"):
        open_root("nowhere://[::1]:9000/x")


@pytest.mark.parametrize("uri", OUTSIDE[:-1])
def test_a_row_that_leads_out_is_named_by_table_row_and_key(tmp_path, uri: str) -> None:
    (tmp_path / "1.mp4").write_bytes(b"1")
    known = {"size": [1, 1], "etag": ["a", "b"], "split": ["unlabeled"] * 2}
    for column, source in (
        ("uri", VideosSource(str(tmp_path), ["cat", "dog"], "clips.parquet")),
        ("key", PairsSource(str(tmp_path), {"video": "{key}"}, ["cat", "dog"], "clips.parquet")),
    ):
        pq.write_table(pa.table({column: ["1.mp4", uri], **known}), tmp_path / "clips.parquet")
        with pytest.raises(ConfigError, match=r"clips\.parquet, row 2") as refused:
            list(source.rows())
        assert "source.places" in str(refused.value) or "secret" in str(refused.value)


def test_links_out_of_a_folder_are_one_bad_row_or_refused_where_they_are_folders(tmp_path) -> None:
    secret, data = tmp_path / "secret", tmp_path / "data"
    (data / "unlabeled").mkdir(parents=True)
    secret.mkdir()
    (secret / "id_rsa").write_text("a private key")
    os.symlink(secret / "id_rsa", data / "unlabeled" / "1.txt")
    files: dict[str, str] = {"words": "{key}"}
    spec: DecodeSpec = {"words": FeatureSpec(16)}
    for places, is_read in (((), False), ((str(secret),), True)):
        source = PairsSource(str(data), files, ["cat", "dog"], text={}, places=places)
        (row,) = source.rows()
        reader = source.reader(spec)
        if is_read:
            assert reader.read(as_read(row)).arrays["words"].any()
        else:
            with pytest.raises(MediaError, match="unsupported"):
                reader.read(as_read(row))
    videos = VideosSource(str(data), ["cat", "dog"]).reader({"video": VideoSpec(1, 8, 8)})
    with pytest.raises(MediaError, match=r"1\.txt is behind a link to .*id_rsa.*source\.places"):
        videos.read(as_read(row))
    os.symlink(secret, data / "unlabeled" / "more")
    with pytest.raises(ConfigError, match=r"unlabeled/more is behind a link to .*source\.places="):
        list(walk(open_root(str(data)), "unlabeled"))
    further = (str(secret),)
    found = [one.name for one in walk(open_root(str(data)), "unlabeled", further=further)]
    assert found == ["unlabeled/1.txt", "unlabeled/more/id_rsa"]
