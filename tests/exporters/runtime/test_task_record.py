"""Predictions of a file are made by the function of its own task, not by any of the task's name."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from visiongraft.cli import main
from visiongraft.errors import ArtifactError
from visiongraft.exporters.runtime.predictor import Predictor

IMAGE = np.zeros((20, 20, 3), np.uint8)
TYPED = """
def typed(arrays, metadata):
    return ["{}" for _ in arrays["classes"]]
"""
DRAW = """
def draw(image, prediction):
    return image
"""


@pytest.fixture
def recorded(exported: Any, tmp_path: Path) -> Callable[..., Path]:
    """Return a function that changes what the file records about its task."""

    def recorded(distribution: str | None, others: Sequence[str] = (), **changes: Any) -> Path:
        model = exported.load()
        functions = {
            name: {"method": f"mine:Shades.{name}", "distribution": distribution, "others": others}
            for name in ("predictions", "draw")
        }
        for name, entry in changes.items():
            functions[name].update(entry)
        for prop in model.metadata_props:
            if prop.key == "functions":
                prop.value = json.dumps(functions)
        onnx.save(model, tmp_path / "recorded.onnx")
        return tmp_path / "recorded.onnx"

    return recorded


def test_the_function_of_the_recorded_distribution_is_the_one_that_decodes(
    recorded: Callable[..., Path], provide: Callable[..., None]
) -> None:
    provide(TYPED.format("own"), name="own-plugin")
    provide(TYPED.format("other"), name="other-plugin")
    for name in ("own", "other"):
        assert Predictor(recorded(f"{name}-plugin")).predict(IMAGE) == [name]


def test_the_function_of_another_distribution_is_refused_with_the_one_to_provide(
    recorded: Callable[..., Path], provide: Callable[..., None]
) -> None:
    provide(TYPED.format("other"), name="other-plugin")
    predictor = Predictor(recorded("own-plugin"))
    with pytest.raises(ArtifactError, match=r"is of other-plugin; install or enable own-plugin$"):
        predictor.predict(IMAGE)
    assert predictor.run(IMAGE[None])["classes"].shape == (1,)


def test_a_function_that_belonged_to_another_class_at_export_is_refused(
    recorded: Callable[..., Path], provide: Callable[..., None]
) -> None:
    provide(TYPED.format("base"), name="base-plugin")
    with pytest.raises(ArtifactError) as caught:
        Predictor(recorded(None, ["base-plugin"])).predict(IMAGE)
    assert str(caught.value).endswith(
        "recorded.onnx was exported from a task with mine:Shades.predictions, but the function for "
        "task 'shades' of base-plugin belongs to another class; call run() for the arrays, or rename "
        "the task and install its function in the entry-point group visiongraft.predictions"
    )


def test_a_function_that_is_installed_after_the_export_decodes(
    recorded: Callable[..., Path], provide: Callable[..., None]
) -> None:
    provide(TYPED.format("base"), name="base-plugin")
    provide(TYPED.format("mine"), name="mine-at-last")
    assert Predictor(recorded(None, ["base-plugin"])).predict(IMAGE) == ["mine"]


def test_a_file_that_records_no_function_is_decoded_by_the_name_of_its_task(
    exported: Any, provide: Callable[..., None], tmp_path: Path
) -> None:
    provide(TYPED.format("by name"))
    model = exported.load()
    kept = {
        p.key: p.value for p in model.metadata_props if p.key not in ("functions", "task_class")
    }
    onnx.helper.set_model_props(model, kept)
    onnx.save(model, tmp_path / "old.onnx")
    assert Predictor(tmp_path / "old.onnx").predict(IMAGE) == ["by name"]


def test_a_drawing_of_another_class_is_left_out_with_a_warning(
    recorded: Callable[..., Path],
    provide: Callable[..., None],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    provide(TYPED.format("own"), DRAW, name="own-plugin")
    path = recorded("own-plugin", draw={"distribution": None, "others": ["own-plugin"]})
    assert Predictor(path).predict(IMAGE, save=tmp_path / "drawn") == ["own"]
    (message,) = caplog.messages
    assert message.startswith("predictions are not drawn: ") and "mine:Shades.draw" in message


def test_the_command_ends_with_the_remedy(
    recorded: Callable[..., Path], provide: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    provide(TYPED.format("base"), name="base-plugin")
    path = recorded(None, ["base-plugin"])
    (path.parent / "image.png").write_bytes(b"never read")
    assert main(["predict", str(path), str(path.parent / "image.png")]) == 2
    told = capsys.readouterr()
    assert "belongs to another class" in told.err and told.err.count("\n") == 1
