"""Where TensorRT keeps the engines that it builds, which takes minutes for each model."""

from __future__ import annotations

import ctypes
import hashlib
import os
from pathlib import Path

import onnxruntime

from visiongraft.errors import OptionError
from visiongraft.system.user_cache import user_cache

_HASH_LENGTH = 16
_LIBRARIES = ("libnvinfer.so.10", "nvinfer_10.dll")


def cache_options(model: Path, root: Path | None = None) -> dict[str, str]:
    """Return the options that make TensorRT keep and reuse its engines and timings.

    An engine is code that runs in this process, so nobody else may be able to write to its folder.

    Args:
        model: The ONNX file.
        root: Folder for the caches of all models; ``visiongraft/tensorrt`` in the user's cache
            folder if ``None``.

    Returns:
        Provider options; none without TensorRT, which then cannot be used anyway.

    Raises:
        OptionError: The folder cannot be made, or others can write into it.
    """
    version = tensorrt_version()
    if version is None:
        return {}
    folder = str(private_folder(cache_folder(model, version, root)))
    return {
        "trt_engine_cache_enable": "1",
        "trt_engine_cache_path": folder,
        "trt_timing_cache_enable": "1",
        "trt_timing_cache_path": folder,
    }


def cache_folder(model: Path, tensorrt: str, root: Path | None = None) -> Path:
    """Name the folder for one model and one set of libraries; TensorRT adds the kind of GPU.

    Args:
        model: The ONNX file; its content counts, not its name.
        tensorrt: Version of TensorRT.
        root: As in ``cache_options``.

    Returns:
        The folder, which need not exist.
    """
    if root is None:
        root = user_cache() / "tensorrt"
    with open(model, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()[:_HASH_LENGTH]
    return root / f"{digest}-onnxruntime-{onnxruntime.__version__}-tensorrt-{tensorrt}"


def private_folder(folder: Path) -> Path:
    """Make a folder that only this user can write into.

    Args:
        folder: Where.

    Returns:
        Its absolute path.

    Raises:
        OptionError: It cannot be made, is another user's, or others can write into it.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        status = folder.stat()
    except OSError as error:
        raise OptionError(
            f"{folder} cannot be used for TensorRT's engines: {error.strerror}; choose another "
            "cache folder"
        ) from error
    if hasattr(os, "getuid") and (status.st_uid != os.getuid() or status.st_mode & 0o022):
        raise OptionError(
            f"{folder} contains code that will be run, but other users can write to it; restrict "
            "it (chmod 700) or choose another cache folder"
        )
    return folder.absolute()


def tensorrt_version() -> str | None:
    """Return the version of the installed TensorRT, such as ``"10.9.0"``; ``None`` without one."""
    for name in _LIBRARIES:
        try:
            number = int(ctypes.CDLL(name).getInferLibVersion())
        except (OSError, AttributeError):
            continue
        return f"{number // 10000}.{number // 100 % 100}.{number % 100}"
    return None
