"""Put an exported file into a model repository of Triton Inference Server.

A repository has a folder for each model, with a folder for each of its versions::

    models/flowers/config.pbtxt     inputs, outputs, and how Triton runs them; for all versions
    models/flowers/labels.txt       label names, if an output has one value for each label
    models/flowers/1/model.onnx     the file, byte for byte
    models/flowers/2/model.onnx     a later one; Triton serves the latest by default
"""

from __future__ import annotations

import filecmp
import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from visiongraft.errors import ArtifactError, OptionError
from visiongraft.exporters.onnx.triton.config import LABELS, TritonConfig, describe_for_triton
from visiongraft.saving.files import unwritable, write_bytes

CONFIG, MODEL = "config.pbtxt", "model.onnx"  # names that Triton looks for


@dataclass(frozen=True)
class ModelVersion:
    """A file in a repository.

    Attributes:
        model: How Triton calls the model.
        version: Its number.
        path: The file.
        added: Whether it was not the latest version before.
    """

    model: str
    version: int
    path: Path
    added: bool


def model_folder(file: str | Path, repository: str | Path) -> Path:
    """Return the folder of a file's model.

    Args:
        file: The exported file; its name becomes the model's.
        repository: The repository's folder; need not exist.

    Returns:
        The model's folder.

    Raises:
        OptionError: The repository is not a folder, or the file's name cannot be a model's.
    """
    file, repository = Path(file), Path(repository)
    if repository.exists() and not repository.is_dir():
        raise OptionError(f"{repository} is a file; a Triton repository is a folder")
    name = re.sub(r"[^A-Za-z0-9_.-]+", "_", file.stem).strip("._-")
    if not name:
        raise OptionError(f"{file}: Triton names models by letters and digits; rename the file")
    return repository / name


def write_repository(file: str | Path, repository: str | Path) -> ModelVersion:
    """Put a file into a repository, as the latest version of the model of its name.

    A model that is there already gets another version, and its ``config.pbtxt`` is kept with all
    that was changed in it. A file that is the latest version already is not added again.

    Args:
        file: A file that visiongraft exported.
        repository: The repository's folder; made if needed.

    Returns:
        The version.

    Raises:
        ArtifactError: The file cannot be served, see ``describe_for_triton``; or the folder holds
            a model with other inputs, outputs or labels, or what visiongraft did not write.
        OptionError: The repository is not a folder, or the file's name cannot be a model's.
        VisiongraftError: The repository cannot be written.
    """
    file, folder = Path(file), model_folder(file, repository)
    config = describe_for_triton(file, folder.name)
    versions = _versions(folder)
    _refuse_another(folder, versions, config)
    if not (folder / CONFIG).exists():
        write_bytes(folder / CONFIG, config.text.encode())
    if config.labels and not (folder / LABELS).exists():
        write_bytes(folder / LABELS, config.labels.encode())
    latest = max(versions, default=0)
    if latest and filecmp.cmp(file, folder / str(latest) / MODEL, shallow=False):
        return ModelVersion(folder.name, latest, folder / str(latest) / MODEL, added=False)
    path = folder / str(latest + 1) / MODEL
    _copy(file, path)
    return ModelVersion(folder.name, latest + 1, path, added=True)


def _versions(folder: Path) -> list[int]:
    """Return the versions of a model; Triton ignores folders of other names."""
    try:
        names = [entry.name for entry in folder.iterdir() if entry.is_dir()]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise ArtifactError(f"{folder} cannot be read: {error.strerror or error}") from error
    return [int(name) for name in names if re.fullmatch("[1-9][0-9]*", name)]


def _refuse_another(folder: Path, versions: list[int], config: TritonConfig) -> None:
    """Refuse to replace another model: its clients rely on its inputs and outputs."""
    remedy = f"rename the file, or remove {folder}"
    if not versions:
        path = folder / CONFIG
        if path.exists() and path.read_bytes() != config.text.encode():
            raise ArtifactError(f"{path} exists without a model, and does not match; {remedy}")
        return
    latest = folder / str(max(versions)) / MODEL
    try:
        there = describe_for_triton(latest, folder.name)
    except ArtifactError as error:
        raise ArtifactError(f"{folder} contains another model ({error}); {remedy}") from error
    if there != config:
        raise ArtifactError(
            f"{latest} has other inputs, outputs or labels ({_difference(there, config)}); {remedy}"
        )


def _difference(there: TritonConfig, here: TritonConfig) -> str:
    """Name the first line that differs."""
    for one, other in ((there.text, here.text), (there.labels, here.labels)):
        pairs = zip(one.splitlines(), other.splitlines(), strict=False)
        for old, new in pairs:
            if old != new:
                return f"{old.strip()} there, {new.strip()} here"
    return "one has more of them"


def _copy(file: Path, path: Path) -> None:
    """Copy a file into a folder of its own that appears only when it is complete."""
    model = path.parent.parent
    temporary = model / f".{path.parent.name}.{os.getpid()}.tmp"
    try:
        for left_over in model.glob(".*.tmp"):
            shutil.rmtree(left_over)  # of a copy that was killed
        temporary.mkdir()
        shutil.copyfile(file, temporary / path.name)
        with open(temporary / path.name, "rb") as copied:
            os.fsync(copied.fileno())
        os.rename(temporary, path.parent)
    except OSError as error:
        raise unwritable(path, error) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
