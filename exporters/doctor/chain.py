"""The libraries from onnxruntime to a GPU: which are found or missing, and what to do."""

from __future__ import annotations

import base64
import ctypes
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime

from visiongraft.errors import RuntimeProviderError, one_line
from visiongraft.exporters.doctor.elf import needed_libraries
from visiongraft.exporters.runtime.capture import captured_output
from visiongraft.exporters.runtime.engine_cache import tensorrt_version
from visiongraft.exporters.runtime.providers import CUDA, SHORT, open_session, remedy
from visiongraft.system.versions import installed_versions

# A convolution, since that is what takes cuDNN: each value of y adds up nine of x, (1, 1, 4, 4).
TINY_MODEL = base64.b64decode(
    "CAo6hgEKDwoBeAoBdxIBeSIEQ29udhIEdGlueSozCAEIAQgDCAMQAUIBd0okAACAPwAA"
    "gD8AAIA/AACAPwAAgD8AAIA/AACAPwAAgD8AAIA/WhsKAXgSFgoUCAESEAoCCAEKAggB"
    "CgIIBAoCCARiGwoBeRIWChQIARIQCgIIAQoCCAEKAggCCgIIAkIECgAQEg=="
)
TITLES = {
    "libcuda": "NVIDIA driver",
    "libcudart": "CUDA runtime",
    "libcublas": "cuBLAS",
    "libcublasLt": "cuBLASLt",
    "libcurand": "cuRAND",
    "libcufft": "cuFFT",
    "libnvrtc": "NVRTC",
    "libcudnn": "cuDNN",
    "libnvinfer": "TensorRT",
    "libnvonnxparser": "TensorRT's parser",
}
_PACKAGES = ("onnxruntime", "onnxruntime-gpu")
FOUND, MISSING, UNUSABLE = "found", "missing", "unusable"


@dataclass(frozen=True)
class Link:
    """One part of the chain.

    Attributes:
        name: What it is.
        state: ``"found"``, ``"missing"`` or ``"unusable"``.
        detail: Version, path or cause.
        remedy: What to do; empty if it is found.
        needed_for: The provider that needs it: ``"cpu"``, ``"cuda"`` or ``"tensorrt"``; TensorRT
            needs all.
    """

    name: str
    state: str
    detail: str
    remedy: str = ""
    needed_for: str = "cuda"


@dataclass(frozen=True)
class ProviderDiagnosis:
    """Whether an execution provider really runs a convolution here.

    Attributes:
        provider: Its name as users write it.
        works: Whether it does.
        cause: Why not.
    """

    provider: str
    works: bool
    cause: str = ""


def examine(providers: Sequence[str] = tuple(SHORT)) -> tuple[list[Link], list[ProviderDiagnosis]]:
    """Examine everything between onnxruntime and a GPU, and try each provider.

    Args:
        providers: What to try, as users write it.

    Returns:
        The parts, and a diagnosis of each provider.

    Raises:
        OptionError: There is no such provider.
    """
    links = [_runtime()]
    if CUDA in onnxruntime.get_available_providers():
        with captured_output():
            onnxruntime.preload_dlls()
        links += [_library(name, provider) for name, provider in _libraries().items()]
        links += [driver_link(*_asked_driver(), onnxruntime.cuda_version)]
    elif sys.platform != "darwin":
        advice = f"uninstall onnxruntime, then {remedy('onnxruntime-gpu')}"
        links.append(Link("CUDA provider", MISSING, "not in this build", advice))
    return links, [_tried(provider) for provider in providers]


def _runtime() -> Link:
    installed = installed_versions(*_PACKAGES)
    named = ", ".join(f"{name} {number}" for name, number in installed.items())
    built = ", ".join(onnxruntime.get_available_providers())
    cuda = f" for CUDA {onnxruntime.cuda_version}" if onnxruntime.cuda_version else ""
    detail = f"{named or onnxruntime.__version__}{cuda}; built with {built}"
    if len(installed) > 1:
        advice = f"they share one import name; uninstall both, then {remedy('onnxruntime-gpu')}"
        return Link("onnxruntime", UNUSABLE, detail, advice, "cpu")
    return Link("onnxruntime", FOUND, detail, needed_for="cpu")


def _libraries() -> dict[str, str]:
    """Return the NVIDIA libraries that the providers need, by their own headers, and for which one."""
    if not sys.platform.startswith("linux"):
        return {}
    major = int(onnxruntime.cuda_version.split(".")[0])
    found: dict[str, str] = {}
    for provider in ("cuda", "tensorrt"):
        library = Path(onnxruntime.__file__).parent / "capi"
        library /= f"libonnxruntime_providers_{provider}.so"
        names = needed_libraries(library) if library.is_file() else []
        if provider == "cuda":  # these are opened only when they are used
            names += [f"libnvrtc.so.{major}", f"libcufft.so.{major - 1}", "libcudnn.so.9"]
        for name in names:
            if name.partition(".")[0] in TITLES and not name.startswith("libcuda."):
                found.setdefault(name, provider)
    return found


def _library(name: str, provider: str) -> Link:
    title = f"{TITLES[name.partition('.')[0]]} ({name})"
    try:
        library = ctypes.CDLL(name)
    except OSError as error:
        return Link(title, MISSING, one_line(error, 200), remedy(name), provider)
    return Link(title, FOUND, _version(name, library), needed_for=provider)


def _version(name: str, library: ctypes.CDLL) -> str:
    if name.startswith("libcudnn."):
        library.cudnnGetVersion.restype = ctypes.c_size_t
        number = library.cudnnGetVersion()
        return f"{number // 10000}.{number // 100 % 100}.{number % 100}"
    if name.startswith("libcudart."):
        number = ctypes.c_int()
        library.cudaRuntimeGetVersion(ctypes.byref(number))
        return _cuda_version(number.value)
    return (tensorrt_version() or "") if name.startswith("libnvinfer.") else ""


def _asked_driver() -> tuple[str, int, int, list[str]]:
    """Query the driver: why it cannot be loaded, its error, newest CUDA, and its devices."""
    try:
        driver = ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError as error:
        return one_line(error, 200), 0, 0, []
    failure = int(driver.cuInit(0))
    version, count = ctypes.c_int(), ctypes.c_int()
    driver.cuDriverGetVersion(ctypes.byref(version))
    if failure == 0:
        driver.cuDeviceGetCount(ctypes.byref(count))
    devices = []
    for index in range(count.value):
        name = ctypes.create_string_buffer(128)
        driver.cuDeviceGetName(name, len(name), index)
        devices.append(name.value.decode(errors="replace"))
    return "", failure, version.value, devices


def driver_link(
    absent: str, failure: int, newest: int, devices: Sequence[str], built_for: str
) -> Link:
    """Assess the driver by its answers.

    Args:
        absent: Why it cannot be loaded; empty if it can.
        failure: Result of its initialization, 0 for success.
        newest: The newest CUDA that it knows, such as 13000 for 13.0.
        devices: Names of the GPUs.
        built_for: The CUDA version of onnxruntime, such as ``"13.0"``.

    Returns:
        The link.

    Examples:
        >>> driver_link("", 0, 12040, ["Tesla T4"], "13.0").remedy
        'update the NVIDIA driver to one for CUDA 13.0'
    """
    title = TITLES["libcuda"]
    if absent:
        return Link(title, MISSING, absent, remedy("libcuda.so.1"))
    detail = f"for CUDA up to {_cuda_version(newest)}; " + (", ".join(devices) or "no GPU")
    if newest // 1000 < int(built_for.split(".")[0]):
        return Link(
            title, UNUSABLE, detail, f"update the NVIDIA driver to one for CUDA {built_for}"
        )
    if failure or not devices:
        advice = "make a GPU visible: see nvidia-smi, CUDA_VISIBLE_DEVICES, or docker's --gpus"
        return Link(title, UNUSABLE, f"{detail} (CUDA error {failure})", advice)
    return Link(title, FOUND, detail)


def _cuda_version(number: int) -> str:
    return f"{number // 1000}.{number % 1000 // 10}"


def _tried(provider: str) -> ProviderDiagnosis:
    """Run one convolution."""
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / "tiny.onnx"
        model.write_bytes(TINY_MODEL)
        try:
            session, _ = open_session(model, provider, cache=Path(folder) / "cache")
        except RuntimeProviderError as error:
            return ProviderDiagnosis(
                provider, False, str(error).replace(str(model), "a convolution")
            )
        with captured_output():
            cause = _run(session)
    return ProviderDiagnosis(provider, not cause, cause)


def _run(session: onnxruntime.InferenceSession) -> str:
    try:
        (got,) = session.run(None, {"x": np.ones((1, 1, 4, 4), np.float32)})
    except Exception as error:  # onnxruntime's exceptions share no base
        return one_line(error)
    return "" if float(got.sum()) == 36.0 else f"a convolution returned {got.sum()}, not 36"
