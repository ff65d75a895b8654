"""Which files an ONNX network keeps its weights in, read from the file without the library onnx."""

import mmap
import os
from collections.abc import Iterator, Mapping

from mke_ray.errors import ConfigError

_VARINT, _EIGHT, _BYTES, _FOUR = 0, 1, 2, 5  # wire types of protobuf
_ORT_MARK = b"ORTM"  # at byte 4 of the other format of onnxruntime, which is no protobuf
_LOCATION = b"location"

# Where messages lie that may hold a tensor, by the numbers of their fields in onnx.proto.
_PARTS: Mapping[str, Mapping[int, str]] = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "function": {7: "node", 11: "attribute"},
    "node": {5: "attribute"},
    "attribute": {
        5: "tensor",
        6: "graph",
        10: "tensor",
        11: "graph",
        22: "sparse",
        23: "sparse",
    },
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {13: "entry"},
}


def weight_files(path: str) -> list[str]:
    """Return the files beside an ONNX file that it keeps weights in, by their names.

    Args:
        path: The file.

    Raises:
        ConfigError: It is no ONNX file, or names a file outside its folder or one that is gone.
    """
    found = []
    for name in sorted(_locations(path)):
        inside = os.path.normpath(name)
        if os.path.isabs(inside) or inside.split(os.sep)[0] == os.pardir:
            raise ConfigError(
                f"path={path} keeps weights in {name}, outside its folder; save it with all of "
                "its weights beside it"
            )
        whole = os.path.join(os.path.dirname(path), inside)
        if not os.path.isfile(whole):
            raise ConfigError(
                f"path={path} keeps weights in {name}, which is not beside it; bring all its files"
            )
        found.append(whole)
    return found


def _locations(path: str) -> set[str]:
    """Return where tensors of a file say that their content is."""
    if not os.path.getsize(path):
        return set()  # nothing can be mapped; who opens it says what is wrong
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        if content[4:8] == _ORT_MARK:
            return set()
        try:
            return set(_of_message(content, "model", 0, len(content)))
        except (ValueError, IndexError, RecursionError) as error:
            raise ConfigError(
                f"path={path} is no network that onnxruntime reads: it is no ONNX file, or cut "
                f"short ({error})"
            ) from error


def _of_message(content: mmap.mmap, kind: str, start: int, stop: int) -> Iterator[str]:
    """Yield the locations in a message that lies between two bytes."""
    if kind == "entry":
        entry = {number: content[a:b] for number, a, b in _fields(content, start, stop)}
        if entry.get(1) == _LOCATION:
            yield entry.get(2, b"").decode()
        return
    for number, a, b in _fields(content, start, stop):
        if number in _PARTS[kind]:
            yield from _of_message(content, _PARTS[kind][number], a, b)


def _fields(content: mmap.mmap, start: int, stop: int) -> Iterator[tuple[int, int, int]]:
    """Yield number, begin and end of the fields of a message that have a length."""
    at = start
    while at < stop:
        tag, at = _varint(content, at)
        number, wire = tag >> 3, tag & 7
        if wire == _BYTES:
            length, at = _varint(content, at)
            if at + length > stop:
                raise ValueError(f"a field at byte {at} ends behind its message")
            yield number, at, at + length
            at += length
        elif wire == _VARINT:
            _, at = _varint(content, at)
        elif wire in (_EIGHT, _FOUR):
            at += 8 if wire == _EIGHT else 4
        else:
            raise ValueError(f"byte {at} begins no field")


def _varint(content: mmap.mmap, at: int) -> tuple[int, int]:
    """Return a number of variable length, and where it ends."""
    value = shift = 0
    while shift < 64:
        byte = content[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if not byte & 0x80:
            return value, at
    raise ValueError(f"the number before byte {at} has no end")
