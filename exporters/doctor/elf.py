"""Which libraries a shared library needs, read from its header without loading it.

This is read by hand because nothing simpler is right: loading the library names only the first one
that is missing, ``ldd`` is not installed everywhere, and a search for names in the bytes also finds
libraries that are only mentioned, such as ``libcudart.so.12`` in a build for CUDA 13.
"""

from __future__ import annotations

import mmap
import struct
from pathlib import Path

_MAGIC = b"\x7fELF\x02\x01"  # 64 bits, little-endian
_LOAD, _DYNAMIC = 1, 2  # kinds of program headers
_NEEDED, _STRINGS = 1, 5  # kinds of dynamic entries


def needed_libraries(path: Path) -> list[str]:
    """List the libraries that the loader must find for a shared library.

    Args:
        path: An ELF file of 64 bits.

    Returns:
        Their file names, in order.

    Raises:
        ValueError: It is not such a file.
    """
    with open(path, "rb") as file:
        content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    try:
        return _needed(content)
    except struct.error:
        raise ValueError(f"{path} ends too early") from None
    finally:
        content.close()


def _needed(content: mmap.mmap) -> list[str]:
    if content[:6] != _MAGIC:
        raise ValueError("not an ELF file of 64 bits")
    (start,) = struct.unpack_from("<Q", content, 32)
    size, count = struct.unpack_from("<HH", content, 54)
    segments = [struct.unpack_from("<IIQQQQ", content, start + i * size) for i in range(count)]
    names, strings = [], 0
    for kind, _, offset, _, _, length in segments:
        if kind != _DYNAMIC:
            continue
        for tag, value in struct.iter_unpack("<qQ", content[offset : offset + length]):
            if tag == _NEEDED:
                names.append(value)
            if tag == _STRINGS:
                strings = value
    for kind, _, offset, address, _, length in segments:
        if kind == _LOAD and address <= strings < address + length:
            base = strings - address + offset
            return [_text(content, base + name) for name in names]
    return []


def _text(content: mmap.mmap, start: int) -> str:
    return content[start : content.find(b"\0", start)].decode()
