"""Reads samples of several files, one per modality."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from mke_ray.data.cpu_slots import waiting
from mke_ray.data.decoders import prove_decoders
from mke_ray.data.links import UnusableKeyError, check_links
from mke_ray.data.media import LIMITS, Decoded, decode_clip
from mke_ray.data.pictures import PILLOW, read_picture
from mke_ray.data.places import check_name
from mke_ray.data.scene_files import DepthFiles, MaskFiles
from mke_ray.data.text_files import HASHED, TOKENS, TextFiles
from mke_ray.errors import MISSING_FILE, MediaError
from mke_ray.schema import (
    MASK,
    DecodeSpec,
    DepthSpec,
    FeatureSpec,
    ImageSpec,
    ManifestRow,
    MaskSpec,
    Split,
    TokenSpec,
    without_mask,
)
from mke_ray.storage import Root
from mke_ray.tokens import TextTokenizer

KEY = "{key}"
WITHHELD = "withheld"

WholeSpec = ImageSpec | DepthSpec | MaskSpec | FeatureSpec | TokenSpec


@dataclass(slots=True)
class PairsReader:
    """Reads the files of a sample one after the other and decodes them.

    Args:
        root: Root of the source.
        files: Pattern of each modality's file.
        spec: What to decode.
        depth_files: How files of distances hold them.
        mask_files: How files of true classes hold them; None where there are none.
        withheld: Per split the modalities that its samples are not given, though there are files.
        text_files: How files of text hold it.
        tokenizers: Tokenizer of each modality of tokens.
        tops: Folders that links of a local disk may lead to; empty for those below the root.
        fetches_apart: It leaves its CPU to others while it waits for the store.
    """

    root: Root
    files: Mapping[str, str]
    spec: DecodeSpec
    depth_files: DepthFiles = field(default_factory=DepthFiles)
    mask_files: MaskFiles | None = None
    withheld: Mapping[str, Collection[str]] = field(default_factory=dict)
    text_files: TextFiles = field(default_factory=TextFiles)
    tokenizers: Mapping[str, TextTokenizer] = field(default_factory=dict)
    tops: Sequence[str] = ()
    fetches_apart: bool = True

    def __post_init__(self) -> None:
        """Prove that the chosen library decodes.

        Raises:
            ConfigError: It does not.
        """
        prove_decoders(self.spec)

    def read(self, row: ManifestRow) -> Decoded:
        """Return the arrays of one sample; a file that fails takes no other with it.

        Raises:
            MediaError: No modality can be read, or the true classes cannot where they are needed.
            OSError: The store did not answer, after retries.
        """
        if row.size > LIMITS.num_bytes:
            raise MediaError("too_large", f"the files of {row.key} have {row.size} bytes")
        withheld = self.withheld.get(row.split, ())
        decoded = Decoded({}, {m: WITHHELD for m in self.spec if m in withheld})
        wanted = {m: one for m, one in self.spec.items() if m not in withheld}
        for pattern in dict.fromkeys(self.files[modality] for modality in wanted):
            here = {m: one for m, one in wanted.items() if self.files[m] == pattern}
            self._read_file(file_name(pattern, row.key), here, row, decoded)
        if not without_mask(decoded.arrays):
            reasons = sorted(decoded.missing.values(), key=lambda reason: reason == MISSING_FILE)
            raise MediaError(reasons[0], f"nothing of {row.key} is usable: {decoded.missing}")
        return decoded

    def _read_file(self, name: str, spec: DecodeSpec, row: ManifestRow, into: Decoded) -> None:
        """Add what one file holds, or why it cannot be had."""
        try:
            check_name(self.root, name)
            if self.root.is_local:
                check_links(self.root.path(name), self.tops or (self.root.path(),))
            with waiting():
                content = self.root.read(name)
        except FileNotFoundError:
            into.missing |= dict.fromkeys(spec, MISSING_FILE)
            return
        except UnusableKeyError:
            into.missing |= dict.fromkeys(spec, "unsupported")
            return
        into.num_bytes_read += len(content)
        for modality, one in spec.items():
            if isinstance(one, WholeSpec):
                self._decode_whole(content, modality, one, row, into)
        streams: DecodeSpec = {m: one for m, one in spec.items() if not isinstance(one, WholeSpec)}
        if streams:
            _decode_streams(content, streams, row, into)

    def _decode_whole(
        self, content: bytes, modality: str, spec: WholeSpec, row: ManifestRow, into: Decoded
    ) -> None:
        """Add the picture or text of one file.

        Raises:
            MediaError: It holds the true classes, which cannot be read, of a sample whose role
                needs them.
        """
        try:
            into.arrays[modality] = self._array(content, modality, spec)
        except MediaError as error:
            if modality == MASK and row.split != Split.UNLABELED:
                raise MediaError(error.reason, f"true classes: {error.detail}") from error
            into.missing[modality] = error.reason
            return
        into.num_bytes_needed += len(content)
        of_text = {"features": HASHED, "tokens": TOKENS}
        _name_decoder(of_text.get(spec.kind, PILLOW), into)

    def _array(self, content: bytes, modality: str, spec: WholeSpec) -> np.ndarray:
        if isinstance(spec, FeatureSpec | TokenSpec):
            return self.text_files.read(content, spec, self.tokenizers.get(modality))
        if isinstance(spec, DepthSpec):
            return self.depth_files.read(content, spec)
        if isinstance(spec, MaskSpec):
            assert self.mask_files is not None
            return self.mask_files.read(content, spec)
        return read_picture(content, spec)


def file_name(pattern: str, key: str) -> str:
    """Return the name of a sample's file below the root."""
    return pattern.replace(KEY, key)


def _decode_streams(content: bytes, spec: DecodeSpec, row: ManifestRow, into: Decoded) -> None:
    """Add the streams of one file of video or sound."""
    try:
        clip = decode_clip(
            content, spec, start_s=row.start_s, end_s=row.end_s, sample_id=row.sample_id
        )
    except MediaError as error:
        into.missing |= dict.fromkeys(spec, error.reason)
        return
    into.arrays |= clip.arrays
    into.missing |= clip.missing
    into.num_valid |= clip.num_valid
    into.num_bytes_needed += clip.num_bytes_needed
    into.duration_s = max(into.duration_s, clip.duration_s)
    _name_decoder(clip.decoder, into)


def _name_decoder(name: str, into: Decoded) -> None:
    if name not in into.decoder:
        into.decoder = f"{into.decoder}, {name}" if into.decoder else name
