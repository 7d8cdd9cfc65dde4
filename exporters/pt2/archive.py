"""The .pt2 file: written, described, hashed, and opened after all of it was found harmless."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch.export import ExportedProgram
from torch.export.pt2_archive import PT2ArchiveReader
from torch.export.pt2_archive._package import load_pt2

from visiongraft.errors import ArtifactError, one_line
from visiongraft.exporters.pt2.records import check_archive, check_same
from visiongraft.exporters.pt2.safety import (
    check_program,
    check_records,
    check_tensors,
    libraries_of,
)
from visiongraft.exporters.runtime.capture import unlogged
from visiongraft.exporters.runtime.description import CERTIFICATE

MAX_BYTES = 2**33
METADATA_FILE, CERTIFICATE_FILE = "metadata.json", "certificate.json"  # among the extra files
_EXTRA = "extra/"
_PROGRAM, _EXAMPLES = "models/model.json", "data/sample_inputs/model.pt"
_CONFIGS = ("data/weights/model_weights_config.json", "data/constants/model_constants_config.json")


def serialized(program: ExportedProgram, metadata: Mapping[str, Any]) -> bytes:
    """Write a program and its metadata.

    Args:
        program: The program.
        metadata: JSON values by name.

    Returns:
        The file's content.
    """
    content = io.BytesIO()
    extra = {METADATA_FILE: json.dumps(metadata, ensure_ascii=False)}
    with unlogged():
        torch.export.save(program, content, extra_files=extra)
    return content.getvalue()


def add_certificate(file: Path, certificate: Mapping[str, Any]) -> None:
    """Add the certificate as one more record; the others stay as they are.

    Args:
        file: The .pt2 file.
        certificate: JSON values by name.
    """
    with zipfile.ZipFile(file, "a") as archive:
        root = archive.namelist()[0].partition("/")[0]
        text = json.dumps(certificate, ensure_ascii=False)
        archive.writestr(zipfile.ZipInfo(f"{root}/{_EXTRA}{CERTIFICATE_FILE}"), text)


def content_sha256(path: Path) -> str:
    """Hash names and contents of all records but the certificate.

    Args:
        path: The file.

    Returns:
        SHA-256 in hexadecimal digits.

    Raises:
        ArtifactError: It cannot be read.
    """
    digest = hashlib.sha256()
    with _opened(path) as (reader, _):
        for name in sorted(reader.get_file_names()):
            if name != _EXTRA + CERTIFICATE_FILE:
                content = reader.read_bytes(name)
                digest.update(f"{name} {len(content)}\n".encode() + content)
    return digest.hexdigest()


def load_program(path: Path, max_bytes: int = MAX_BYTES) -> tuple[ExportedProgram, dict[str, Any]]:
    """Load a program, after everything in the file was found harmless.

    Args:
        path: The file.
        max_bytes: Largest size that is accepted.

    Returns:
        The program and the file's metadata; without a certificate if it has none yet.

    Raises:
        ArtifactError: It is missing, too large, unsafe or damaged.
    """
    with _opened(path, max_bytes) as (reader, stream), unlogged():
        metadata = _checked(reader)
        stream.seek(0)
        # Not torch.export.load, which tries an older format, of pickles, where this one fails.
        program = load_pt2(stream).exported_programs["model"]
    return program, metadata


@contextmanager
def _opened(path: Path, max_bytes: int = MAX_BYTES) -> Iterator[tuple[PT2ArchiveReader, Any]]:
    """Open an archive; errors in the block are attributed to the file."""
    if not path.is_file():
        raise ArtifactError(f"{path} {'is a folder' if path.is_dir() else 'does not exist'}")
    try:
        with open(path, "rb") as stream:
            sizes = check_archive(stream, max_bytes)
            stream.seek(0)
            reader = PT2ArchiveReader(stream)
            size_of = reader.archive_file.get_record_size
            check_same(sizes, {name: size_of(name) for name in reader.get_file_names()})
            yield reader, stream
    except ArtifactError:
        raise
    except Exception as error:  # torch raises anything for a damaged file
        raise ArtifactError(
            f"{path} cannot be loaded: it is not a .pt2 file that visiongraft wrote, or it is damaged "
            f"({one_line(error)})"
        ) from error


def _checked(reader: PT2ArchiveReader) -> dict[str, Any]:
    """Refuse what could run code, and return the file's metadata."""
    names = reader.get_file_names()
    check_records(names, reader.archive_file.get_record_size(_EXAMPLES))
    for name in _CONFIGS:
        check_tensors(json.loads(reader.read_bytes(name)))
    text = reader.read_string(_PROGRAM)
    if "torchvision" in libraries_of(text):
        import torchvision  # noqa: F401  registers its operators
    check_program(json.loads(text))
    metadata: dict[str, Any] = json.loads(reader.read_bytes(_EXTRA + METADATA_FILE))
    if not isinstance(metadata, dict):
        raise TypeError("its metadata are not a mapping")
    if _EXTRA + CERTIFICATE_FILE in names:
        metadata[CERTIFICATE] = json.loads(reader.read_bytes(_EXTRA + CERTIFICATE_FILE))
    return metadata
