"""HDF5 files in a store that is not this disk: damage is of a sample, silence is of the store."""

import uuid

import numpy as np
import pytest
from fsspec.implementations.memory import MemoryFile

from mke_ray.data.hdf5 import Hdf5File
from mke_ray.errors import ConfigError, MediaError
from mke_ray.storage import open_root

NUMBERS = np.arange(4000, dtype=np.int64).reshape(4, 1000)


@pytest.fixture
def file(tmp_path):
    """A file of four packed rows, of which the last one is damaged."""
    h5py = pytest.importorskip("h5py", reason="the extra hdf5 is not installed")
    with h5py.File(tmp_path / "a.h5", "w") as made:
        rows = made.create_dataset("rows", data=NUMBERS, chunks=(1, 1000), compression="gzip")
        where = rows.id.get_chunk_info(3)
    content = bytearray((tmp_path / "a.h5").read_bytes())
    content[where.byte_offset : where.byte_offset + where.size] = bytes(where.size)
    root = open_root(f"memory://hdf5-{uuid.uuid4().hex}")
    root.filesystem().pipe_file(root.path("a.h5"), bytes(content))
    return Hdf5File(root, "a.h5")


def read(file, row):
    with file.reading(f"a.h5#{row}"):
        return np.asarray(file.dataset("rows")[row])


def test_a_damaged_block_of_a_remote_file_is_of_its_sample(file):
    assert np.array_equal(read(file, 1), NUMBERS[1])
    with pytest.raises(MediaError, match=r"a\.h5#3"):
        read(file, 3)
    assert np.array_equal(read(file, 2), NUMBERS[2])


def test_a_store_that_does_not_answer_is_no_damage(file, monkeypatch):
    assert np.array_equal(read(file, 0), NUMBERS[0])

    def fails(*_):
        raise ConnectionError("gone")

    with monkeypatch.context() as now:
        now.setattr(MemoryFile, "readinto", fails, raising=False)
        with pytest.raises(ConnectionError):
            read(file, 1)
        with pytest.raises(ConnectionError):
            read(Hdf5File(file.root, "a.h5"), 1)
    assert np.array_equal(read(file, 1), NUMBERS[1])
    with pytest.raises(MediaError):  # what the store said before is over
        read(file, 3)


def test_a_remote_file_that_is_none_is_named(file):
    file.root.filesystem().pipe_file(file.root.path("b.h5"), b"nothing")
    with pytest.raises(ConfigError, match="cannot be opened as an HDF5 file"):
        read(Hdf5File(file.root, "b.h5"), 0)
