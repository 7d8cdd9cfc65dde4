"""Several built-in tasks, and one of a third party, on one backbone."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

import visiongraft as vg
from visiongraft.exporters.runtime import Predictor
from visiongraft.registry.manager import PluginManager, using
from visiongraft.testing import TASK_CHECKS, Check, TaskTrial

THIRD_PARTY = Path(__file__).parents[1] / "third_party"
HEADS = {
    "built_in": {"kind": "classification", "mask": "segmentation(channels=8)"},
    "third_party": {"kind": "classification", "marks": "marks"},
}
ORDINARY = {"loss_parts_are_means", "learned_tensors_are_registered", "any_image_size_works"}


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Install the third party's task, also for the processes that the kit starts."""
    site = tmp_path_factory.mktemp("site")
    folder = site / "marks-1.0.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: marks\nVersion: 1.0\n")
    (folder / "entry_points.txt").write_text("[visiongraft]\nmarks = missing_targets\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "path", [str(THIRD_PARTY), str(site), *sys.path])
        with using(PluginManager()):
            yield
    sys.modules.pop("missing_targets", None)


@cache
def trial(name: str) -> TaskTrial:
    return TaskTrial(vg.MultiTask(HEADS[name], weights="uncertainty"))


@pytest.mark.parametrize(
    ("name", "check"),
    [
        pytest.param(
            name,
            check,
            id=f"{name}-{check.name}",
            marks=[] if check.name in ORDINARY else pytest.mark.exhaustive,
        )
        for name in HEADS
        for check in TASK_CHECKS
    ],
)
@pytest.mark.usefixtures("installed")
def test_it_passes_the_kit(name: str, check: Check[Any]) -> None:
    check.run(trial(name))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> tuple[vg.TransferModel, Path]:
    """A model of two heads, and the folder of its images."""
    folder = tmp_path_factory.mktemp("heads")
    task = vg.MultiTask({"kind": "classification", "mask": "segmentation(channels=8)"})
    examples = task.examples()
    assert examples is not None
    data = examples.make_dataset(folder, 16, 0)
    settings: dict[str, Any] = {"schedule": "full", "epochs": 1, "device": "cpu", "callbacks": ()}
    trained = vg.fit(
        data, task=task, backbone="simple_cnn", weights=None, size=32, batch_size=8, **settings
    )
    return trained, folder / "kind"


@pytest.mark.slow
def test_one_file_proves_and_predicts_all_heads(
    model: tuple[vg.TransferModel, Path], tmp_path: Path
) -> None:
    trained, images = model
    certificate = trained.export(tmp_path / "model.onnx")
    assert certificate.headline == "combined"
    assert certificate.metric_exported == certificate.metric_torch
    image = next(images.rglob("*.png"))
    predictor = Predictor(tmp_path / "model.onnx")
    (expected,), (found,) = (
        trained.predict(image),
        predictor.predict(image, save=tmp_path / "drawn"),
    )
    assert found.kind.label == expected.kind.label
    assert (found.mask.mask == expected.mask.mask).all()
    assert sorted(path.suffix for path in (tmp_path / "drawn").iterdir()) == [".jpg", ".png"]


@pytest.mark.exhaustive
def test_several_heads_are_exported_in_half_precision(
    model: tuple[vg.TransferModel, Path], tmp_path: Path
) -> None:
    certificate = model[0].export(tmp_path / "half.onnx", precision="fp16")
    assert certificate.precision == "fp16"
