"""Reads samples of several files, one per modality."""

from collections.abc import Mapping
from dataclasses import dataclass

from mke_ray.data.cpu_slots import waiting
from mke_ray.data.decoders import prove_decoders
from mke_ray.data.media import LIMITS, Decoded, decode_clip
from mke_ray.data.pictures import PILLOW, read_picture
from mke_ray.data.places import UnusableKeyError, check_name
from mke_ray.errors import MISSING_FILE, MediaError
from mke_ray.schema import DecodeSpec, ImageSpec, ManifestRow
from mke_ray.storage import Root

KEY = "{key}"


@dataclass(slots=True)
class PairsReader:
    """Reads the files of a sample one after the other and decodes them.

    Args:
        root: Root of the source.
        files: Pattern of each modality's file.
        spec: What to decode.
        fetches_apart: It leaves its CPU to others while it waits for the store.
    """

    root: Root
    files: Mapping[str, str]
    spec: DecodeSpec
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
            MediaError: No modality can be read.
            OSError: The store did not answer, after retries.
        """
        if row.size > LIMITS.num_bytes:
            raise MediaError("too_large", f"the files of {row.key} have {row.size} bytes")
        decoded = Decoded({}, {})
        for pattern in dict.fromkeys(self.files[modality] for modality in self.spec):
            here = {m: one for m, one in self.spec.items() if self.files[m] == pattern}
            self._read_file(file_name(pattern, row.key), here, row, decoded)
        if not decoded.arrays:
            reasons = sorted(decoded.missing.values(), key=lambda reason: reason == MISSING_FILE)
            raise MediaError(reasons[0], f"nothing of {row.key} is usable: {decoded.missing}")
        return decoded

    def _read_file(self, name: str, spec: DecodeSpec, row: ManifestRow, into: Decoded) -> None:
        """Add what one file holds, or why it cannot be had."""
        try:
            check_name(self.root, name)
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
            if isinstance(one, ImageSpec):
                _decode_picture(content, modality, one, into)
        streams: DecodeSpec = {m: one for m, one in spec.items() if not isinstance(one, ImageSpec)}
        if streams:
            _decode_streams(content, streams, row, into)


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


def _decode_picture(content: bytes, modality: str, spec: ImageSpec, into: Decoded) -> None:
    """Add the picture of one file."""
    try:
        into.arrays[modality] = read_picture(content, spec)
    except MediaError as error:
        into.missing[modality] = error.reason
        return
    into.num_bytes_needed += len(content)
    _name_decoder(PILLOW, into)


def _name_decoder(name: str, into: Decoded) -> None:
    if name not in into.decoder:
        into.decoder = f"{into.decoder}, {name}" if into.decoder else name
