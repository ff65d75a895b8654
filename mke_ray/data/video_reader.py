"""Reads videos from their store: whole objects, or only what a span of a long one needs."""

from dataclasses import dataclass

from mke_ray.data.cpu_slots import waiting
from mke_ray.data.decoders import prove_decoders
from mke_ray.data.links import UnusableKeyError
from mke_ray.data.media import LIMITS, Decoded, decode_clip
from mke_ray.data.places import Places
from mke_ray.data.ranges import RangeFile
from mke_ray.errors import MISSING_FILE, MediaError
from mke_ray.schema import Backend, DecodeSpec, ManifestRow, VideoSpec

# Up to this size one request for all is as quick as two for parts.
WHOLE_BYTES = 2 << 20


@dataclass(slots=True)
class VideoReader:
    """Fetches a clip from its store and decodes it.

    Args:
        places: Where the keys of the source are.
        spec: What to decode.
        fetches_apart: It leaves its CPU to others while it waits for the store.
    """

    places: Places
    spec: DecodeSpec
    fetches_apart: bool = True

    def __post_init__(self) -> None:
        """Prove that the chosen library decodes.

        Raises:
            ConfigError: It does not.
        """
        prove_decoders(self.spec)

    def read(self, row: ManifestRow) -> Decoded:
        """Return the arrays of one clip.

        Raises:
            MediaError: The object is missing, cannot be asked for or cannot be decoded.
            OSError: The store did not answer, after retries.
        """
        try:
            return self._read_part(row) if self._needs_part(row) else self._read_whole(row)
        except FileNotFoundError:
            where = f"{row.key} is not in {self.places.root_uri}"
            raise MediaError(MISSING_FILE, where) from None
        except UnusableKeyError as error:
            raise MediaError("unsupported", str(error)) from None

    def _needs_part(self, row: ManifestRow) -> bool:
        """Return whether less than the object may do."""
        return (
            row.size > WHOLE_BYTES
            and row.end_s is not None
            and all(
                one.backend == Backend.PYAV
                for one in self.spec.values()
                if isinstance(one, VideoSpec)
            )
        )

    def _read_whole(self, row: ManifestRow) -> Decoded:
        if row.size > LIMITS.num_bytes:
            raise MediaError("too_large", f"{row.key} has {row.size} bytes")
        root, name = self.places.find_to_read(row.key)
        with waiting():
            content = root.read(name)
        decoded = decode_clip(
            content, self.spec, start_s=row.start_s, end_s=row.end_s, sample_id=row.sample_id
        )
        decoded.num_bytes_read = len(content)
        return decoded

    def _read_part(self, row: ManifestRow) -> Decoded:
        root, name = self.places.find_to_read(row.key)

        def fetch(begin: int, end: int) -> bytes:
            with waiting():
                return root.read_range(name, begin, end)

        file = RangeFile(fetch, row.size, max_bytes=LIMITS.num_bytes)
        try:
            decoded = decode_clip(
                file, self.spec, start_s=row.start_s, end_s=row.end_s, sample_id=row.sample_id
            )
        except MediaError:
            if file.failure is not None:
                raise file.failure from None
            raise
        if file.failure is not None:
            raise file.failure
        decoded.num_bytes_read = file.num_bytes_read
        return decoded
