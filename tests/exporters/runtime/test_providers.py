from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import onnxruntime
import pytest

from visiongraft.errors import OptionError, RuntimeProviderError
from visiongraft.exporters.runtime import engine_cache
from visiongraft.exporters.runtime.providers import (
    CUDA,
    SHORT,
    TENSORRT,
    Placed,
    _reason,
    _refuse_idle,
    open_session,
    placed,
    remedy,
    resolve,
    with_defaults,
)

CPU_ONLY = "CPUExecutionProvider"


def test_the_default_provider_is_the_cpu(exported: Any) -> None:
    session, placement = open_session(exported.path)
    assert set(placement) == {"CPUExecutionProvider"}
    assert session.get_providers() == ["CPUExecutionProvider"]


@pytest.mark.parametrize("providers", ["cpu", ["cpu"], ["CPUExecutionProvider"], [("cpu", {})]])
def test_the_cpu_has_several_names(exported: Any, providers: Any) -> None:
    assert set(open_session(exported.path, providers)[1]) == {"CPUExecutionProvider"}


def test_a_misspelled_provider_is_an_error_with_near_names(exported: Any) -> None:
    with pytest.raises(OptionError, match="provider 'cudo'; did you mean 'cuda'"):
        open_session(exported.path, "cudo")
    with pytest.raises(OptionError, match="did you mean 'CPUExecutionProvider'"):
        open_session(exported.path, ["CPUExecutionprovider"])


def test_a_provider_that_was_not_built_in_is_an_error(exported: Any) -> None:
    absent = set(onnxruntime.get_all_providers()) - set(onnxruntime.get_available_providers())
    name = min(absent)
    with pytest.raises(RuntimeProviderError, match=f"was built without {name}"):
        open_session(exported.path, name)


@pytest.mark.parametrize("providers", ["tensorrt", ["tensorrt", "cuda"], ["cuda", "cpu"]])
def test_a_gpu_is_used_or_an_error_even_with_others_to_fall_back_on(
    exported: Any, providers: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    first = "Tensorrt" if "tensorrt" in providers else "CUDA"
    try:
        session, placement = open_session(exported.path, providers)
    except RuntimeProviderError as error:
        assert "was requested but cannot be used" in str(error)
    else:
        assert f"{first}ExecutionProvider" in placement
        assert f"{first}ExecutionProvider" in session.get_providers()
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("output", "reason"),
    [
        (
            "Failed to load library x.so with error: libcurand.so.10: cannot open shared\nCUDA 13.*.",
            "libcurand.so.10 is missing; install onnxruntime-gpu[cuda,cudnn]",
        ),
        (
            "Failed to load library x.so with error: libcuda.so.1: cannot open shared object file",
            "no NVIDIA driver (libcuda.so.1) is installed",
        ),
        (
            "Failed to load library x.so with error: libnvinfer.so.10: cannot open shared object",
            "libnvinfer.so.10 is missing; install TensorRT 10",
        ),
        (
            "\n/x/cuda_call.cc:129 CUDA failure 100: no CUDA-capable device is detected ; GPU=-1\n",
            "CUDA failure 100: no CUDA-capable device is detected",
        ),
        ("\n  something else\nmore", "something else"),
        ("", "onnxruntime gives no reason"),
    ],
)
def test_the_reason_is_found_in_what_onnxruntime_prints(output: str, reason: str) -> None:
    assert _reason(output).strip() == reason


# ---- placement ----


def test_on_the_cpu_all_nodes_are_counted_there(exported: Any) -> None:
    _, placement = open_session(exported.path, "cpu")
    (part,) = placement.values()
    assert (part.fraction, part.matrix_fraction) == (1.0, 1.0)
    kinds = [node.op_type for node in exported.load().graph.node]
    assert part.matrix_nodes == sum(kind in ("Conv", "Gemm", "MatMul") for kind in kinds) > 2
    assert part.nodes > part.matrix_nodes


def record(**kinds: str) -> list[Any]:
    """Make what onnxruntime records: the operators of each provider."""
    return [
        SimpleNamespace(
            ep_name=name,
            get_nodes=lambda words=words: [SimpleNamespace(op_type=w) for w in words.split()],
        )
        for name, words in kinds.items()
    ]


def test_shares_are_of_all_nodes_and_of_the_heavy_ones() -> None:
    parts = [*record(gpu="Conv Relu FusedConv Relu"), *record(cpu="Shape Gemm"), *record(gpu="Add")]
    assert placed(parts) == {
        "gpu": Placed(5, 5 / 7, 2, 2 / 3),
        "cpu": Placed(2, 2 / 7, 1, 1 / 3),
    }
    assert placed(record(cpu="Relu QLinearMatMul"))["cpu"].matrix_fraction == 1.0
    assert placed(record(cpu="Relu")) == {"cpu": Placed(1, 1.0, 0, 0.0)}


def test_a_provider_that_runs_trifles_only_is_not_in_use() -> None:
    path = Path("m.onnx")
    _refuse_idle("gpu", placed(record(gpu="Conv", cpu="Conv Conv")), path)
    _refuse_idle("gpu", placed(record(gpu="Add", cpu="Shape")), path)
    with pytest.raises(RuntimeProviderError, match="runs none of the 2 convolutions"):
        _refuse_idle("gpu", placed(record(gpu="Add Relu Mul", cpu="Conv Gemm")), path)
    with pytest.raises(RuntimeProviderError, match=r"supports no operator of m\.onnx"):
        _refuse_idle("gpu", placed(record(cpu="Conv")), path)


# ---- options ----


def test_cuda_gets_defaults_that_a_user_can_change_one_by_one() -> None:
    path = Path("m.onnx")
    ((name, options),) = with_defaults([(CUDA, {"device_id": 1})], path)
    assert name == CUDA
    assert options == {"cudnn_conv_algo_search": "HEURISTIC", "use_tf32": "0", "device_id": 1}
    ((_, options),) = with_defaults([(CUDA, {"use_tf32": "1"})], path)
    assert options == {"cudnn_conv_algo_search": "HEURISTIC", "use_tf32": "1"}
    assert with_defaults([(CPU_ONLY, {})], path) == [(CPU_ONLY, {})]


def test_cuda_graphs_are_for_cuda() -> None:
    ((_, options),) = with_defaults([(CUDA, {})], Path("m.onnx"), cuda_graph=True)
    assert options["enable_cuda_graph"] == "1"
    for name in (CPU_ONLY, TENSORRT):
        with pytest.raises(
            OptionError, match=f"cuda_graph=True needs providers='cuda', not {name}"
        ):
            with_defaults([(name, {}), (CUDA, {})], Path("m.onnx"), cuda_graph=True)


def test_tensorrt_keeps_its_engines_and_leaves_the_rest_to_cuda(
    exported: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if {TENSORRT, CUDA} <= set(onnxruntime.get_available_providers()):
        assert [name for name, _ in resolve("tensorrt")] == [TENSORRT, CUDA]
        assert [name for name, _ in resolve(["tensorrt", "cpu"])] == [TENSORRT, CPU_ONLY]
    monkeypatch.setattr(engine_cache, "tensorrt_version", lambda: "10.9.0")
    expected = [(TENSORRT, {"trt_fp16_enable": "1"}), (CUDA, {})]
    (_, options), (_, cuda) = with_defaults(expected, exported.path, cache=tmp_path)
    (folder,) = tmp_path.iterdir()
    assert options == {
        "trt_engine_cache_enable": "1",
        "trt_engine_cache_path": str(folder),
        "trt_timing_cache_enable": "1",
        "trt_timing_cache_path": str(folder),
        "trt_fp16_enable": "1",
    }
    assert cuda["use_tf32"] == "0"
    mine = {"trt_engine_cache_path": "/somewhere"}
    ((_, options),) = with_defaults([(TENSORRT, mine)], exported.path, cache=tmp_path)
    assert options["trt_engine_cache_path"] == "/somewhere"


def test_threads_are_set_and_at_least_one(exported: Any) -> None:
    session, _ = open_session(exported.path, threads=1)
    assert session.get_session_options().intra_op_num_threads == 1
    with pytest.raises(OptionError, match="threads=0 is not at least 1"):
        open_session(exported.path, threads=0)


def test_each_missing_library_has_its_remedy() -> None:
    assert remedy("libcuda.so.1") == "install the NVIDIA driver"
    assert remedy("libnvonnxparser.so.10") == "install TensorRT 10"
    assert remedy("libcudart.so.13") == "install onnxruntime-gpu[cuda,cudnn]"
    assert set(SHORT) == {"cpu", "cuda", "tensorrt"}
