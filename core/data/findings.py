"""What is found in each image of a dataset: decoded once, and kept by path, size and times of its file."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from threading import Lock
from typing import Any

from visiongraft.data.digests import digest_of
from visiongraft.data.report import DataReport, Finding
from visiongraft.data.samples import Samples
from visiongraft.errors import ArtifactError, DataError
from visiongraft.inputs import IMAGES, Inputs
from visiongraft.saving.files import read_json, write_json
from visiongraft.system.progress import track

STORED = ("digest", "height", "width", "problem", "values")  # of a finding; targets may change


@dataclass
class FindingsCache:
    """Findings by path, size and times of a file, so that resuming need not decode again.

    A file that was moved or touched is read again, but not decoded if its content is known.
    """

    path: Path | None
    inputs: Inputs = IMAGES
    known: dict[str, Any] = field(default_factory=dict)
    fresh: dict[str, Any] = field(default_factory=dict)
    by_content: dict[tuple[str, str], Any] = field(default_factory=dict)

    def load(self) -> None:
        """Read what an earlier check stored, if the file is sound."""
        if self.path is not None and self.path.is_file():
            try:
                self.known = dict(read_json(self.path)["findings"])
            except (ArtifactError, KeyError, TypeError, ValueError):
                self.known = {}  # a damaged cache only costs time
        for key, value in self.known.items():
            if isinstance(value, list) and value:
                self.by_content[str(value[0]), key.rpartition("|")[2]] = value

    def key(self, samples: Samples, index: int, channels: int) -> str | None:
        """Return what identifies the file of an image as it is now; ``None`` if it has none."""
        try:
            path = os.path.abspath(samples.name(index))
            stat = os.stat(path)
        except OSError:
            return None
        # The change time too: tools that copy set the modification time to that of the original.
        return (
            f"{path}|{stat.st_size}|{stat.st_mtime_ns}|{stat.st_ctime_ns}|{self.decoding(channels)}"
        )

    def get(self, key: str | None) -> Finding | None:
        """Return what was found in a file that has not changed since."""
        return _as_finding(self.known.get(key)) if key is not None else None

    def get_content(self, digest: str, channels: int) -> Finding | None:
        """Return what was found in a usable image of the same content."""
        found = _as_finding(self.by_content.get((digest, self.decoding(channels))))
        return found if found is not None and not found.problem else None

    def decoding(self, channels: int) -> str:
        """Return what findings depend on besides the file."""
        further = [f"{key}={value}" for key, value in self.inputs.describe().items()]
        return ",".join([str(channels), *further])

    def save(self, report: DataReport) -> None:
        """Write the findings of this check and its report."""
        if self.path is not None:
            write_json(self.path, {"report": asdict(report), "findings": self.fresh})


def inspect_images(
    samples: Samples, channels: int, store: FindingsCache, targets: bool = False
) -> Iterator[Finding]:
    """Check all images, and hash targets if asked to; yield the findings in order.

    Works in threads, since decoders release the GIL.
    """
    # A dataset's own code need not be thread-safe, and large images need much memory each.
    lock = Lock()
    cached = store.path is not None and are_files(samples)

    def check(index: int) -> Finding:
        key = store.key(samples, index, channels) if cached else None
        finding = store.get(key) or _check_image(samples, index, channels, lock, store)
        if key is not None:
            store.fresh[key] = [getattr(finding, name) for name in STORED]
        if not finding.problem:  # the target may have changed although the image has not
            size = finding.height, finding.width
            problem, target = samples.checked_target(index, *size)
            digest = _target_digest(target) if targets and not problem else ""
            finding = replace(finding, problem=problem, target=digest)
        return finding

    with ThreadPoolExecutor(max_workers=os.cpu_count()) as threads:
        yield from track(_in_windows(threads, check, len(samples)), "checking images", len(samples))


def _in_windows(
    threads: ThreadPoolExecutor, check: Callable[[int], Finding], count: int
) -> Iterator[Finding]:
    window = 1024  # bounds the number of pending results
    for start in range(0, count, window):
        yield from threads.map(check, range(start, min(start + window, count)))


def content_digest(content: bytes) -> str:
    """Hash the content of a file, or the pixels of an image; see ``Finding.digest``."""
    return hashlib.blake2b(content, digest_size=16).hexdigest()


def are_files(samples: Samples) -> bool:
    """Check whether images are what their files hold; others, such as crops, have no such content.

    Args:
        samples: Readable samples.

    Returns:
        Whether the first, middle or last image is the content of a file, by which it is hashed.
    """
    probes = {0, len(samples) // 2, len(samples) - 1} if len(samples) else set()
    return any(samples.content(index) is not None for index in probes)


def _as_finding(value: Any) -> Finding | None:
    match value:
        case [str(digest), int(height), int(width), str(problem), str(values)]:
            return Finding(digest, height, width, problem, values)
    return None  # unknown, or damaged


def _check_image(
    samples: Samples, index: int, channels: int, lock: Lock, store: FindingsCache
) -> Finding:
    content = samples.content(index)
    digest = "" if content is None else content_digest(content)
    known = store.get_content(digest, channels)
    if known is not None:
        return known
    try:
        if content is not None:
            image = store.inputs.decode(content, samples.name(index), channels, lock)
        else:
            with lock:
                image = samples.load(index, channels)
    except DataError as error:
        return Finding("", problem=str(error))
    # Include the shape: otherwise all black images of the same area would be identical.
    digest = digest or content_digest(str(image.shape).encode() + image.tobytes())
    # Images in memory are as somebody made them; files may be decoded to nothing.
    values = "" if content is None else store.inputs.unusual_values(image, content)
    return Finding(digest, *store.inputs.size((1, *image.shape)), values=values)


def _target_digest(target: Callable[[], Any]) -> str:
    try:
        return digest_of(target())
    except Exception:  # a third-party target may raise any error: loading it reports that
        return ""
