"""Open an ONNX file on the requested execution provider, or explain why that is impossible.

onnxruntime itself falls back to the CPU when a GPU provider cannot start, and says so on standard
error only. Here a provider counts as in use only if it runs the nodes that take the time.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnxruntime

from visiongraft.errors import (
    ArtifactError,
    OptionError,
    RuntimeProviderError,
    near_matches,
    one_line,
)
from visiongraft.exporters.runtime.capture import captured_output
from visiongraft.exporters.runtime.engine_cache import cache_options

Provider = str | tuple[str, Mapping[str, Any]]
Resolved = list[tuple[str, dict[str, Any]]]

CPU, CUDA, TENSORRT = "CPUExecutionProvider", "CUDAExecutionProvider", "TensorrtExecutionProvider"
SHORT = {"cpu": CPU, "cuda": CUDA, "tensorrt": TENSORRT}
_DEFAULTS = {
    # Neither searches anew for each batch size, nor rounds to TF32, which the certificate excludes.
    CUDA: {"cudnn_conv_algo_search": "HEURISTIC", "use_tf32": "0"},
}
_MATRIX = ("Conv", "Gemm", "MatMul")  # as parts of names: FusedConv and QLinearMatMul count too
FATAL = 4  # onnxruntime's log level


@dataclass(frozen=True)
class Placed:
    """What one execution provider runs of a graph.

    Attributes:
        nodes: How many nodes, counted before a provider fuses them.
        fraction: Their fraction of all nodes, in 0..1.
        matrix_nodes: How many of them are convolutions or matrix products, which take the time.
        matrix_fraction: Their fraction of all such nodes, in 0..1.
    """

    nodes: int
    fraction: float
    matrix_nodes: int
    matrix_fraction: float


def open_session(
    path: Path,
    providers: str | Sequence[Provider] | None = None,
    *,
    threads: int | None = None,
    cuda_graph: bool = False,
    cache: Path | None = None,
) -> tuple[onnxruntime.InferenceSession, dict[str, Placed]]:
    """Open an ONNX file.

    Args:
        path: The file, already found safe to load.
        providers: ``"cpu"``, ``"cuda"``, ``"tensorrt"``, or onnxruntime's own names, the preferred
            first, each alone or with its options, which are laid over the defaults; ``None`` is
            ``"cpu"``. ``"tensorrt"`` alone leaves to CUDA what TensorRT does not know.
        threads: Threads of the CPU that one run uses; all cores if ``None``.
        cuda_graph: Record the run on CUDA once per input shape and replay it.
        cache: Where TensorRT's engines are kept; a folder of the user if ``None``.

    Returns:
        The session, and what each provider runs.

    Raises:
        OptionError: There is no such provider, or an option does not fit it.
        RuntimeProviderError: A provider cannot be used here; the message says why.
        ArtifactError: onnxruntime refuses the file.
    """
    if threads is not None and threads < 1:
        raise OptionError(f"threads={threads} is not at least 1")
    chosen = with_defaults(resolve(providers), path, cuda_graph, cache)
    session, output = _create(path, chosen, threads)
    for name, _ in chosen:
        if name not in session.get_providers():
            raise _refusal(name, output)
    placement = placed(session.get_provider_graph_assignment_info())
    _refuse_idle(chosen[0][0], placement, path)
    return session, placement


def resolve(providers: str | Sequence[Provider] | None) -> Resolved:
    """Return full names with the user's options, and refuse providers that this onnxruntime lacks.

    Args:
        providers: As in ``open_session``.

    Returns:
        Names and options, the preferred first.

    Raises:
        OptionError: There is no such provider.
        RuntimeProviderError: onnxruntime was built without it.
    """
    items: list[Provider] = (
        [providers or "cpu"] if isinstance(providers, str | None) else list(providers)
    )
    if items == ["tensorrt"] and CUDA in onnxruntime.get_available_providers():
        items = ["tensorrt", "cuda"]
    return [_resolved(item) for item in items or ["cpu"]]


def with_defaults(
    chosen: Resolved, path: Path, cuda_graph: bool = False, cache: Path | None = None
) -> Resolved:
    """Merge a user's options into the defaults of each provider.

    Args:
        chosen: Names and the user's options.
        path: The model, which TensorRT's engines are kept for.
        cuda_graph: As in ``open_session``.
        cache: As in ``open_session``.

    Returns:
        Names and all options.

    Raises:
        OptionError: ``cuda_graph`` without CUDA as the preferred provider.
    """
    if cuda_graph and chosen[0][0] != CUDA:
        raise OptionError(f"cuda_graph=True needs providers='cuda', not {chosen[0][0]}")
    complete = []
    for name, given in chosen:
        options: dict[str, Any] = dict(_DEFAULTS.get(name, {}))
        if name == CUDA and cuda_graph:
            options["enable_cuda_graph"] = "1"
        if name == TENSORRT:
            options |= cache_options(path, cache)
        complete.append((name, options | given))
    return complete


def placed(parts: Iterable[Any]) -> dict[str, Placed]:
    """Count what each provider runs.

    Args:
        parts: onnxruntime's record: ``ep_name`` and ``get_nodes()``, each with ``op_type``.

    Returns:
        One entry per provider, in the order of the record.
    """
    nodes, matrix = Counter[str](), Counter[str]()
    for part in parts:
        kinds = [node.op_type for node in part.get_nodes()]
        nodes[part.ep_name] += len(kinds)
        matrix[part.ep_name] += sum(any(word in kind for word in _MATRIX) for kind in kinds)
    all_nodes, all_matrix = max(nodes.total(), 1), max(matrix.total(), 1)
    return {
        name: Placed(count, count / all_nodes, matrix[name], matrix[name] / all_matrix)
        for name, count in nodes.items()
    }


def _refuse_idle(name: str, placement: Mapping[str, Placed], path: Path) -> None:
    """Raise an error if the preferred provider runs none of the work."""
    matrix_nodes = sum(part.matrix_nodes for part in placement.values())
    if name not in placement:
        raise _refusal(name, f"it supports no operator of {path}")
    if matrix_nodes and not placement[name].matrix_nodes:
        raise _refusal(
            name, f"it runs none of the {matrix_nodes} convolutions and matrix products of {path}"
        )


def _create(
    path: Path, chosen: Resolved, threads: int | None
) -> tuple[onnxruntime.InferenceSession, str]:
    """Create the session; return it and what onnxruntime printed."""
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    if threads is not None:
        options.intra_op_num_threads = threads

    def create() -> onnxruntime.InferenceSession:
        return onnxruntime.InferenceSession(
            str(path), sess_options=options, providers=chosen, enable_fallback=0
        )

    if [name for name, _ in chosen] == [CPU]:
        options.log_severity_level = FATAL  # what it would print, its exceptions say as well
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
        raise _refusal(chosen[0][0], f"{output()}\n{failure}") from failure
    return session, output()


def _resolved(item: Provider) -> tuple[str, dict[str, Any]]:
    name, options = (item, {}) if isinstance(item, str) else item
    name = SHORT.get(name.lower(), name)
    available = onnxruntime.get_available_providers()
    if name not in onnxruntime.get_all_providers():
        near = near_matches(name, [*SHORT, *available])
        raise OptionError(f"there is no execution provider {name!r}{near}")
    if name not in available:
        raise RuntimeProviderError(
            f"this onnxruntime {onnxruntime.__version__} was built without {name}; install the "
            "onnxruntime package that has it, or use providers='cpu'"
        )
    return name, dict(options)


def _refusal(provider: str, output: str) -> RuntimeProviderError:
    return RuntimeProviderError(
        f"{provider} was requested but cannot be used: {_reason(output)}; or use providers='cpu'"
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
        return f"{library} is missing; {remedy(library)}"
    failures = re.findall(r"CUDA failure \d+: [^;\n]+", output)
    lines = [line for line in output.splitlines() if line.strip()]
    return one_line((failures or lines or ["onnxruntime gives no reason"])[0])


def remedy(library: str) -> str:
    """Return how to install a missing library.

    Args:
        library: Its file name.

    Returns:
        The advice, in words.

    Examples:
        >>> remedy("libcurand.so.10")
        'install onnxruntime-gpu[cuda,cudnn]'
    """
    if library.startswith("libcuda.so"):
        return "install the NVIDIA driver"
    if library.startswith(("libnvinfer", "libnvonnxparser")):
        return f"install TensorRT {library.rpartition('.')[2]}"
    return "install onnxruntime-gpu[cuda,cudnn]"
