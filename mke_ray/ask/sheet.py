"""The contact sheet of what is asked for: pictures, sound, and a choice that makes the table."""

import base64
import io
import json
import wave
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from mke_ray.data.codec import decode_modality
from mke_ray.labels.asked import COLUMNS, NOBODY_KNOWS, AskedSample
from mke_ray.report.contact import CARD_WIDTH, sample_image
from mke_ray.report.study_page import study_page
from mke_ray.report.style import INK, MUTED
from mke_ray.schema import AudioSpec, DecodeSpec, FeatureSpec, LabelKind, LabelSpace, TokenSpec
from mke_ray.tokens import TextTokenizer

_COLUMNS = 4
_MARGIN = 14


@dataclass(frozen=True, slots=True)
class Card:
    """What a person sees and hears of one sample.

    Args:
        id: Its name in the table.
        key: Its key.
        row: Its row of the table but for the label.
        jpeg: Frames and spectrogram; empty where nothing of it can be looked at.
        wav: Its sound as a file; empty where it has none.
        text: Its texts and numbers, in words.
    """

    id: str
    key: str
    row: tuple[str, ...]
    jpeg: bytes
    wav: bytes
    text: str

    @property
    def picture(self) -> str:
        """The picture as the page embeds it."""
        return "data:image/jpeg;base64," + base64.b64encode(self.jpeg).decode()

    @property
    def sound(self) -> str:
        """The sound as the page embeds it."""
        return "data:audio/wav;base64," + base64.b64encode(self.wav).decode()


def card_of(
    asked: AskedSample,
    pieces: Mapping[str, list[bytes] | None],
    decode: DecodeSpec,
    tokenizers: Mapping[str, TextTokenizer] | None = None,
) -> Card:
    """Return the card of a sample.

    Args:
        asked: The sample.
        pieces: What is stored of each modality, None where it is missing.
        decode: What is stored.
        tokenizers: That of each modality of tokens.
    """
    arrays = {name: decode_modality(one, decode[name]) for name, one in pieces.items() if one}
    shown = {
        name: one for name, one in decode.items() if not isinstance(one, FeatureSpec | TokenSpec)
    }
    jpeg = io.BytesIO()
    if shown:
        sample_image(arrays, shown).save(jpeg, format="JPEG", quality=85)
    sounds = [
        _wav(arrays[name], one.sample_rate_hz)
        for name, one in decode.items()
        if isinstance(one, AudioSpec) and name in arrays
    ]
    span = ["" if end is None else f"{end:g}" for end in (asked.start_s, asked.end_s)]
    return Card(
        id=asked.id,
        key=asked.key,
        row=(asked.id, asked.key, *span, asked.group),
        jpeg=jpeg.getvalue(),
        wav=sounds[0] if sounds else b"",
        text=_text(arrays, decode, tokenizers or {}),
    )


def sheet_page(cards: Sequence[Card], space: LabelSpace, *, name: str) -> str:
    """Return the page, which needs no network: labels chosen there are saved as the table.

    Answers of teacher and student are left out on purpose, since whoever sees them agrees with
    them more often.

    Args:
        cards: What is asked for.
        space: The classes.
        name: Name of the draw.
    """
    rows = json.dumps([card.row for card in cards]).replace("<", "\\u003c")
    return study_page(
        "mke_ray.ask",
        "ask.html.j2",
        cards=cards,
        classes=space.classes,
        is_multi=space.kind is LabelKind.MULTI,
        nobody=NOBODY_KNOWS,
        name=name,
        rows=rows,
        columns=json.dumps(COLUMNS),
    )


def sheet_png(cards: Sequence[Card]) -> bytes:
    """Return the cards as one picture, to print or to send."""
    images = [_labelled(card) for card in cards]
    width = CARD_WIDTH + _MARGIN
    height = max(image.height for image in images) + _MARGIN
    num_rows = -(-len(images) // _COLUMNS)
    sheet = Image.new("RGB", (width * _COLUMNS + _MARGIN, height * num_rows + _MARGIN), "white")
    for place, image in enumerate(images):
        left, top = width * (place % _COLUMNS), height * (place // _COLUMNS)
        sheet.paste(image, (left + _MARGIN, top + _MARGIN))
    buffer = io.BytesIO()
    sheet.save(buffer, format="PNG")
    return buffer.getvalue()


def _labelled(card: Card) -> Image.Image:
    """Return a card's picture under its name, with room for a label."""
    picture = Image.open(io.BytesIO(card.jpeg)) if card.jpeg else Image.new("RGB", (CARD_WIDTH, 1))
    head, foot = 34, 30 if card.jpeg else 60
    image = Image.new("RGB", (CARD_WIDTH, head + picture.height + foot), "white")
    draw = ImageDraw.Draw(image)
    font, small = ImageFont.load_default(size=22), ImageFont.load_default(size=16)
    draw.text((0, 4), card.id, fill=INK, font=font)
    draw.line((CARD_WIDTH // 2, head - 6, CARD_WIDTH, head - 6), fill=MUTED)
    image.paste(picture, (0, head))
    draw.text((0, head + picture.height + 5), card.key[-56:], fill=MUTED, font=small)
    if not card.jpeg:
        draw.text((0, head + picture.height + 28), card.text[:56], fill=INK, font=small)
    return image


def _wav(sound_N: np.ndarray, rate_hz: int) -> bytes:
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate_hz)
        file.writeframes(np.rint(np.clip(sound_N, -1, 1) * 32767).astype("<i2").tobytes())
    return buffer.getvalue()


def _text(
    arrays: Mapping[str, np.ndarray], decode: DecodeSpec, tokenizers: Mapping[str, TextTokenizer]
) -> str:
    """Return what can only be read."""
    said = []
    for name, spec in decode.items():
        if isinstance(spec, TokenSpec) and name in tokenizers and name in arrays:
            said.append(f"{name}: {tokenizers[name].text(arrays[name])}")
        elif isinstance(spec, FeatureSpec) and name in arrays:
            numbers = " ".join(f"{one:.3g}" for one in arrays[name][:8])
            said.append(f"{name}: {numbers}{' …' if spec.num_features > 8 else ''}")
    return "; ".join(said)
