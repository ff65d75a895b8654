"""A part: unit files one after the other, and a footer that makes one Parquet file of them all.

Every unit keeps its own file, with its own footer, as a range of the part: it is fetched by one
request, read without the footer of the part, and has the digest that it had. To any other reader
of Parquet the part is a file of one row group per unit, since readers follow the offsets of the
footer and do not mind what lies between two row groups.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from mke_ray.errors import StoreError

_MAGIC = b"PAR1"
_TAIL_BYTES = 8  # length of the footer and the magic word
_LARGEST_ORDINAL = 2**15 - 1

# Types of Thrift's compact protocol, in which footers are written.
_STOP, _TRUE, _FALSE, _BYTE, _DOUBLE, _BINARY = 0, 1, 2, 3, 7, 8
_INTEGERS = (4, 5, 6)
_LIST, _SET, _STRUCT = 9, 10, 12

# Fields of FileMetaData, RowGroup, ColumnChunk and ColumnMetaData in the format's parquet.thrift.
_FILE_NUM_ROWS, _FILE_ROW_GROUPS = 3, 4
_GROUP_COLUMNS, _GROUP_OFFSET, _GROUP_ORDINAL = 1, 5, 7
_CHUNK_OFFSET, _CHUNK_FACTS, _CHUNK_OFFSETS_OF_INDEXES = 2, 3, (4, 6)
_FACTS_OFFSETS = (9, 10, 11, 14)

_Edits = Mapping[int, "Callable[[int], int] | _Edits"]


@dataclass(frozen=True, slots=True)
class UnitFooter:
    """The footer of a file of one row group, cut where a footer of many differs from it.

    Args:
        head: Version and schema, up to the value of the number of rows.
        num_rows: Rows of the file.
        group_tag: What announces the row groups.
        group: The row group.
        tail: Everything after the row groups.
    """

    head: bytes
    num_rows: int
    group_tag: bytes
    group: bytes
    tail: bytes

    @classmethod
    def parse(cls, file: bytes) -> "UnitFooter":
        """Read the footer of the file of a unit.

        Raises:
            StoreError: It is no Parquet file of one row group.
        """
        size = int.from_bytes(file[-_TAIL_BYTES:-4], "little")
        if file[:4] != _MAGIC or file[-4:] != _MAGIC or not 0 < size <= len(file) - 12:
            raise StoreError(f"expected a Parquet file, found {len(file)} bytes of something else")
        footer = file[-_TAIL_BYTES - size : -_TAIL_BYTES]
        rows_at, rows_end, groups_at, groups_end = _spans(footer)
        num_groups, element, group_at = _list_header(footer, groups_at)
        if num_groups != 1 or element != _STRUCT:
            raise StoreError(f"expected a Parquet file of one row group, found {num_groups}")
        return cls(
            head=footer[:rows_at],
            num_rows=_unzigzag(_varint(footer, rows_at)[0]),
            group_tag=footer[rows_end:groups_at],
            group=footer[group_at:groups_end],
            tail=footer[groups_end:],
        )


def joined(files: Sequence[bytes]) -> bytes:
    """Return a part of some unit files, each of which lies in it as it is, in the same order.

    Args:
        files: Parquet files of one row group each, of the same schema.

    Raises:
        StoreError: One of them is no such file.
    """
    footers = [UnitFooter.parse(file) for file in files]
    first, groups, offset = footers[0], [], 0
    for number, (file, footer) in enumerate(zip(files, footers, strict=True)):
        groups.append(_moved(footer.group, by=offset, number=number))
        offset += len(file)
    footer = b"".join(
        [
            first.head,
            _to_varint(_zigzag(sum(one.num_rows for one in footers))),
            first.group_tag,
            _to_list_header(len(groups)),
            *groups,
            first.tail,
        ]
    )
    return b"".join([*files, footer, len(footer).to_bytes(4, "little"), _MAGIC])


def _moved(group: bytes, *, by: int, number: int) -> bytes:
    """Return a row group whose pages lie further on in a file.

    Args:
        group: The row group.
        by: Bytes that come before it now.
        number: Its number in the file.
    """

    def shift(offset: int) -> int:
        return offset + by if offset else 0  # 0: writers that give none

    chunk: _Edits = {
        **dict.fromkeys((_CHUNK_OFFSET, *_CHUNK_OFFSETS_OF_INDEXES), shift),
        _CHUNK_FACTS: dict.fromkeys(_FACTS_OFFSETS, shift),
    }
    edits: _Edits = {
        _GROUP_COLUMNS: chunk,
        _GROUP_OFFSET: shift,
        _GROUP_ORDINAL: lambda _: min(number, _LARGEST_ORDINAL),
    }
    out: list[bytes] = []
    _edit_struct(group, 0, edits, out)
    return b"".join(out)


def _spans(footer: bytes) -> tuple[int, int, int, int]:
    """Return where the number of rows and the row groups begin and end."""
    spans: dict[int, tuple[int, int]] = {}
    begin, field = 0, 0
    while footer[begin] != _STOP:
        field, kind, value_at = _field_header(footer, begin, field)
        begin = _end(footer, value_at, kind)
        spans[field] = (value_at, begin)
    return (*spans[_FILE_NUM_ROWS], *spans[_FILE_ROW_GROUPS])


def _edit_struct(content: bytes, begin: int, edits: _Edits, out: list[bytes]) -> int:
    """Copy a struct with other values of some fields, and return where it ends."""
    field = 0
    while content[begin] != _STOP:
        field, kind, value_at = _field_header(content, begin, field)
        edit = edits.get(field)
        out.append(content[begin:value_at])
        if edit is None:
            begin = _end(content, value_at, kind)
            out.append(content[value_at:begin])
        elif callable(edit):
            value, begin = _varint(content, value_at)
            out.append(_to_varint(_zigzag(edit(_unzigzag(value)))))
        elif kind == _STRUCT:
            begin = _edit_struct(content, value_at, edit, out)
        else:
            begin = _edit_list(content, value_at, edit, out)
    out.append(content[begin : begin + 1])
    return begin + 1


def _edit_list(content: bytes, begin: int, edits: _Edits, out: list[bytes]) -> int:
    """Copy a list of structs with other values of some of their fields."""
    size, _, end = _list_header(content, begin)
    out.append(content[begin:end])
    for _ in range(size):
        end = _edit_struct(content, end, edits, out)
    return end


def _field_header(content: bytes, begin: int, last_field: int) -> tuple[int, int, int]:
    """Return the number and the type of a field, and where its value begins."""
    delta, kind = content[begin] >> 4, content[begin] & 0x0F
    if delta:
        return last_field + delta, kind, begin + 1
    number, value_at = _varint(content, begin + 1)
    return _unzigzag(number), kind, value_at


def _list_header(content: bytes, begin: int) -> tuple[int, int, int]:
    """Return the size of a list, the type of its elements, and where they begin."""
    size, kind = content[begin] >> 4, content[begin] & 0x0F
    if size < 15:
        return size, kind, begin + 1
    size, elements_at = _varint(content, begin + 1)
    return size, kind, elements_at


def _end(content: bytes, begin: int, kind: int) -> int:
    """Return where a value ends."""
    if kind in (_TRUE, _FALSE):
        return begin  # the type of the field says it
    if kind in (_BYTE, _DOUBLE):
        return begin + (1 if kind == _BYTE else 8)
    if kind in _INTEGERS:
        return _varint(content, begin)[1]
    if kind == _BINARY:
        size, value_at = _varint(content, begin)
        return value_at + size
    if kind in (_LIST, _SET):
        return _end_of_list(content, begin)
    if kind == _STRUCT:
        return _end_of_struct(content, begin)
    raise StoreError(f"the footer of a Parquet file holds a value of type {kind}, unknown here")


def _end_of_list(content: bytes, begin: int) -> int:
    """Return where a list ends."""
    size, kind, end = _list_header(content, begin)
    if kind in (_TRUE, _FALSE):
        return end + size
    for _ in range(size):
        end = _end(content, end, kind)
    return end


def _end_of_struct(content: bytes, begin: int) -> int:
    """Return where a struct ends."""
    field = 0
    while content[begin] != _STOP:
        field, kind, value_at = _field_header(content, begin, field)
        begin = _end(content, value_at, kind)
    return begin + 1


def _varint(content: bytes, begin: int) -> tuple[int, int]:
    """Return the number that begins there and where it ends."""
    value = shift = 0
    while True:
        byte = content[begin]
        value |= (byte & 0x7F) << shift
        begin, shift = begin + 1, shift + 7
        if byte < 0x80:
            return value, begin


def _to_varint(value: int) -> bytes:
    """Return a number of any size as it is written."""
    encoded = bytearray()
    while value >= 0x80:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def _to_list_header(size: int) -> bytes:
    """Return what announces a list of structs."""
    if size < 15:
        return bytes([size << 4 | _STRUCT])
    return bytes([0xF0 | _STRUCT]) + _to_varint(size)


def _zigzag(value: int) -> int:
    """Return a signed number as an unsigned one, as Thrift does it."""
    return value << 1 if value >= 0 else (-value << 1) - 1


def _unzigzag(value: int) -> int:
    """Return the signed number."""
    return value >> 1 if value & 1 == 0 else -(value + 1 >> 1)
