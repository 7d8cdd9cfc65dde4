"""Writing files so that a crash leaves the old content or the new, never half of it."""

from __future__ import annotations

import io
import json
import os
import zlib
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from visiongraft.errors import ArtifactError, VisiongraftError

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from PIL import Image as PillowImage
    from torch import Tensor

CHECKSUM = "crc32"


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file atomically: temporary file, fsync, rename.

    Args:
        path: Where to; its folder is made if needed.
        content: What to write.

    Raises:
        VisiongraftError: The file cannot be written, for example because the disk is full.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise unwritable(path, error) from error


def write_png(path: Path, image: PillowImage.Image) -> None:
    """Write an image as PNG, atomically."""
    content = io.BytesIO()
    image.save(content, "png")
    write_bytes(path, content.getvalue())


def write_figure(path: Path, figure: Figure) -> None:
    """Write a plot as PNG, atomically."""
    content = io.BytesIO()
    figure.savefig(content, format="png")
    write_bytes(path, content.getvalue())


def unwritable(path: Path, error: OSError) -> VisiongraftError:
    """Return the error for a file that cannot be written."""
    return VisiongraftError(
        f"{path} cannot be written: {error.strerror or error}; free some space or choose "
        "another folder"
    )


def write_json(path: Path, value: Any) -> None:
    """Write JSON atomically, indented; characters without an encoding are escaped."""
    text = json.dumps(value, indent=2, ensure_ascii=False) + "\n"
    write_bytes(path, text.encode(errors="backslashreplace"))  # a surrogate's escape in JSON, too


def read_json(path: Path) -> Any:
    """Read JSON.

    Args:
        path: The file.

    Returns:
        Its value.

    Raises:
        ArtifactError: It is missing or not JSON.
    """
    if path.exists() and not path.is_file():  # reading from a named pipe would wait
        raise ArtifactError(f"{path} cannot be read: it is not a file")
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ArtifactError(f"{path} cannot be read: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise ArtifactError(f"{path} is not valid JSON ({error}); it may be damaged") from error


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> None:
    """Write tensors and JSON values into one safetensors file with a checksum, atomically.

    Args:
        path: Where to.
        tensors: By name; tensors that share memory are written separately.
        metadata: JSON values by name.
    """
    from safetensors.torch import save  # loads torch, which those who write JSON can do without

    independent = {n: t.detach().to("cpu", copy=True).contiguous() for n, t in tensors.items()}
    texts = {k: json.dumps(v) for k, v in metadata.items()}
    texts[CHECKSUM] = _checksum(independent, texts)
    write_bytes(path, _with_sorted_header(save(independent, texts)))


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read what ``write_tensors`` wrote, and verify its checksum if it has one.

    Args:
        path: The file.

    Returns:
        Tensors by name and JSON values by name.

    Raises:
        ArtifactError: It is missing or damaged.
    """
    import safetensors  # prediction without torch does without it

    if not path.is_file():
        raise ArtifactError(f"{path} does not exist")
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            texts = file.metadata() or {}
        checksum = texts.pop(CHECKSUM, None)
        if checksum not in (None, _checksum(tensors, texts)):
            raise ArtifactError(f"{path} is damaged: its content does not match its checksum")
        return tensors, {k: json.loads(v) for k, v in texts.items()}
    except (safetensors.SafetensorError, ValueError, OSError, RecursionError) as error:
        raise ArtifactError(f"{path} is damaged or not a safetensors file: {error}") from error


def _with_sorted_header(content: bytes) -> bytes:
    """Order the metadata in a safetensors file, so that equal contents are equal bytes."""
    end = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:end])
    header = {"__metadata__": dict(sorted(header.pop("__metadata__").items())), **header}
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)  # tensors are aligned
    return b"".join([len(text).to_bytes(8, "little"), text, memoryview(content)[end:]])


def has_checksum(path: Path) -> bool:
    """Check whether a file that ``read_tensors`` could read has a checksum, which it then matched."""
    import safetensors

    with safetensors.safe_open(path, framework="pt") as file:
        return CHECKSUM in (file.metadata() or {})


def _checksum(tensors: Mapping[str, Tensor], texts: Mapping[str, str]) -> str:
    """Compute a checksum of names, types, shapes and contents: quick, and any changed bit changes it."""
    from torch import uint8

    value = 0
    for name in sorted(texts):
        value = zlib.crc32(json.dumps([name, texts[name]]).encode(), value)
    for name in sorted(tensors):
        tensor = tensors[name]
        head = json.dumps([name, str(tensor.dtype), list(tensor.shape)])
        value = zlib.crc32(head.encode(), value)
        value = zlib.crc32(tensor.reshape(-1).view(uint8).numpy().data, value)
    return f"{value:08x}"


def numbered(index: int, name: str) -> str:
    """Name what belongs to one of several images, so that equal names do not clash.

    Args:
        index: Position of the image.
        name: Its path, or what it is called.

    Returns:
        Both, without folder and suffix.

    Examples:
        >>> numbered(7, "val/a.jpg")
        '00007-a'
    """
    return f"{index:05d}-{Path(name).stem}"


def write_prediction_files(folder: Path, name: str, prediction: Any) -> None:
    """Write the files that a prediction has, if it has any: see ``Task.predictions``.

    Args:
        folder: Where to.
        name: What their names begin with.
        prediction: What a task, or an exported file, predicted for one image.
    """
    if callable(getattr(prediction, "files", None)):
        for ending, content in prediction.files().items():
            write_bytes(folder / f"{name}.{ending}", content)
