"""Endless loops in a graph are stopped."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from visiongraft.cli import main
from visiongraft.errors import OptionError, VisiongraftError
from visiongraft.exporters.runtime.predictor import Predictor
from visiongraft.exporters.verification.recheck import recheck
from visiongraft.lookup.exported import open_exported

IMAGES = np.zeros((1, 8, 8, 3), np.uint8)


def constant(name: str, value: Any) -> onnx.NodeProto:
    return helper.make_node("Constant", [], [name], value=numpy_helper.from_array(value))


@pytest.fixture(scope="module")
def endless(exported: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The exported file, with a loop without end in front of its last result."""
    model = exported.load()
    kept, number = helper.make_tensor_value_info, helper.make_tensor_value_info
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["go_on"], ["go_on_again"]),
            helper.make_node("Add", ["sum", "sum"], ["twice"]),
        ],
        "body",
        [
            number("step", TensorProto.INT64, []),
            kept("go_on", TensorProto.BOOL, []),
            number("sum", TensorProto.INT64, None),
        ],
        [kept("go_on_again", TensorProto.BOOL, []), number("twice", TensorProto.INT64, None)],
    )
    output = model.graph.output[-1].name
    for node in model.graph.node:
        node.output[:] = ["looped" if name == output else name for name in node.output]
    model.graph.node.extend(
        [
            constant("steps", np.array(2**62)),
            constant("yes", np.array(True)),
            helper.make_node("Loop", ["steps", "yes", "looped"], [output], body=body),
        ]
    )
    path = tmp_path_factory.mktemp("endless") / "endless.onnx"
    onnx.save(model, path)
    return path


def test_a_run_is_stopped_and_told_in_one_line(
    endless: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    predictor = Predictor(endless, time_limit=0.3)
    start = time.perf_counter()
    with pytest.raises(VisiongraftError, match=r"was stopped on .* after 0\.3 seconds") as caught:
        predictor.run(IMAGES)
    assert time.perf_counter() - start < 5
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


def test_a_sound_file_runs_within_a_limit_again_and_again(exported: Any) -> None:
    free, limited = Predictor(exported.path), Predictor(exported.path, time_limit=60)
    for _ in range(2):
        for name, value in free.run(IMAGES).items():
            np.testing.assert_array_equal(limited.run(IMAGES)[name], value)


def test_verify_ends_with_failed_checks(endless: Path) -> None:
    failed = [check for check in recheck(endless, time_limit=0.2).checks if check.passed is False]
    assert any("was stopped" in check.detail for check in failed)


@pytest.mark.parametrize("words", [["predict"], ["bench", "--seconds", "0.1"]])
def test_commands_take_the_limit(
    words: list[str], endless: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from PIL import Image

    Image.fromarray(IMAGES[0]).save(tmp_path / "a.png")
    images = ["a.png"] if words == ["predict"] else []
    given = [words[0], endless, *(tmp_path / name for name in images), *words[1:]]
    assert main([*map(str, given), "--time-limit", "0.2"]) == 2
    assert "after 0.2 seconds" in capsys.readouterr().err


def test_a_limit_is_a_time_of_a_file(exported: Any, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="--time-limit 0 is not above 0"):
        open_exported(exported.path, time_limit=0)
    with pytest.raises(OptionError, match="is not above 0"):
        Predictor(exported.path, time_limit=-1)


def test_the_limit_is_no_part_of_a_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["evaluate", str(tmp_path), "data", "--time-limit", "2", "--json"]
    assert main(words) == 2
    answer = json.loads(capsys.readouterr().out)
    assert answer["error"].startswith("--time-limit requires an exported file")
