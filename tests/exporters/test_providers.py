from __future__ import annotations

from typing import Any

import onnxruntime
import pytest

from visiongraft.errors import OptionError, RuntimeProviderError
from visiongraft.exporters.providers import _reason, open_session


def test_nothing_asked_for_is_the_cpu(exported: Any) -> None:
    session, placement = open_session(exported.path)
    assert set(placement) == {"CPUExecutionProvider"}
    assert session.get_providers() == ["CPUExecutionProvider"]


@pytest.mark.parametrize("providers", ["cpu", ["cpu"], ["CPUExecutionProvider"], [("cpu", {})]])
def test_the_cpu_has_several_names(exported: Any, providers: Any) -> None:
    assert set(open_session(exported.path, providers)[1]) == {"CPUExecutionProvider"}


def test_a_misspelt_provider_is_an_error_with_near_names(exported: Any) -> None:
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
        assert "was asked for but cannot be used" in str(error)
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
            "libnvinfer.so.10 is missing; install TensorRT",
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
