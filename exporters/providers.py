"""Open an ONNX file on the execution provider that was asked for, or say why that is impossible.

onnxruntime itself falls back to the CPU when a GPU provider cannot start, and says so on standard
error only. Here a provider counts as in use only if operators of the graph were placed on it.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import onnxruntime

from visiongraft.errors import ArtifactError, OptionError, RuntimeProviderError, near_matches
from visiongraft.exporters.capture import captured_output, one_line

Provider = str | tuple[str, dict[str, Any]]

_CPU = "CPUExecutionProvider"
_SHORT = {"cpu": _CPU, "cuda": "CUDAExecutionProvider", "tensorrt": "TensorrtExecutionProvider"}
_DEFAULTS = {
    # Neither searches anew for each batch size, nor rounds to TF32, which the certificate excludes.
    "CUDAExecutionProvider": {"cudnn_conv_algo_search": "HEURISTIC", "use_tf32": "0"},
}


def open_session(
    path: Path, providers: str | Sequence[Provider] | None = None
) -> tuple[onnxruntime.InferenceSession, dict[str, int]]:
    """Open an ONNX file.

    Args:
        path: The file, already found safe to load.
        providers: ``"cpu"``, ``"cuda"``, ``"tensorrt"``, or onnxruntime's own names, the preferred
            first, each alone or with its options; ``None`` is ``"cpu"``.

    Returns:
        The session, and how many operators each provider runs.

    Raises:
        OptionError: There is no such provider.
        RuntimeProviderError: A provider cannot be used here; the message says why.
        ArtifactError: onnxruntime refuses the file.
    """
    wanted = _resolved(providers)
    names = [name for name, _ in wanted]
    session, output = _create(path, wanted)
    for name in names:
        if name not in session.get_providers():
            raise _refusal(name, output)
    placement = Counter[str]()
    for part in session.get_provider_graph_assignment_info():
        placement[part.ep_name] += len(part.get_nodes())
    if names[0] not in placement:
        raise _refusal(names[0], f"it supports no operator of {path}")
    return session, dict(placement)


def _create(
    path: Path, wanted: list[tuple[str, dict[str, Any]]]
) -> tuple[onnxruntime.InferenceSession, str]:
    """Make the session; gives it and what onnxruntime printed."""
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")

    def create() -> onnxruntime.InferenceSession:
        return onnxruntime.InferenceSession(
            str(path), sess_options=options, providers=wanted, enable_fallback=0
        )

    if [name for name, _ in wanted] == [_CPU]:
        try:
            return create(), ""
        except Exception as error:  # onnxruntime's exceptions share no base
            raise ArtifactError(f"{path} cannot be loaded: {one_line(error)}") from error
    failure: Exception | None = None
    with captured_output() as output:
        onnxruntime.preload_dlls()  # finds the CUDA libraries of the nvidia-* packages
        try:
            session = create()
        except Exception as error:
            failure = error
    if failure is not None:
        raise _refusal(wanted[0][0], f"{output()}\n{failure}") from failure
    return session, output()


def _resolved(providers: str | Sequence[Provider] | None) -> list[tuple[str, dict[str, Any]]]:
    """Give full names with options, and refuse what this onnxruntime does not know or have."""
    items = [providers or "cpu"] if isinstance(providers, str | None) else list(providers)
    available = onnxruntime.get_available_providers()
    wanted = []
    for item in items or ["cpu"]:
        name, options = item if isinstance(item, tuple) else (item, None)
        name = _SHORT.get(name.lower(), name)
        if name not in onnxruntime.get_all_providers():
            near = near_matches(name, [*_SHORT, *available])
            raise OptionError(f"there is no execution provider {name!r}{near}")
        if name not in available:
            raise RuntimeProviderError(
                f"this onnxruntime {onnxruntime.__version__} was built without {name}; install the "
                "onnxruntime package that has it, or use providers='cpu'"
            )
        wanted.append((name, _DEFAULTS.get(name, {}) if options is None else options))
    return wanted


def _refusal(provider: str, output: str) -> RuntimeProviderError:
    return RuntimeProviderError(
        f"{provider} was asked for but cannot be used: {_reason(output)}; or use providers='cpu'"
    )


def _reason(output: str) -> str:
    """Find the cause in what onnxruntime printed while it fell back.

    Examples:
        >>> _reason("FAIL : Failed to load library x.so with error: libcuda.so.1: cannot open ...")
        'no NVIDIA driver (libcuda.so.1) is installed'
    """
    missing = re.search(r"with error: (\S+): cannot open", output)
    if missing:
        library = missing[1]
        if library.startswith("libcuda.so"):
            return f"no NVIDIA driver ({library}) is installed"
        if library.startswith("libnvinfer"):
            return f"{library} is missing; install TensorRT"
        return f"{library} is missing; install onnxruntime-gpu[cuda,cudnn]"
    failures = re.findall(r"CUDA failure \d+: [^;\n]+", output)
    lines = [line for line in output.splitlines() if line.strip()]
    return one_line((failures or lines or ["onnxruntime gives no reason"])[0])
