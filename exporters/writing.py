"""Write an exported file aside, verify it, if possible for images of any size, and rename it."""

from __future__ import annotations

import glob
import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from visiongraft.certificate import Certificate
from visiongraft.errors import ExportError, OptionError
from visiongraft.exporters.verification.proof import Findings
from visiongraft.preprocess import PreprocessConfig
from visiongraft.saving.files import unwritable, write_json

log = logging.getLogger("visiongraft")


@contextmanager
def written_aside(path: Path) -> Iterator[Path]:
    """Create an empty temporary file in the target's folder; it never outlives the block.

    Args:
        path: The target. What the block leaves there stays; see ``move_into_place``.

    Yields:
        The temporary file.

    Raises:
        OptionError: ``path`` is a folder.
        VisiongraftError: The folder cannot be written to.
    """
    if path.is_dir():
        raise OptionError(f"{path} is a folder; name a file in it, such as {path / 'model'}")
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        for left_over in path.parent.glob(f".{glob.escape(path.name)}.*.tmp"):
            left_over.unlink()  # of an export that was killed
        temporary.touch()
        yield temporary
    except OSError as error:
        raise unwritable(path, error) from error
    finally:
        with suppress(OSError):
            temporary.unlink()


def append(file: Path, content: bytes) -> None:
    """Add to the end of a file, and wait until it is on the disk."""
    with open(file, "ab") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())


def move_into_place(temporary: Path, path: Path, certificate: Certificate) -> None:
    """Put a proved file where it belongs, and its certificate beside it.

    Args:
        temporary: The file.
        path: The target.
        certificate: Goes to ``<file>.certificate.json``.
    """
    os.replace(temporary, path)
    write_json(path.with_name(f"{path.name}.certificate.json"), certificate.to_json())


def at_any_size_if_possible(
    attempt: Callable[[tuple[int, int] | None], Findings],
    config: PreprocessConfig,
    size: tuple[int, int] | None,
) -> Findings:
    """Make and prove a file, if need be for images of one size.

    Only a network that sees images at their own size (``resize="pad"``) may be bound to one.

    Args:
        attempt: Makes and proves the file for a height and width of its images, or for any.
        config: The network's preprocessing.
        size: The size that the user chose.

    Returns:
        The results of the proof, with a warning if the size was fixed automatically.

    Raises:
        ExportError: No file agrees with PyTorch.
    """
    try:
        return attempt(size)
    except ExportError as error:
        if size is not None or config.resize != "pad":
            raise
        findings = attempt(config.size)
        log.info("no file for images of any size: %s", error)  # it may name an image's file
        height, width = config.size
        warning = (
            f"the input is fixed to {height}x{width} pixels (size= chooses), since no file for "
            "images of any size agrees with PyTorch"
        )
        return replace(findings, warnings=(warning, *findings.warnings))
