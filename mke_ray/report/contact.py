"""Contact sheets: what single samples look and sound like, and what was said of them."""

# T frames, H height, W width, N sound samples, F frequencies.

import io
import textwrap
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib import colormaps
from PIL import Image, ImageDraw, ImageFont

from mke_ray.data.codec import decode_modality
from mke_ray.evaluation.results import Answer, Example
from mke_ray.labels.sample_reader import SampleReader
from mke_ray.report import style
from mke_ray.report.clips import sample_clip
from mke_ray.report.content import SampleCard
from mke_ray.report.style import Picture
from mke_ray.schema import (
    IGNORE,
    AudioSpec,
    DecodeSpec,
    DepthSpec,
    ImageSpec,
    MaskSpec,
    ModalitySpec,
    TokenSpec,
    VideoSpec,
)
from mke_ray.tokens import TextTokenizer

CARD_WIDTH = 480
KIND_TITLES = {
    "corrected": "Corrected: the teacher was wrong, the student is right",
    "wrong": "Still wrong: neither has it",
    "corrupted": "Corrupted: the teacher was right, the student is wrong",
}

_PICTURES = (ImageSpec, DepthSpec, MaskSpec)
_SHOWN = (VideoSpec, AudioSpec, *_PICTURES)
_NUM_FRAMES = 4
_GAP = 4
_SOUND_HEIGHT = 84
_DYNAMIC_RANGE_DB = 50.0
_NUM_MEL_ROWS = 84
_MISSING = "#d0d5db"
_SHEET_COLUMNS = 4
_MAX_LETTERS = 400
_LETTERS_PER_LINE = 38
_MAX_LINES = 4


def sample_cards(
    examples: Sequence[Example],
    samples: SampleReader,
    *,
    decode: DecodeSpec,
    classes: Sequence[str],
    tokenizers: Mapping[str, TextTokenizer] | None = None,
) -> list[SampleCard]:
    """Return a card for every example that can be looked at or read; rows of features give none.

    Args:
        examples: From the evaluation.
        samples: What reads the samples.
        decode: Its decode specification.
        classes: Names of the classes.
        tokenizers: That of each modality of tokens, by which they are text again.
    """
    shown = {m: s for m, s in decode.items() if isinstance(s, _SHOWN)}
    read = {m: s for m, s in decode.items() if isinstance(s, TokenSpec) and m in (tokenizers or {})}
    if not shown and not read:
        return []
    cards = []
    for example in examples:
        wanted = {**shown, **read}
        table = samples.read(example.unit, list(wanted), rows=[example.row]).slice(example.row, 1)
        pieces = {modality: table.column(modality)[0].as_py() for modality in wanted}
        arrays = {m: decode_modality(one, wanted[m]) for m, one in pieces.items() if one}
        clip, has_pictures = sample_clip(arrays, shown)
        cards.append(
            SampleCard(
                kind=example.kind,
                key=example.key,
                truth=_names(example.truth, classes),
                teacher=_said(example.teacher, classes),
                student=_said(example.student, classes),
                jpeg=_jpeg(sample_image(arrays, shown)) if shown else b"",
                texts={name: _shortened(one) for name, one in _texts(arrays, tokenizers).items()},
                clip=clip,
                has_pictures=has_pictures,
                poster=_poster(arrays, shown) if has_pictures else b"",
            )
        )
    return cards


def sample_image(
    arrays: Mapping[str, np.ndarray], decode: Mapping[str, ModalitySpec]
) -> Image.Image:
    """Return the pictures of a sample side by side, its frames in a row, and its spectrograms.

    Args:
        arrays: Per modality the stored array; a missing one leaves a grey field.
        decode: Specification of the modalities to show.
    """
    pictures = {name: spec for name, spec in decode.items() if isinstance(spec, _PICTURES)}
    rows = [_pictures(arrays, pictures)] if pictures else []
    rows += [
        _modality_image(name, arrays.get(name), spec)
        for name, spec in decode.items()
        if name not in pictures
    ]
    height = sum(row.height for row in rows) + _GAP * (len(rows) - 1)
    image = Image.new("RGB", (CARD_WIDTH, height), "white")
    top = 0
    for row in sorted(rows, key=lambda one: -one.height):
        image.paste(row, (0, top))
        top += row.height + _GAP
    return image


def contact_sheet(cards: Sequence[SampleCard], kind: str) -> Picture | None:
    """Return the cards of one kind as one picture for papers, None where there are none."""
    chosen = [card for card in cards if card.kind == kind]
    if not chosen:
        return None
    texts = [f"truth: {c.truth}\nteacher: {c.teacher}\nstudent: {c.student}" for c in chosen]
    images = [_with_texts(card) for card in chosen]
    alt = f"{KIND_TITLES[kind]}: {len(chosen)} test samples with their answers"
    return Picture(f"samples_{kind}", title=KIND_TITLES[kind], alt=alt, png=_sheet(images, texts))


def spectrogram(
    sound_N: np.ndarray, *, sample_rate_hz: int, num_columns: int, num_window: int = 512
) -> np.ndarray:
    """Return a spectrogram in [0, 1], low frequencies at the bottom, in rows of equal mel steps.

    Args:
        sound_N: Sound [N].
        sample_rate_hz: Its sample rate.
        num_columns: Columns of the picture.
        num_window: Samples that each column looks at.

    Returns:
        float [F, num_columns]: 1 is the loudest, 0 is 50 dB below it.
    """
    padded_N = np.pad(sound_N, (0, max(0, num_window - len(sound_N))))
    starts = np.linspace(0, len(padded_N) - num_window, num_columns).astype(int)
    windows = padded_N[starts[:, None] + np.arange(num_window)] * np.hanning(num_window)
    power_FT = np.abs(np.fft.rfft(windows, n=4 * num_window, axis=1)).T ** 2
    highest_mel = np.log1p(sample_rate_hz / 2 / 700)
    hertz_F = 700 * np.expm1(np.linspace(0, highest_mel, _NUM_MEL_ROWS))
    row_F = np.rint(hertz_F / (sample_rate_hz / 2) * (len(power_FT) - 1)).astype(int)
    level_FT = 10.0 * np.log10(np.maximum(power_FT[row_F], 1e-12))
    return np.clip(1.0 + (level_FT - level_FT.max()) / _DYNAMIC_RANGE_DB, 0.0, 1.0)[::-1]


def _modality_image(name: str, array: np.ndarray | None, spec: object) -> Image.Image:
    """Return the picture of one modality, a grey field where it is missing."""
    if isinstance(spec, VideoSpec):
        return _strip(name, array, spec)
    if array is None or not isinstance(spec, AudioSpec):
        return _missing(name, _SOUND_HEIGHT)
    level_FT = spectrogram(array, sample_rate_hz=spec.sample_rate_hz, num_columns=CARD_WIDTH)
    pixels = (colormaps["magma"](level_FT)[..., :3] * 255).astype(np.uint8)
    return Image.fromarray(pixels).resize((CARD_WIDTH, _SOUND_HEIGHT), Image.Resampling.BOX)


def _texts(
    arrays: Mapping[str, np.ndarray], tokenizers: Mapping[str, TextTokenizer] | None
) -> dict[str, str]:
    """Return the texts of a sample by modality, of one that is missing that it is."""
    return {
        name: one.text(arrays[name]) if name in arrays else f"no {name}"
        for name, one in (tokenizers or {}).items()
    }


def _shortened(text: str) -> str:
    return text if len(text) <= _MAX_LETTERS else f"{text[:_MAX_LETTERS].rstrip()}…"


def _with_texts(card: SampleCard) -> Image.Image:
    """Return the picture of a card with the beginning of its texts below it."""
    picture = Image.open(io.BytesIO(card.jpeg)) if card.jpeg else Image.new("RGB", (CARD_WIDTH, 1))
    lines = [
        line
        for text in card.texts.values()
        for line in textwrap.wrap(
            text, _LETTERS_PER_LINE, max_lines=_MAX_LINES, placeholder=" …", break_on_hyphens=False
        )
    ]
    if not lines:
        return picture
    font, step = ImageFont.load_default(size=24), 32
    image = Image.new("RGB", (CARD_WIDTH, picture.height + step * len(lines) + 8), "white")
    image.paste(picture, (0, 0))
    draw = ImageDraw.Draw(image)
    for place, line in enumerate(lines):
        draw.text((0, picture.height + 6 + step * place), line, fill=style.INK, font=font)
    return image


def _missing(name: str, height: int, width: int = CARD_WIDTH) -> Image.Image:
    """Return a grey field that says what is missing."""
    image = Image.new("RGB", (width, height), _MISSING)
    font = ImageFont.load_default(size=26)
    middle = (width / 2, height / 2)
    ImageDraw.Draw(image).text(middle, f"no {name}", fill="#3d4651", font=font, anchor="mm")
    return image


def _pictures(
    arrays: Mapping[str, np.ndarray], specs: Mapping[str, ImageSpec | DepthSpec | MaskSpec]
) -> Image.Image:
    """Return pictures side by side, each at most half as wide as the card."""
    num = max(len(specs), 2)
    width = (CARD_WIDTH - _GAP * (num - 1)) // num
    heights = [round(width * spec.height / spec.width) for spec in specs.values()]
    row = Image.new("RGB", (CARD_WIDTH, max(heights)), "white")
    for place, (name, height) in enumerate(zip(specs, heights, strict=True)):
        array = arrays.get(name)
        if array is None:
            picture = _missing(name, height, width)
        else:
            picture = Image.fromarray(_in_colour(array)).resize((width, height))
        row.paste(picture, (place * (width + _GAP), 0))
    return row


def _in_colour(array: np.ndarray) -> np.ndarray:
    """Return a picture, the first channel of depth or a class map as colours, uint8 [H, W, 3]."""
    if array.dtype == np.uint8 and array.ndim == 3:
        return array
    if array.ndim == 2:
        colours = colormaps["tab20"](array % 20)[..., :3] * (array != IGNORE)[..., None]
    else:
        first_HW = array[..., 0]
        colours = colormaps["viridis"](first_HW / max(float(first_HW.max()), 1e-6))[..., :3]
    return (255 * colours).astype(np.uint8)


def _strip(name: str, video_THWC: np.ndarray | None, spec: VideoSpec) -> Image.Image:
    """Return a few frames in a row."""
    num = min(_NUM_FRAMES, spec.num_frames)
    width = (CARD_WIDTH - _GAP * (num - 1)) // num
    height = round(width * spec.height / spec.width)
    if video_THWC is None:
        return _missing(name, height)
    strip = Image.new("RGB", (CARD_WIDTH, height), "white")
    for place, frame in enumerate(np.linspace(0, len(video_THWC) - 1, num).astype(int)):
        picture = Image.fromarray(video_THWC[frame]).resize((width, height))
        strip.paste(picture, (place * (width + _GAP), 0))
    return strip


def _sheet(images: Sequence[Image.Image], texts: Sequence[str]) -> bytes:
    """Return pictures in a grid, each under its text, as PNG."""
    font = ImageFont.load_default(size=24)
    cell_width, text_height = CARD_WIDTH + 24, 96
    cell_height = text_height + max(image.height for image in images) + 28
    num_rows = -(-len(images) // _SHEET_COLUMNS)
    sheet = Image.new("RGB", (cell_width * _SHEET_COLUMNS, cell_height * num_rows), "white")
    draw = ImageDraw.Draw(sheet)
    for place, (image, text) in enumerate(zip(images, texts, strict=True)):
        left = cell_width * (place % _SHEET_COLUMNS) + 12
        top = cell_height * (place // _SHEET_COLUMNS)
        draw.multiline_text((left, top + 6), text, fill=style.INK, font=font, spacing=5)
        sheet.paste(image, (left, top + text_height))
    buffer = io.BytesIO()
    sheet.save(buffer, format="PNG")
    return buffer.getvalue()


def _names(classes_said: Sequence[int], classes: Sequence[str]) -> str:
    """Return class names, or that there is none."""
    return ", ".join(classes[one] for one in classes_said) or "none"


def _said(answer: Answer, classes: Sequence[str]) -> str:
    """Return an answer and how sure it was."""
    if answer.confidence is None:
        return "saw nothing"
    return f"{_names(answer.classes, classes)} ({answer.confidence:.0%})"


def _poster(arrays: Mapping[str, np.ndarray], decode: Mapping[str, ModalitySpec]) -> bytes:
    """Return the middle frame of the first video of a sample as JPEG."""
    videos = (name for name, spec in decode.items() if isinstance(spec, VideoSpec))
    video_THWC = next(arrays[name] for name in videos if name in arrays)
    return _jpeg(Image.fromarray(video_THWC[len(video_THWC) // 2]))


def _jpeg(image: Image.Image) -> bytes:
    """Return a picture as JPEG."""
    buffer = io.BytesIO()
    image.save(buffer, format="JPEG", quality=82)
    return buffer.getvalue()
