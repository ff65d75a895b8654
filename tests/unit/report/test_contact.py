import io
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from report_contents import card, content

from mke_ray.data.codec import encode_modality
from mke_ray.evaluation.results import Answer, Example
from mke_ray.labels.sample_reader import SampleReader
from mke_ray.labels.store import UnitStore
from mke_ray.report import Picture, sample_cards
from mke_ray.report.contact import contact_sheet, sample_image, spectrogram
from mke_ray.report.page import render_page
from mke_ray.schema import (
    AudioSpec,
    DepthSpec,
    FeatureSpec,
    ImageSpec,
    MaskSpec,
    TokenSpec,
    VideoSpec,
    decode_spec_to_dict,
    samples_schema,
)
from mke_ray.storage import open_root

VIDEO = VideoSpec(num_frames=6, height=24, width=32)
AUDIO = AudioSpec(sample_rate_hz=8000, seconds=1.0)
RED = np.array([220, 20, 20], np.uint8)


def red_video():
    return np.broadcast_to(RED, (6, 24, 32, 3)).copy()


def tone(hz, seconds=1.0):
    return np.sin(2 * np.pi * hz * np.arange(int(8000 * seconds)) / 8000).astype(np.float32)


@pytest.fixture
def samples(tmp_path):
    decode = {"video": VIDEO, "audio": AUDIO}
    schema = samples_schema(decode)
    spec = {"decode": decode_spec_to_dict(decode)}
    store = UnitStore.open_or_create(open_root(str(tmp_path)), spec=spec, schema=schema)
    table = pa.table(
        {
            "sample_id": [1, 2],
            "status": ["ok", "partial"],
            "error": [None, None],
            "video": [encode_modality(red_video() * 0, VIDEO), encode_modality(red_video(), VIDEO)],
            "video_status": ["ok", "ok"],
            "audio": [encode_modality(tone(500), AUDIO), None],
            "audio_status": ["ok", "no_audio"],
            "video_signature": [None, None],
            "audio_signature": [None, None],
        },
        schema=schema,
    )
    store.commit("unit", table)
    return SampleReader(store, None, None)


def example(row, student=0):
    sure, blind = Answer((student,), 0.93), Answer((), None)
    return Example("corrected", "unit", row, row + 1, f"clip{row}.mp4", (0,), blind, sure)


def test_a_card_shows_the_sample_of_its_row_and_what_was_said(samples):
    decode = {"video": VIDEO, "audio": AUDIO}
    dark, red = sample_cards(
        [example(0), example(1, 1)], samples, decode=decode, classes=("zero", "one")
    )
    assert (red.key, red.truth, red.teacher) == ("clip1.mp4", "zero", "saw nothing")
    assert red.student == "one (93%)"
    pixels = np.asarray(Image.open(io.BytesIO(red.jpeg)).convert("RGB")).astype(int)
    assert np.abs(pixels[30, 30] - RED).max() < 12
    assert np.asarray(Image.open(io.BytesIO(dark.jpeg)))[30, 30].max() < 12


def test_rows_of_features_have_no_cards(samples):
    assert not sample_cards(
        [example(0)], samples, decode={"x": FeatureSpec(2)}, classes=("zero", "one")
    )


class Words:
    """Reads ids as words, in the place of a tokenizer."""

    def __init__(self, words):
        self._words = words

    def text(self, ids_L):
        return " ".join(self._words[one] for one in ids_L.tolist())


def samples_of_texts(folder, decode, **columns):
    """Return a store of one sample that holds ids of tokens."""
    schema = samples_schema(decode)
    spec = {"decode": decode_spec_to_dict(decode)}
    store = UnitStore.open_or_create(open_root(str(folder)), spec=spec, schema=schema)
    row = {"sample_id": 1, "status": "ok", "error": None, **columns}
    store.commit("unit", pa.Table.from_pylist([row], schema=schema))
    return SampleReader(store, None, None)


def test_a_text_can_be_read_below_the_picture_of_its_sample(tmp_path):
    text = TokenSpec(4, digest="d", num_ids=9, pad_id=0)
    both = {"text": text, "video": VIDEO}
    columns = {
        "text": encode_modality(np.arange(4, dtype=np.int32), text),
        "text_status": "ok",
        "video": encode_modality(red_video(), VIDEO),
        "video_status": "ok",
    }
    words = Words(["a", "rose", "<b>", "tree" * 200])
    found = samples_of_texts(tmp_path / "both", both, **columns)
    (one,) = sample_cards(
        [example(0)], found, decode=both, classes=("z", "o"), tokenizers={"text": words}
    )
    assert one.texts["text"].startswith("a rose <b> treetree") and one.texts["text"].endswith("…")
    assert len(one.texts["text"]) == 401
    page = render_page(content(cards=[one]), {"arms": Picture("arms", "", "", b"")})
    assert "a rose &lt;b&gt; tree" in page and "What is stored of" in page
    whole, without = (contact_sheet([card], "corrected") for card in (one, replace(one, texts={})))
    heights = [Image.open(io.BytesIO(sheet.png)).height for sheet in (whole, without)]
    assert heights[0] > heights[1]


def test_a_text_alone_is_a_card_without_a_picture_and_a_missing_one_says_so(tmp_path):
    text = TokenSpec(4, digest="d", num_ids=9, pad_id=0)
    found = samples_of_texts(tmp_path, {"text": text}, text=None, text_status="missing_file")
    (one,) = sample_cards(
        [example(0)],
        found,
        decode={"text": text, "x": FeatureSpec(2)},
        classes=("z", "o"),
        tokenizers={"text": Words([])},
    )
    assert one.texts == {"text": "no text"} and one.jpeg == b""
    page = render_page(content(cards=[one]), {"arms": Picture("arms", "", "", b"")})
    assert "no text" in page and "Frames and spectrogram" not in page
    assert contact_sheet([one], "corrected") is not None


def test_a_missing_modality_leaves_a_field_that_says_so():
    decode = {"video": VIDEO, "audio": AUDIO}
    whole = sample_image({"video": red_video(), "audio": tone(500)}, decode)
    deaf = sample_image({"video": red_video()}, decode)
    assert deaf.size == whole.size
    grey = np.asarray(deaf)[-5, 5]
    assert np.ptp(grey.astype(int)) < 20
    field = np.asarray(deaf.convert("L"))[-60:]
    assert (field < 120).any()


def test_pictures_stand_side_by_side_and_a_missing_one_leaves_its_field():
    spec = ImageSpec(height=30, width=30)
    red = np.broadcast_to(RED, (30, 30, 3)).copy()
    both = np.asarray(sample_image({"rgb": red, "depth": 255 - red}, {"rgb": spec, "depth": spec}))
    assert both.shape[1] == 480 and both.shape[0] < 300
    assert np.array_equal(both[100, 100], RED)
    assert np.array_equal(both[100, 400], 255 - RED)
    blind = np.asarray(sample_image({"rgb": red}, {"rgb": spec, "depth": spec}))
    assert blind.shape == both.shape
    assert np.ptp(blind[5, 400].astype(int)) < 20
    heard = sample_image({"rgb": red, "audio": tone(500)}, {"rgb": spec, "audio": AUDIO})
    assert heard.height > both.shape[0]


def test_a_spectrogram_has_a_low_tone_below_a_high_one():
    def loudest_row(hz):
        image = spectrogram(tone(hz), sample_rate_hz=8000, num_columns=50)
        assert image.shape[1] == 50
        assert 0 <= image.min() <= image.max() == 1
        return int(image.mean(axis=1).argmax())

    assert loudest_row(300) > loudest_row(1000) > loudest_row(3000)


def test_a_tone_is_drawn_when_it_sounds():
    sound = np.concatenate([np.zeros(8000, np.float32), tone(1000)])
    columns = spectrogram(sound, sample_rate_hz=8000, num_columns=100).max(axis=0)
    assert columns[10] == 0
    assert columns[90] > 0.9


def test_silence_and_very_short_sounds_can_be_drawn():
    for sound in (np.zeros(8000, np.float32), tone(100, 0.01)):
        assert np.isfinite(spectrogram(sound, sample_rate_hz=8000, num_columns=20)).all()


def test_a_contact_sheet_holds_the_cards_of_its_kind():
    few = contact_sheet([card("wrong")] * 4 + [card("corrected")], "wrong")
    many = contact_sheet([card("wrong")] * 5, "wrong")
    heights = [Image.open(io.BytesIO(one.png)).height for one in (few, many)]
    assert heights[1] == 2 * heights[0]
    assert "4 test samples" in few.alt
    assert contact_sheet([card("wrong")], "corrupted") is None


def test_depth_and_class_maps_are_shown_in_colours():
    decode = {"rgb": ImageSpec(6, 8), "depth": DepthSpec(6, 8), "mask": MaskSpec(6, 8)}
    mask = np.zeros((6, 8), np.uint8)
    mask[:, 4:] = 255
    depth = np.linspace(0, 5, 48, dtype=np.float32).reshape(6, 8, 1)
    arrays = {"rgb": np.full((6, 8, 3), 90, np.uint8), "depth": depth, "mask": mask}
    shown = np.asarray(sample_image(arrays, decode)).astype(int)
    third = shown.shape[1] // 3
    assert np.ptp(shown[:, third + 8 : 2 * third - 8].mean(axis=2)) > 50
    assert shown[10, -10].max() < 20 and shown[10, 2 * third + 20].max() > 100
