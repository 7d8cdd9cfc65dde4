"""Downloads from a hub of models: whether they can succeed, and why they failed."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from errno import EACCES, ENOSPC, EPERM, EROFS
from pathlib import Path
from typing import Any

from visiongraft.errors import VisiongraftError, WeightsError, one_line
from visiongraft.plugins.backbones.errors import unavailable
from visiongraft.saving.weights import file_sha256

TIMEOUT_S = 10.0
CARD = "README.md"
SHA256 = re.compile(r"[0-9a-f]{64}")
DAMAGED = (
    "a file arrived damaged, as its SHA-256 shows, and was removed from the cache; run it again"
)
HUB, FOLDER = (
    "hf-hub:",
    "local-dir:",
)  # how names of repositories and folders begin in timm and open_clip
TOO_MANY = 429  # status of requests that come too often
LOG_IN = "log in with `hf auth login` or HF_TOKEN"
# Errors of the HTTP library of the hub's client, which differs between its versions.
BROKEN = ("RemoteProtocolError", "ReadError", "IncompleteRead", "ChunkedEncodingError")
UNREACHABLE = ("ConnectError", "ConnectTimeout", "ReadTimeout", "ProxyError", "ConnectionError")


def check_reachable(full: str, repository: str, files: Sequence[str], revision: str = "") -> None:
    """Raise at once if no file is in the cache and the hub does not respond.

    The hub's client would retry for most of a minute.

    Args:
        full: Full name of the backbone, for the message.
        repository: Such as ``org/name``.
        files: Names of files of which one is needed.
        revision: Branch, tag or commit; the default branch if empty.

    Raises:
        WeightsError: The hub cannot be reached.
    """
    from huggingface_hub import constants, get_session, try_to_load_from_cache

    for file in files:
        if isinstance(try_to_load_from_cache(repository, file, revision=revision or None), str):
            return
    try:
        get_session().head(constants.ENDPOINT, timeout=TIMEOUT_S)
    except Exception as error:  # the client raises the errors of its HTTP library
        raise unavailable(full, explain(error)) from error


def check_folder(full: str, name: str) -> None:
    """Refuse a name that begins with ``local-dir:`` if there is no such folder.

    Raises:
        WeightsError: There is none.
    """
    if name.startswith(FOLDER) and not Path(source_of(name)).is_dir():
        raise WeightsError(f"{full}: {source_of(name)} is not a folder here; pass its path")


@contextmanager
def explained(full: str, source: str) -> Iterator[None]:
    """Turn what a library raises while it reads a repository or a folder into one line.

    What it downloads is checked, see ``checked_downloads``.

    Args:
        full: Full name of the backbone.
        source: The repository or the folder.

    Raises:
        WeightsError: In place of other errors than those of visiongraft.
    """
    try:
        with checked_downloads(full):
            yield
    except VisiongraftError:
        raise
    except Exception as error:  # a download or a file can fail in many ways
        if Path(source).is_dir():
            lacking = f"its configuration lacks {error}" if isinstance(error, KeyError) else ""
            raise WeightsError(
                f"{full}: {source} cannot be loaded: {lacking or one_line(error)}"
            ) from error
        raise unavailable(full, explain(error)) from error


@contextmanager
def checked_downloads(full: str) -> Iterator[None]:
    """Compare the files that a block downloads with the SHA-256 that the hub stated for them.

    The hub's client compares their lengths only. Files that differ are removed from its cache.

    Args:
        full: Full name of the backbone.

    Raises:
        WeightsError: One differs; also in place of the error with which a library failed to read it.
    """
    before = _downloaded()
    try:
        yield
    finally:
        for blob in sorted(_downloaded() - before):
            if file_sha256(blob) != blob.name:
                blob.unlink()
                raise unavailable(full, DAMAGED)


def _downloaded() -> set[Path]:
    """Return the files in the hub's cache that are named by their SHA-256, as large ones are."""
    from huggingface_hub import constants

    blobs = Path(constants.HF_HUB_CACHE).glob("models--*/blobs/*")
    return {path for path in blobs if SHA256.fullmatch(path.name)}


def is_published(name: str) -> bool:
    """Check whether a name is one of a repository or a folder, and not of a library's own list."""
    return name.startswith((HUB, FOLDER))


def source_of(name: str) -> str:
    """Return the repository or the folder of a name that begins with ``hf-hub:`` or ``local-dir:``."""
    return name.removeprefix(HUB).removeprefix(FOLDER)


def shown(name: str) -> str:
    """Cut the path of a folder to its last part: models and exported files must not reveal a disk."""
    return FOLDER + Path(source_of(name)).resolve().name if name.startswith(FOLDER) else name


def license_of(source: str) -> str:
    """Return the license that the card of a repository or a folder states, or ``"unknown"``."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.repocard import metadata_load

    try:
        local = Path(source) / CARD
        path = local if Path(source).is_dir() else hf_hub_download(source, CARD)
        return str((metadata_load(path) or {}).get("license") or "unknown")
    except Exception:  # of a card that is missing or damaged
        return "unknown"


def is_failed_download(error: BaseException) -> bool:
    """Check whether an error, or one that it was raised from, is one of a download."""
    return any(_known(each) for each in _causes(error))


def explain(error: BaseException) -> str:
    """Describe in one line why something could not be downloaded, and what to do.

    Args:
        error: What a library raised; the errors that it was raised from are searched, too.
    """
    for each in _causes(error):
        if isinstance(each, VisiongraftError):
            return str(each)
        known = _known(each)
        if known:
            return known
    return one_line(error)


def _known(error: BaseException) -> str:
    from huggingface_hub import constants, errors

    if isinstance(error, errors.GatedRepoError):
        return f"its weights are gated: accept their terms on the hub's page, and {LOG_IN}"
    if isinstance(error, errors.RepositoryNotFoundError):
        return f"the hub has no such repository, or it is private: check the name, or {LOG_IN}"
    offline = isinstance(error, errors.LocalEntryNotFoundError) and constants.is_offline_mode()
    if offline or isinstance(error, errors.OfflineModeIsEnabled):
        return (
            "the hub cannot be reached: HF_HUB_OFFLINE is set, and the cache does not contain the file; unset it "
            "once, or copy the cache of another machine"
        )
    if isinstance(error, errors.RemoteEntryNotFoundError):
        return f"the repository does not contain the file: {one_line(error)}"
    if isinstance(error, errors.HfHubHTTPError):
        return _status(error)
    if isinstance(error, OSError) and error.errno in (EACCES, EPERM, EROFS):
        return f"the cache folder cannot be written ({one_line(error)}); set HF_HOME to one that can be"
    if isinstance(error, OSError) and error.errno == ENOSPC:
        return "there is no space left for the cache; free some, or set HF_HOME to another folder"
    name = type(error).__name__
    if name in BROKEN or "Consistency check failed" in str(error):
        return "the transfer broke off, and could not be continued; run it again"
    return f"the hub cannot be reached: {one_line(error)}" if name in UNREACHABLE else ""


def _status(error: Any) -> str:
    """Explain an answer of the hub by its status."""
    status = error.response.status_code
    if status == TOO_MANY:
        return f"the hub refuses further requests for now: wait, or {LOG_IN}"
    if status in (401, 403):
        return f"the hub refuses access: {LOG_IN}"
    return f"the hub answered with status {status}; try again later"


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield the errors that an error was raised from, the first one first."""
    chain = [error]
    while (cause := chain[-1].__cause__ or chain[-1].__context__) and cause not in chain:
        chain.append(cause)
    yield from reversed(chain)
