"""COCO's average precision over a dataset, computed by pycocotools."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from torch import Tensor

from visiongraft.errors import DataError
from visiongraft.task import Arrays

# In the order of COCOeval.stats.
STATS = (
    *("mAP", "AP50", "AP75", "AP_small", "AP_medium", "AP_large"),
    *("AR1", "AR10", "AR100", "AR_small", "AR_medium", "AR_large"),
)
RECALLS = np.linspace(0, 1, 101)
HALF, ALL_AREAS, MOST = 0, 0, 2  # IoU 0.5, objects of all areas, 100 detections per image
DIGITS = 9


class DetectionMetrics:
    """Collect annotations and detections, and compare them in ``compute``.

    Args:
        class_names: Class names by id.
    """

    def __init__(self, class_names: Sequence[str]) -> None:
        self.class_names = tuple(class_names)
        self._images: list[dict[str, Any]] = []
        self._annotations: list[dict[str, Any]] = []
        self._detections: list[dict[str, Any]] = []

    def update(self, decoded: Arrays, targets: Sequence[Mapping[str, Tensor]]) -> None:
        """Add one batch.

        Args:
            decoded: ``boxes``, ``scores``, ``labels`` and ``count``; see ``selection.results``.
            targets: The result of ``Objects.tensors``, one for each image, on the CPU.
        """
        for i, target in enumerate(targets):
            image = len(self._images) + 1
            height, width = target["size"].tolist()
            self._images.append({"id": image, "height": height, "width": width})
            rows = _rows(target["boxes"].double().numpy(), target["labels"].numpy())
            for row, area, crowd in zip(rows, target["areas"], target["crowd"], strict=True):
                own = {"id": len(self._annotations) + 1, "image_id": image}
                measured = {"area": float(area), "iscrowd": int(crowd)}
                self._annotations.append({**own, **row, **measured})
            count = int(decoded["count"][i])
            boxes, labels = decoded["boxes"][i, :count], decoded["labels"][i, :count]
            rows = _rows(boxes.astype(np.float64), labels)
            for row, score in zip(rows, decoded["scores"][i, :count], strict=True):
                self._detections.append({"image_id": image, **row, "score": float(score)})

    def files(self) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """Return the content of COCO's annotation and results files."""
        categories = [{"id": i + 1, "name": name} for i, name in enumerate(self.class_names)]
        annotations = {
            "info": {},
            "images": self._images,
            "annotations": self._annotations,
            "categories": categories,
        }
        return annotations, self._detections

    def compute(self) -> dict[str, Any]:
        """Compute all results so far, as JSON values.

        Returns:
            COCO's twelve numbers, each ``None`` if there are no objects that it measures, except
            ``mAP``, which is 0 then; ``per_class`` with ``AP``, ``AP50`` and the number of
            ``boxes``; and ``precision_at_recall``: at an IoU of 0.5, the mean over the classes at
            101 recalls.

        Raises:
            DataError: No batch was added.
        """
        if not self._images:
            raise DataError("there are no images to measure")
        annotations, detections = self.files()
        with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints its progress
            truth = COCO()
            truth.dataset = annotations
            truth.createIndex()
            evaluation = COCOeval(truth, _load_detections(truth, detections), "bbox")
            evaluation.evaluate()
            evaluation.accumulate()
            evaluation.summarize()
        precision = evaluation.eval["precision"]  # (IoU, recall, class, area, detections)
        results = {n: _number(v) for n, v in zip(STATS, evaluation.stats, strict=True)}
        half = precision[HALF, :, :, ALL_AREAS, MOST]
        measured = half[:, half[0] > -1]
        curve = measured.mean(1) if measured.size else np.zeros(len(RECALLS))
        return {
            **results,
            "mAP": results["mAP"] or 0.0,
            "per_class": self._per_class(precision),
            "precision_at_recall": [round(float(v), 4) for v in curve],
        }

    def _per_class(self, precision: NDArray[Any]) -> dict[str, dict[str, float | int | None]]:
        boxes = np.bincount(
            [row["category_id"] - 1 for row in self._annotations if not row["iscrowd"]],
            minlength=len(self.class_names),
        )
        return {
            name: {
                "AP": _mean(precision[:, :, i, ALL_AREAS, MOST]),
                "AP50": _mean(precision[HALF, :, i, ALL_AREAS, MOST]),
                "boxes": int(boxes[i]),
            }
            for i, name in enumerate(self.class_names)
        }


def _rows(boxes: NDArray[Any], labels: NDArray[Any]) -> list[dict[str, Any]]:
    return [
        {
            "category_id": int(label) + 1,
            "bbox": [float(v) for v in (x1, y1, x2 - x1, y2 - y1)],
        }
        for (x1, y1, x2, y2), label in zip(boxes.tolist(), labels, strict=True)
    ]


def _load_detections(truth: COCO, detections: list[dict[str, Any]]) -> COCO:
    """Load detections; pycocotools itself cannot load an empty list."""
    if detections:
        return truth.loadRes([dict(row) for row in detections])
    none = COCO()
    none.dataset = {**truth.dataset, "annotations": []}
    none.createIndex()
    return none


def _number(value: float) -> float | None:
    """Round a result; pycocotools returns -1 where there is nothing to measure."""
    return None if value < 0 else round(float(value), DIGITS)


def _mean(precision: NDArray[Any]) -> float | None:
    known = precision[precision > -1]
    return round(float(known.mean()), DIGITS) if known.size else None
