"""The libraries from onnxruntime to a GPU, and the command that shows them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from visiongraft.cli import main
from visiongraft.errors import OptionError
from visiongraft.exporters.doctor import chain
from visiongraft.exporters.doctor.chain import TINY_MODEL, driver_link, examine
from visiongraft.exporters.doctor.elf import needed_libraries

CAPI = Path(onnxruntime.__file__).parent / "capi"


def works(provider: str) -> bool:
    _, (diagnosis,) = examine([provider])
    return diagnosis.works


def test_the_tiny_model_is_one_convolution_of_ones() -> None:
    sides = {"x": [1, 1, 4, 4], "y": [1, 1, 2, 2]}
    x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in sides.items())
    weight = numpy_helper.from_array(np.ones((1, 1, 3, 3), np.float32), "w")
    node = helper.make_node("Conv", ["x", "w"], ["y"])
    graph = helper.make_graph([node], "tiny", [x], [y], [weight])
    opsets = [helper.make_opsetid("", 18)]
    assert onnx.ModelProto.FromString(TINY_MODEL) == helper.make_model(
        graph, ir_version=10, opset_imports=opsets
    )


def test_the_cpu_works_and_a_wrong_result_would_be_noticed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert works("cpu")
    faulty = onnx.ModelProto.FromString(TINY_MODEL)
    ones = numpy_helper.from_array(np.full((1, 1, 3, 3), 2, np.float32), "w")
    faulty.graph.initializer[0].CopyFrom(ones)
    monkeypatch.setattr(chain, "TINY_MODEL", faulty.SerializeToString())
    _, (diagnosis,) = examine(["cpu"])
    assert not diagnosis.works
    assert diagnosis.cause == "a convolution returned 72.0, not 36"


def test_every_library_that_is_missing_comes_with_a_remedy() -> None:
    links, diagnoses = examine()
    assert [diagnosis.provider for diagnosis in diagnoses] == ["cpu", "cuda", "tensorrt"]
    assert links[0].name == "onnxruntime"
    assert onnxruntime.__version__ in links[0].detail
    for link in links:
        assert bool(link.remedy) == (link.state != "found")
    broken = {link.needed_for for link in links if link.remedy}
    for diagnosis in diagnoses:
        assert bool(diagnosis.cause) != diagnosis.works
        if diagnosis.works:
            assert diagnosis.provider not in broken


def test_a_library_that_is_not_there_is_missing() -> None:
    link = chain._library("libcudnn.so.1234", "cuda")
    assert (link.name, link.state) == ("cuDNN (libcudnn.so.1234)", "missing")
    assert "cannot open shared object file" in link.detail
    assert link.remedy == "install onnxruntime-gpu[cuda,cudnn]"


def test_two_onnxruntimes_are_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    both = {"onnxruntime": "1.30.0", "onnxruntime-gpu": "1.31.1"}
    monkeypatch.setattr(chain, "installed_versions", lambda *names: {n: both[n] for n in names})
    link = chain._runtime()
    assert link.state == "unusable"
    assert link.remedy.startswith("they share one import name; uninstall both, then install")


def test_an_onnxruntime_without_cuda_is_named_as_the_cause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        chain.onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"]
    )
    links, diagnoses = examine()
    assert [link.name for link in links] == ["onnxruntime", "CUDA provider"]
    assert links[1].remedy == "uninstall onnxruntime, then install onnxruntime-gpu[cuda,cudnn]"
    assert [diagnosis.works for diagnosis in diagnoses] == [True, False, False]
    assert "was built without CUDAExecutionProvider" in diagnoses[1].cause


@pytest.mark.parametrize(
    ("answers", "state", "words"),
    [
        (("libcuda.so.1: cannot open", 0, 0, []), "missing", "install the NVIDIA driver"),
        (("", 0, 12040, ["Tesla T4"]), "unusable", "update the NVIDIA driver to one for CUDA 13.0"),
        (("", 100, 13010, []), "unusable", "make a GPU visible"),
        (("", 0, 13010, []), "unusable", "make a GPU visible"),
        (("", 0, 13000, ["Tesla T4", "Tesla T4"]), "found", ""),
        (("", 0, 14020, ["Tesla T4"]), "found", ""),
    ],
)
def test_the_driver_is_judged_by_what_it_answers(
    answers: tuple[str, int, int, list[str]], state: str, words: str
) -> None:
    link = driver_link(*answers, "13.0")
    assert link.state == state
    assert link.remedy.startswith(words) if words else not link.remedy
    assert all(device in link.detail for device in answers[3])


# ---- what a library needs ----


def test_needed_libraries_are_read_from_the_file() -> None:
    (library,) = CAPI.glob("onnxruntime_pybind11_state*.so")
    needed = needed_libraries(library)
    assert "libc.so.6" in needed
    assert all(name.partition(".")[2].startswith("so") for name in needed)


def test_other_files_need_none(tmp_path: Path) -> None:
    path = tmp_path / "x.so"
    (library,) = CAPI.glob("onnxruntime_pybind11_state*.so")
    for content in (b"MZ" * 100, library.read_bytes()[:50]):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"not an ELF file|ends too early"):
            needed_libraries(path)


# ---- the command ----


def test_doctor_shows_parts_remedies_and_diagnoses(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    lines = out.splitlines()
    assert "cores" in lines[0]
    assert "cpu: works" in lines
    links, diagnoses = examine()
    for link in links:
        assert any(line.startswith(f"{link.name} ") and link.state in line for line in lines)
        if link.remedy:
            assert f"to do for {link.needed_for}: {link.remedy}" in lines
    for diagnosis in diagnoses:
        assert f"{diagnosis.provider}: {diagnosis.cause or 'works'}" in lines


def test_doctor_answers_in_json(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--json", "--provider", "cpu"]) == 0
    values = json.loads(capfd.readouterr().out)
    assert values["machine"]["cores"] >= 1
    assert values["providers"][0] == {"provider": "cpu", "works": True, "cause": ""}
    assert {"name", "state", "detail", "remedy", "needed_for"} == set(values["links"][0])


@pytest.mark.parametrize("provider", ["cuda", "tensorrt"])
def test_doctor_exits_with_1_if_the_provider_that_matters_fails(
    provider: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code = main(["doctor", "--provider", provider])
    assert code == (0 if works(provider) else 1)
    assert f"\n{provider}: " in capsys.readouterr().out


def test_a_misspelled_provider_is_wrong_input(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--provider", "cudo"]) == 2
    assert "did you mean 'cuda'" in capsys.readouterr().err
    with pytest.raises(OptionError):
        examine(["cudo"])
