"""The JSON API over a student, in this process, with its real decoder processes."""

import io
import json
import os
import struct
import tempfile
import zlib

import numpy as np
import pytest
from odd_media import Sound, Video, write
from PIL import Image
from served_students import DECODE, GATE, clip, export, npy, served_app
from starlette.testclient import TestClient

from mke_ray.data.codec import decode_modality, encode_modality
from mke_ray.data.media import decode_clip
from mke_ray.schema import ManifestRow, decode_spec_from_dict
from mke_ray.serve.access import access_of
from mke_ray.serve.decoding import DecodedSample
from mke_ray.serve.limits import ServeLimits
from mke_ray.serve.uploads import UploadSource

LIMITS = ServeLimits(
    body_bytes=4 << 20,
    file_bytes=2 << 20,
    num_items=3,
    num_pixels=1 << 16,
    duration_s=30.0,
    decode_s=30.0,
)
SECRET = "a-token-of-the-tests-0123456789"


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    folder = tmp_path_factory.mktemp("served")
    (folder / "clips").mkdir()
    (folder / "clips" / "one.mp4").write_bytes(clip())
    (folder / "clips" / "long.mp4").write_bytes(b"x" * (LIMITS.file_bytes + 1))
    (folder / "secret.mp4").write_bytes(clip())
    (folder / "clips" / "link.mp4").symlink_to(folder / "secret.mp4")
    os.mkfifo(folder / "clips" / "pipe.mp4")
    export(folder / "student")
    (folder / "spools").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tempfile, "tempdir", str(folder / "spools"))
        app, student, _ = served_app(
            folder / "student", limits=LIMITS, uri_prefixes=[str(folder / "clips")]
        )
    with TestClient(app, base_url="http://127.0.0.1") as client:
        yield client, student, folder
    assert not os.listdir(folder / "spools")  # the end of the application is that of its decoders


def upload(client, *files, field="clip", **headers):
    parts = [(field, (f"{number}.bin", one)) for number, one in enumerate(files)]
    return client.post("/v1/predict", files=parts, headers=headers)


def expected(student, content):
    """Return the probabilities of a clip as the stores would have decoded it."""
    spec = decode_spec_from_dict(DECODE)
    arrays = decode_clip(content, spec).arrays
    stored = {
        m: decode_modality(encode_modality(one, spec[m]), spec[m]) for m, one in arrays.items()
    }
    return student.answer(student.predict([DecodedSample(stored, {})])[0])["probabilities"]


def is_problem(answer, status):
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert set(answer.json()) == {"status", "title", "what", "way_out"}
    assert answer.json()["status"] == status
    return answer.json()["what"]


def test_an_uploaded_clip_gets_the_answer_of_the_stores(served):
    client, student, _ = served
    answer = upload(client, clip())
    assert answer.status_code == 200, answer.text
    (item,) = answer.json()["items"]
    assert item["status"] == "ok"
    assert item["modalities"] == {"audio": "ok", "video": "ok"}
    assert item["probabilities"] == pytest.approx(expected(student, clip()), abs=1e-6)
    assert item["classes"] == [max(item["probabilities"], key=item["probabilities"].get)]
    assert answer.json()["student"] == student.loaded.digest


def test_several_samples_keep_their_order_and_a_bad_one_takes_no_other_with_it(served):
    client, student, _ = served
    silent = clip(sound_s=0)
    answer = upload(client, silent, b"no media at all", clip())
    assert answer.status_code == 200
    first, bad, last = answer.json()["items"]
    assert first["status"] == "partial"
    assert first["modalities"] == {"audio": "no_audio", "video": "ok"}
    assert bad["status"] == "bad"
    assert bad["problem"]["status"] == 422
    assert last["probabilities"] == pytest.approx(expected(student, clip()), abs=1e-6)


def test_single_modalities_are_sent_as_files_or_arrays(served):
    client, _, _ = served
    sound = write(Sound(), container="mp4")
    frames = np.random.default_rng(0).integers(0, 255, (2, 16, 16, 3), dtype=np.uint8)
    parts = [("video", ("v.npy", npy(frames))), ("audio", ("a.m4a", sound))]
    both = client.post("/v1/predict", files=parts).json()["items"][0]
    alone = upload(client, npy(frames), field="video").json()["items"][0]
    assert both["status"] == "ok"
    assert alone["modalities"] == {"audio": "not_given", "video": "ok"}
    assert both["probabilities"] != alone["probabilities"]


def test_a_file_of_one_modality_goes_before_the_clip(served):
    client, _, _ = served
    silence = npy(np.zeros(8000, np.float32))
    parts = [("clip", ("c.mp4", clip())), ("audio", ("a.npy", silence))]
    mixed = client.post("/v1/predict", files=parts).json()["items"][0]
    alone = upload(client, clip()).json()["items"][0]
    assert mixed["modalities"] == alone["modalities"] == {"audio": "ok", "video": "ok"}
    assert mixed["probabilities"] != alone["probabilities"]


@pytest.mark.parametrize(
    ("array", "said"),
    [
        (np.zeros((2, 16, 16, 3), np.float32), "float32"),
        (np.zeros((2, 9, 16, 3), np.uint8), "[2, 9, 16, 3]"),
        (np.asfortranarray(np.zeros((2, 16, 16, 3), np.uint8)), "by columns"),
        (np.array([{"a": 1}], dtype=object), "object"),
    ],
)
def test_an_array_of_another_form_is_refused(served, array, said):
    client, _, _ = served
    assert said in is_problem(upload(client, npy(array), field="video"), 422)


def png(width, height, rows):
    """Return a PNG file of a size that it only says it has."""

    def chunk(name, content):
        crc = struct.pack(">I", zlib.crc32(name + content))
        return struct.pack(">I", len(content)) + name + content + crc

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = zlib.compress(b"\0" * (rows * (1 + 3 * width)), 9)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")
    )


HOSTILE = {
    "empty": lambda: b"",
    "text": lambda: b"What is this?" * 100,
    "truncated": lambda: clip()[:1000],
    "picture": lambda: png(4, 4, 4),
    "bomb": lambda: png(50_000, 50_000, 5),
    "playlist": lambda: b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfile:///etc/passwd\n",
    "concat": lambda: b"ffconcat version 1.0\nfile /etc/passwd\n",
    "concat protocol": lambda: b"concat:/etc/passwd|/etc/hosts",
    "sdp": lambda: b"v=0\no=- 0 0 IN IP4 127.0.0.1\nm=video 9 RTP/AVP 96\n",
    "svg": lambda: (
        b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>'
    ),
    "zip": lambda: b"PK\x03\x04" + b"\0" * 100,
    "polyglot": lambda: b"\x93NUMPY\x01\x00" + clip(),
    "pickle": lambda: b"cos\nsystem\n(S'touch /tmp/mke-ray-was-here'\ntR.",
    "huge header": lambda: b"\x93NUMPY\x02\x00" + struct.pack("<I", 2**31) + b"{" * 100_000,
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_what_is_no_clip_is_refused_and_the_next_one_is_answered(served, kind):
    client, _, _ = served
    said = is_problem(upload(client, HOSTILE[kind]()), 422)
    assert "passwd" not in said
    assert "root:" not in said
    assert upload(client, clip()).status_code == 200


def test_pictures_of_a_huge_size_are_refused_before_they_are_decoded(served):
    client, _, _ = served
    huge = write(Video(1, size=(260, 256)), container="mp4")  # just above the limit of pixels
    assert upload(client, huge, field="video").status_code == 422


def test_a_long_clip_is_refused(served):
    client, _, _ = served
    long = write(Video(2, stamps=(0, 40.0)), container="mp4")
    assert "too_large" in is_problem(upload(client, long), 422)


def test_an_array_behind_a_clip_is_no_way_around_the_checks(served):
    client, _, _ = served
    hidden = clip() + npy(np.zeros(8000, np.float32))
    assert upload(client, hidden).status_code == 200  # what follows a file is not looked at


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({}, "items"),
        ({"items": []}, "items"),
        ({"items": [{}]}, "give uri"),
        ({"items": [{"uri": "/a", "uris": {"video": "/b"}}]}, "give uri"),
        ({"items": [{"uri": "/a", "more": 1}]}, "more"),
        ({"items": [{"uri": "/a", "start_s": 2, "end_s": 1}]}, "start_s"),
        ({"items": [{"uris": {"smell": "/b"}}]}, "smell"),
    ],
)
def test_a_json_body_that_makes_no_sense_says_what(served, body, said):
    client, _, _ = served
    assert said in is_problem(client.post("/v1/predict", json=body), 422)


def test_a_named_file_gets_the_same_answer_as_the_uploaded_one(served):
    client, student, folder = served
    named = {"uri": f"{folder}/clips/one.mp4"}
    answer = client.post("/v1/predict", json={"items": [named, {**named, "end_s": 0.5}]})
    assert answer.status_code == 200, answer.text
    whole, span = answer.json()["items"]
    assert whole["probabilities"] == pytest.approx(expected(student, clip()), abs=1e-6)
    assert span["status"] == "ok"


@pytest.mark.parametrize(
    ("uri", "status"),
    [
        ("{folder}/secret.mp4", 403),
        ("{folder}/clips/../secret.mp4", 403),
        ("{folder}/clips/./one.mp4", 403),
        ("{folder}/clips//one.mp4", 403),
        ("{folder}/clips/%2e%2e/secret.mp4", 403),
        ("{folder}/clips/link.mp4", 403),
        ("{folder}/clips", 403),
        ("{folder}/clips/", 403),
        ("{folder}/clips-of-others/one.mp4", 403),
        ("clips/one.mp4", 403),
        ("http://169.254.169.254/latest/meta-data", 403),
        ("http://127.0.0.1:8265/api", 403),
        ("https://example.org/one.mp4", 403),
        ("file:///etc/passwd", 403),
        ("concat:{folder}/clips/one.mp4", 403),
        ("s3://bucket/clips/one.mp4", 403),
        ("{folder}/clips/one.mp4?versionId=1", 403),
        ("{folder}/clips/one.mp4\n", 403),
        ("{folder}/clips/pipe.mp4", 422),
        ("{folder}/clips/none.mp4", 422),
        ("{folder}/clips/long.mp4", 413),
    ],
)
def test_only_plain_files_below_the_allowed_folders_are_fetched(served, uri, status):
    client, _, folder = served
    body = {"items": [{"uri": uri.format(folder=folder)}]}
    is_problem(client.post("/v1/predict", json=body), status)


def test_more_than_is_allowed_is_refused(served):
    client, _, _ = served
    assert "4 samples" in is_problem(upload(client, *[clip()] * 4), 413)
    large = b"x" * (LIMITS.file_bytes + 1)
    is_problem(upload(client, large), 413)
    is_problem(upload(client, large, large), 413)
    kind = {"content-type": "application/json"}
    is_problem(client.post("/v1/predict", content=iter([large] * 3), headers=kind), 413)


@pytest.mark.parametrize(
    ("content", "kind", "status"),
    [
        (b"", "", 415),
        (b"x", "text/plain", 415),
        (b"x", "application/json", 422),
        (b"[" * 100_000, "application/json", 422),
        (b"x", "multipart/form-data", 400),
        (b"--a\r\nContent-Dis", "multipart/form-data; boundary=a", 422),
        (b"--a--\r\n", "multipart/form-data; boundary=a", 422),
    ],
)
def test_a_body_of_another_kind_is_refused(served, content, kind, status):
    client, _, _ = served
    headers = {"content-type": kind} if kind else {}
    is_problem(client.post("/v1/predict", content=content, headers=headers), status)


def test_a_field_of_text_and_fields_of_unequal_number_are_refused(served):
    client, _, _ = served
    is_problem(client.post("/v1/predict", data={"clip": "x"}, files={"a": b""}), 400)
    parts = [("video", ("a", clip())), ("video", ("b", clip())), ("audio", ("c", clip()))]
    assert "2 of video, 1 of audio" in is_problem(client.post("/v1/predict", files=parts), 422)


def test_the_card_says_what_the_student_is(served):
    client, student, _ = served
    card = client.get("/v1/student").json()
    assert card["classes"] == ["cat", "dog", "owl"]
    assert card["digest"] == student.loaded.digest
    assert card["modalities"]["video"]["num_frames"] == 2
    assert (card["promoted"], card["verdict"]) == (True, GATE["verdict"])
    assert card["limits"]["num_items"] == 3
    assert client.get("/v1/health").json() == {"status": "ready"}


def test_paths_and_methods_that_are_not_there_are_problems_too(served):
    client, _, _ = served
    is_problem(client.get("/nothing"), 404)
    is_problem(client.get("/v1/predict"), 405)
    is_problem(client.delete("/v1/student"), 405)


def test_without_a_token_other_hosts_and_web_pages_are_refused(served):
    client, _, _ = served
    for headers in ({"host": "evil.example"}, {"origin": "https://evil.example"}):
        is_problem(client.get("/v1/student", headers=headers), 403)
    assert client.get("/v1/student", headers={"host": "localhost:8000"}).status_code == 200


def test_a_token_is_asked_for_everywhere_but_of_a_load_balancer(served, tmp_path):
    _, _, folder = served
    (tmp_path / "token").write_text(f"{SECRET}\n")
    access = access_of(str(tmp_path / "token"), {})
    app, _, decoders = served_app(folder / "student", access=access)
    client = TestClient(app)
    for wrong in ({}, {"authorization": "Bearer no"}, {"authorization": f"Basic {SECRET}"}):
        for path in ("/v1/student", "/openapi.json", "/v1/predict"):
            answer = client.get(path, headers=wrong)
            is_problem(answer, 401)
            assert answer.headers["www-authenticate"] == "Bearer"
    right = {"authorization": f"Bearer {SECRET}"}
    assert client.get("/v1/student", headers=right).status_code == 200
    assert client.get("/v1/health").status_code == 200
    decoders.close()


def test_nothing_is_left_of_what_was_sent(served):
    client, _, folder = served
    assert upload(client, clip(), b"no clip").status_code == 200
    (spool,) = (folder / "spools").iterdir()
    assert not list(spool.iterdir())


def test_json_answers_are_plain_numbers(served):
    client, _, _ = served
    text = upload(client, clip()).text
    assert "NaN" not in text
    assert sum(json.loads(text)["items"][0]["probabilities"].values()) == pytest.approx(1)


def test_a_picture_student_reads_pictures(tmp_path):
    spec = decode_spec_from_dict({"rgb": {"kind": "image", "height": 8, "width": 8}})
    file = io.BytesIO()
    Image.new("RGB", (20, 10), "red").save(file, format="PNG")
    (tmp_path / "k").mkdir()
    (tmp_path / "k" / "0").write_bytes(file.getvalue())
    reader = UploadSource(str(tmp_path), {}).reader(spec)
    row = ManifestRow(0, "", "k", 0, "", None, None, "k", "unlabeled", None)
    assert reader.read(row).arrays["rgb"].shape == (8, 8, 3)
