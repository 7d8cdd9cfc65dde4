"""`resize="letterbox"` for detection: images keep their aspect ratio, boxes refer to the image all the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import visiongraft
from visiongraft.plugins.detection.task import Detection

TASK = Detection(head="fcos", width=32, augment="none")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Any:
    data = TASK.examples().make_dataset(tmp_path_factory.mktemp("data"), 24, 0)
    return visiongraft.fit(
        data,
        task=TASK,
        backbone="simple_cnn",
        weights=None,
        size=64,
        resize="letterbox",
        batch_size=4,
        epochs=12,
        schedule="full(learning_rate=3e-3)",
        seed=1,
        callbacks=(),
    )


def test_a_detector_learns_from_letterboxed_images(model: Any) -> None:
    assert model.network.preprocess.config.resize == "letterbox"
    assert model.facts["metrics"]["AP50"] > 0.5


def test_boxes_lie_in_the_image_whatever_its_shape(model: Any) -> None:
    random = np.random.default_rng(0)
    for height, width in ((30, 90), (90, 30), (61, 64)):
        image = random.integers(0, 255, (height, width, 3)).astype(np.uint8)
        (found,) = model.predict([image], score_threshold=0.0)
        for each in found.objects:
            x1, y1, x2, y2 = each.box
            assert 0 <= x1 <= x2 <= width and 0 <= y1 <= y2 <= height


@pytest.mark.exhaustive
@pytest.mark.parametrize("suffix", [".onnx", ".pt2"])
def test_the_exported_file_agrees(model: Any, tmp_path: Path, suffix: str) -> None:
    certificate = model.export(tmp_path / f"model{suffix}")
    assert certificate.metric_exported == pytest.approx(certificate.metric_torch, abs=1e-3)


def test_tasks_of_maps_refuse_it_in_one_line(tmp_path: Path) -> None:
    from visiongraft.plugins.segmentation.task import Segmentation

    data = Segmentation().examples().make_dataset(tmp_path, 12, 0)
    with pytest.raises(
        visiongraft.VisiongraftError, match="leave out resize='letterbox'"
    ) as caught:
        visiongraft.fit(
            data,
            task="segmentation",
            backbone="simple_cnn",
            weights=None,
            size=64,
            resize="letterbox",
            callbacks=(),
        )
    assert "\n" not in str(caught.value)
