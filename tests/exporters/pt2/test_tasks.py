"""Every built-in task is exported as .pt2 without a false alarm, and the file is opened by its suffix."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from visiongraft.lookup.exported import open_exported
from visiongraft.plugins.classification.task import Classification
from visiongraft.plugins.detection.task import Detection
from visiongraft.plugins.face_embedding.task import FaceEmbedding
from visiongraft.plugins.segmentation.task import Segmentation
from visiongraft.testing import TaskTrial

TASKS: dict[str, Any] = {
    "classification": Classification,
    "segmentation": Segmentation,
    "face embedding": FaceEmbedding,
    "ssdlite": Detection(head="ssdlite"),
    "ssd": Detection(head="ssd"),
    "retinanet": Detection(head="retinanet", width=32),
    "fcos": Detection(head="fcos", width=32),
    "faster_rcnn": Detection(head="faster_rcnn", width=32),
}


@pytest.mark.exhaustive  # test_exporter.py exports one model, and a page of the documentation another
@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS.keys())
def test_a_trained_model_of_every_task_is_exported(task: Any, tmp_path: Path) -> None:
    trial = TaskTrial(task)  # its data are there as long as it is
    model = trial.trained().model
    assert model.validation is not None
    path = tmp_path / "model.pt2"
    certificate = model.export(path, max_batch=3)
    assert certificate.mismatches == 0 and certificate.difference <= 1e-6
    assert certificate.metric_torch == certificate.metric_exported
    images = [model.validation.load(i) for i in range(3)]
    opened = open_exported(path)
    assert len(opened.predict(images)) == 3
    assert opened.metadata["input"]["height"] is None  # any size
