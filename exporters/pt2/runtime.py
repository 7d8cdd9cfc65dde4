"""Predict with an exported .pt2 file: PyTorch, but none of the model's code.

Example::

    from visiongraft.exporters.pt2.runtime import Pt2Predictor

    predictor = Pt2Predictor("flowers.pt2")
    predictor.predict(["a.jpg", array, image])   # one typed prediction per image
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from visiongraft.class_file import OPEN_INPUTS
from visiongraft.errors import (
    ArtifactError,
    DataError,
    OptionError,
    RuntimeProviderError,
    VisiongraftError,
    near_matches,
    one_line,
)
from visiongraft.exporters.runtime.description import described, described_input
from visiongraft.exporters.runtime.file_predictor import Arrays, FilePredictor
from visiongraft.exporters.runtime.time_limit import check_time_limit, stopped_after, too_slow

DEVICES = ("cpu", "cuda")


class _TimeIsOver(BaseException):
    """Raised in the thread that runs a program; no operator may take it for an error of its own."""


def _raise_in(thread: int, error: type[BaseException]) -> None:
    """Raise an exception in another thread: loops of a program run in Python."""
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), ctypes.py_object(error))


class Pt2Predictor(FilePredictor):
    """An exported program, ready to predict.

    The file is checked before it is loaded: it may hold nothing but tensors and operators of
    PyTorch and torchvision.

    Args:
        path: The .pt2 file.
        device: Where to run: ``"cpu"`` or ``"cuda"``; ``None`` is the CPU, which the certificate was
            made on.
        max_bytes: Largest file that is loaded; 8 GiB if ``None``.
        time_limit: Seconds after which a run is stopped; ``None`` for no limit.

    Attributes:
        path: The .pt2 file.
        metadata: The file's metadata, as JSON values.
        input: What the program takes.

    Raises:
        ArtifactError: The file is missing, unsafe, damaged or not visiongraft's.
        OptionError: There is no such device.
        RuntimeProviderError: The device, or PyTorch itself, cannot be used here.
    """

    def __init__(
        self,
        path: str | Path,
        device: str | None = None,
        *,
        max_bytes: int | None = None,
        time_limit: float | None = None,
    ) -> None:
        check_time_limit(time_limit)
        self.time_limit = time_limit
        self.path = Path(path)
        self.device = device or DEVICES[0]
        if self.device not in DEVICES:
            hint = near_matches(self.device, DEVICES)
            raise OptionError(f"{self.path} runs on {' or '.join(DEVICES)}, not {device!r}{hint}")
        try:
            import torch
        except ImportError as error:
            raise RuntimeProviderError(
                f"{self.path} needs PyTorch ({error}); an .onnx file does not"
            ) from error
        from visiongraft.exporters.pt2.archive import MAX_BYTES, load_program

        if self.device == "cuda" and not torch.cuda.is_available():
            raise RuntimeProviderError(
                f"PyTorch {torch.__version__} finds no GPU to run {self.path} on; leave out 'cuda'"
            )
        program, self.metadata = load_program(self.path, max_bytes or MAX_BYTES)
        self.input = described_input(self.path, self.metadata)
        if self.device != "cpu":
            from torch.export.passes import move_to_device_pass

            program = move_to_device_pass(program, self.device)
        self._own_classes = _own_classes(self.path, self.metadata, program)
        self._module: Any = program.module()

    def run(self, images: NDArray[Any]) -> Arrays:
        """Run the program once.

        Args:
            images: uint8 (N, H, W, C) in 0..255, RGB if C is 3.

        Returns:
            The task's decoded results by name, the batch as first dimension.

        Raises:
            DataError: The array has another type or shape.
            VisiongraftError: The run fails, or takes longer than ``time_limit``.
        """
        import torch

        if not self.input.accepts(images):
            raise DataError(f"{self.path} takes {self.input}, not {described(images)}")
        stop = partial(_raise_in, threading.get_ident(), _TimeIsOver)
        try:
            with stopped_after(self.time_limit, stop), torch.inference_mode():
                classes = [
                    torch.tensor(self.classes[name], device=self.device)
                    if name in self.classes
                    else own
                    for name, own in self._own_classes.items()
                ]
                decoded = self._module(torch.tensor(images, device=self.device), *classes)
                return {name: np.asarray(value.cpu().numpy()) for name, value in decoded.items()}
        except _TimeIsOver as error:
            raise too_slow(self.path, self.time_limit, described(images)) from error
        except Exception as error:  # torch's exceptions share no base
            raise VisiongraftError(
                f"{self.path} failed on {described(images)}: {one_line(error)}"
            ) from error

    def content_sha256(self) -> str | None:
        """Hash names and contents of the file's records, all but the certificate."""
        from visiongraft.exporters.pt2.archive import content_sha256

        return content_sha256(self.path)


def _own_classes(path: Path, metadata: Mapping[str, Any], program: Any) -> dict[str, Any]:
    """Return the classes of a file that takes classes, as tensors by input."""
    names = list(metadata.get(OPEN_INPUTS) or {})
    known = program.state_dict
    takes = len(program.graph_signature.user_inputs)
    if takes != 1 + len(names) or not all(name in known for name in names):
        raise ArtifactError(
            f"{path} takes {takes} inputs, but its metadata declares {1 + len(names)}; it is damaged"
        )
    return {name: known[name].detach() for name in names}
