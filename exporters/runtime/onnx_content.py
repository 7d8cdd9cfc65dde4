"""The certificate at the end of an ONNX file, and the hash of all other bytes.

The certificate is one entry of the file's metadata, after everything else. So it can be added
without touching what was proved, and removed to hash that again. The entry is encoded by hand
because the runtime, which compares the end of a file byte by byte, does without the ``onnx`` package.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from visiongraft.exporters.runtime.description import CERTIFICATE

_METADATA, _NAME, _VALUE = 14, 1, 2  # fields of ModelProto and of its metadata's entries


def certificate_field(text: str) -> bytes:
    """Encode a certificate as the last field of a serialized model.

    Args:
        text: The certificate, in JSON.

    Returns:
        The bytes that the file ends with.
    """
    entry = _field(_NAME, CERTIFICATE.encode()) + _field(_VALUE, text.encode())
    return _field(_METADATA, entry)


def content_sha256(path: Path, text: str | None = None) -> str | None:
    """Hash a file without its certificate.

    Args:
        path: The file.
        text: Its certificate, in JSON; ``None`` if it has none yet.

    Returns:
        SHA-256 in hexadecimal digits; ``None`` if the file does not end with this certificate.
    """
    tail = b"" if text is None else certificate_field(text)
    digest, left = hashlib.sha256(), path.stat().st_size - len(tail)
    with open(path, "rb") as file:
        while left > 0 and (part := file.read(min(left, 2**20))):
            digest.update(part)
            left -= len(part)
        return digest.hexdigest() if left == 0 and file.read() == tail else None


def _field(number: int, content: bytes) -> bytes:
    """Encode a field that has a length."""
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    """Encode an integer, seven bits at a time."""
    parts = []
    while value >= 0x80:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*parts, value])
