"""The records of a .pt2 file, a zip archive, checked by its directory before any is read.

A few bytes of a zip archive can stand for gigabytes: deflated, or named by many records at once. And
two readers may take different parts of one file for its directory. torch writes none of that, so it
is refused.
"""

from __future__ import annotations

import struct
import zipfile
from collections.abc import Mapping
from typing import BinaryIO

MAX_RECORDS = 100_000
_HEADER = 30  # bytes of a local header before its name
_END = 22  # bytes of the last record of a directory


def check_archive(stream: BinaryIO, max_bytes: int) -> dict[str, int]:
    """Refuse an archive whose records are compressed, overlap or do not fit their sizes.

    Args:
        stream: The file; left at any position.
        max_bytes: Largest size that is accepted, of the file and of all records together.

    Returns:
        Size of each record in bytes, by name without the root folder.

    Raises:
        ValueError: It is refused.
        zipfile.BadZipFile: It is no zip archive, or a checksum is wrong.
    """
    size = stream.seek(0, 2)
    if size > max_bytes:
        raise ValueError(f"it is larger than max_bytes={max_bytes}")
    _check_end(stream, size)
    with zipfile.ZipFile(stream) as archive:
        entries = sorted(archive.infolist(), key=lambda entry: entry.header_offset)
        sizes: dict[str, int] = {}
        position = 0
        for entry in entries:
            name = entry.filename.partition("/")[2]
            if name in sizes:
                raise ValueError(f"it holds {name[:80]!r} twice")
            if entry.compress_type != zipfile.ZIP_STORED or entry.compress_size != entry.file_size:
                raise ValueError(f"{name[:80]!r} is compressed")
            if entry.header_offset < position or (not sizes and entry.header_offset):
                raise ValueError(f"{name[:80]!r} overlaps another record")
            position = _data_at(stream, entry) + entry.file_size
            sizes[name] = entry.file_size
        if position > archive.start_dir:
            raise ValueError("the last record overlaps the directory")
        if (damaged := archive.testzip()) is not None:  # torch's reader looks at no checksum
            raise ValueError(f"the checksum of {damaged[:80]!r} is wrong")
    return sizes


def check_same(sizes: Mapping[str, int], other: Mapping[str, int]) -> None:
    """Refuse an archive that another reader reads differently.

    Raises:
        ValueError: It does.
    """
    if sizes != other:
        raise ValueError("two readers find different records in it")


def _check_end(stream: BinaryIO, size: int) -> None:
    """Check that the file ends with the directory, and that this is not too long to be read."""
    stream.seek(max(0, size - _END))
    end = stream.read()
    if len(end) < _END or end[:4] != b"PK\x05\x06":
        raise ValueError("it does not end with a zip archive's directory")
    records = struct.unpack_from("<H", end, 10)[0]
    length = struct.unpack_from("<I", end, 12)[0]
    if records == 0xFFFF or length == 0xFFFFFFFF:  # then another record states them
        stream.seek(max(0, size - _END - 20 - 56))
        large = stream.read(56)
        if large[:4] != b"PK\x06\x06":
            raise ValueError("its zip directory is damaged")
        records, length = struct.unpack_from("<QQ", large, 32)
    if records > MAX_RECORDS or length > 1000 * MAX_RECORDS:
        raise ValueError(f"it holds {records} records; {MAX_RECORDS} are accepted")


def _data_at(stream: BinaryIO, entry: zipfile.ZipInfo) -> int:
    """Return where a record's content starts, by its local header."""
    stream.seek(entry.header_offset)
    header = stream.read(_HEADER)
    if len(header) < _HEADER or header[:4] != b"PK\x03\x04":
        raise ValueError("a record has no header")
    name, extra = struct.unpack_from("<HH", header, 26)
    return int(entry.header_offset + _HEADER + name + extra)
