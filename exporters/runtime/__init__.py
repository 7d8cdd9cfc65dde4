"""Predict with exported files: onnxruntime, numpy and pillow, never PyTorch.

Nothing in this folder imports torch; a test holds it to that.

Example::

    from visiongraft.exporters.runtime import Predictor

    predictor = Predictor("flowers.onnx")
    predictor.predict(["a.jpg", array, image])     # one typed prediction per image
    predictor.predict("photos", save="drawn")      # a folder; draws the predictions too
    predictor.providers                            # ("CPUExecutionProvider",)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from visiongraft.exporters.runtime.predictor import Predictor

__all__ = ["Predictor"]


def __getattr__(name: str) -> object:
    if name == "Predictor":  # on first use: predictors of other formats need no onnxruntime
        from visiongraft.exporters.runtime.predictor import Predictor

        return Predictor
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
