"""Samples that somebody sent, decoded in a process of their own; nothing of them is trusted."""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from mke_ray.data.decoders import prove_decoders
from mke_ray.data.media import Decoded
from mke_ray.data.one_sample import CLIP, decode_files, field_names
from mke_ray.data.sources import Progress, SourceRow
from mke_ray.schema import DecodeSpec, LabelSpace, ManifestRow, ModalitySpec
from mke_ray.serve.limits import ServeLimits


def file_of(decode: Mapping[str, ModalitySpec], field: str) -> str:
    """Return the name of a field's file in the folder of its sample, whatever the field is called.

    Args:
        decode: What is stored of every modality.
        field: One of ``field_names``.
    """
    return CLIP if field == CLIP else f"{sorted(decode).index(field)}"


@dataclass(frozen=True, slots=True)
class UploadSource:
    """Files that wait in folders of their own, one folder per sample, named by its key.

    Args:
        folder: Where the folders lie; nobody else may write there.
        limits: The largest files that are decoded.
    """

    folder: str
    limits: Mapping[str, Any]

    @property
    def label_space(self) -> LabelSpace:
        """Uploads have no labels."""
        raise TypeError("an upload has no labels")

    def identity(self) -> dict[str, Any]:
        """Return what it is."""
        return {"source": "uploads"}

    def prepare(self, progress: Progress | None = None) -> None:
        """Do nothing: files are there before they are asked for."""

    def rows(self, after: str | None = None) -> Iterator[SourceRow]:
        """Yield nothing: uploads are not listed."""
        return iter(())

    def reader(self, spec: DecodeSpec) -> "UploadReader":
        """Return what decodes them."""
        return UploadReader(self.folder, spec, ServeLimits(**self.limits))


@dataclass(slots=True)
class UploadReader:
    """Decodes the files of one sample: a clip of all streams, and files of single modalities.

    Args:
        folder: Where the folders of the samples lie.
        spec: What to decode.
        limits: The largest files that are decoded.
    """

    folder: str
    spec: DecodeSpec
    limits: ServeLimits

    def __post_init__(self) -> None:
        """Prove that the chosen library decodes.

        Raises:
            ConfigError: It does not.
        """
        prove_decoders(self.spec)

    def read(self, row: ManifestRow) -> Decoded:
        """Return the arrays of one sample; a file that fails takes no other with it.

        Raises:
            MediaError: Nothing of it can be used.
        """
        found = {name: self._content(row.key, name) for name in field_names(self.spec)}
        return decode_files(
            {name: content for name, content in found.items() if content is not None},
            self.spec,
            start_s=row.start_s,
            end_s=row.end_s,
            limits=self.limits.of_media(),
            sample_id=row.sample_id,
        )

    def _content(self, key: str, field: str) -> bytes | None:
        try:
            with open(os.path.join(self.folder, key, file_of(self.spec, field)), "rb") as file:
                return file.read(self.limits.file_bytes + 1)
        except FileNotFoundError:
            return None
