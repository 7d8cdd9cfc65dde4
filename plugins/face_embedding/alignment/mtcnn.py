"""MTCNN, a detector of faces and five landmarks, with its published weights.

Zhang et al., "Joint face detection and alignment using multitask cascaded convolutional networks",
2016. Three small networks: the first proposes windows on an image pyramid, the second rejects most
of them, the third refines the boxes and predicts landmarks.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.ops import batched_nms, nms

from visiongraft.data.samples import Image
from visiongraft.errors import WeightsError
from visiongraft.saving.weights import read_weights

FILES = ("mtcnn_pnet.pt", "mtcnn_rnet.pt", "mtcnn_onet.pt")
WINDOW, STRIDE = 12, 2  # of the first network, in pixels of the scaled image
PYRAMID_FACTOR = 0.709  # ratio of one pyramid level to the one before
MIN_SCORES = (0.6, 0.7, 0.7)  # score threshold of each network
NMS_IOU = (0.5, 0.7, 0.5)  # within one scale, over all scales, of the final boxes
CHUNK = 512  # windows in memory at a time


class ProposalNet(nn.Module):
    """P-Net: a score and a correction for each window of 12 x 12 pixels, two pixels apart."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.prelu1 = nn.Conv2d(3, 10, 3), nn.PReLU(10)
        self.conv2, self.prelu2 = nn.Conv2d(10, 16, 3), nn.PReLU(16)
        self.conv3, self.prelu3 = nn.Conv2d(16, 32, 3), nn.PReLU(32)
        self.conv4_1, self.conv4_2 = nn.Conv2d(32, 2, 1), nn.Conv2d(32, 4, 1)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Score all windows of whole images.

        Args:
            images: float (N, 3, H, W), RGB in -1..1.

        Returns:
            Scores (N, h, w) and corrections (N, 4, h, w).
        """
        x = F.max_pool2d(self.prelu1(self.conv1(images)), 2, 2, ceil_mode=True)
        x = self.prelu3(self.conv3(self.prelu2(self.conv2(x))))
        return self.conv4_1(x).softmax(1)[:, 1], self.conv4_2(x)


class RefineNet(nn.Module):
    """R-Net: a score and a correction for each window, scaled to 24 x 24 pixels."""

    side = 24

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.prelu1 = nn.Conv2d(3, 28, 3), nn.PReLU(28)
        self.conv2, self.prelu2 = nn.Conv2d(28, 48, 3), nn.PReLU(48)
        self.conv3, self.prelu3 = nn.Conv2d(48, 64, 2), nn.PReLU(64)
        self.dense4, self.prelu4 = nn.Linear(576, 128), nn.PReLU(128)
        self.dense5_1, self.dense5_2 = nn.Linear(128, 2), nn.Linear(128, 4)

    def forward(self, windows: Tensor) -> tuple[Tensor, Tensor]:
        """Compute scores (N,) and corrections (N, 4) of windows, float (N, 3, 24, 24)."""
        x = F.max_pool2d(self.prelu1(self.conv1(windows)), 3, 2, ceil_mode=True)
        x = F.max_pool2d(self.prelu2(self.conv2(x)), 3, 2, ceil_mode=True)
        x = self.prelu4(self.dense4(_flat(self.prelu3(self.conv3(x)))))
        return self.dense5_1(x).softmax(1)[:, 1], self.dense5_2(x)


class OutputNet(nn.Module):
    """O-Net: a score, a correction and landmarks for each window, scaled to 48 x 48 pixels."""

    side = 48

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.prelu1 = nn.Conv2d(3, 32, 3), nn.PReLU(32)
        self.conv2, self.prelu2 = nn.Conv2d(32, 64, 3), nn.PReLU(64)
        self.conv3, self.prelu3 = nn.Conv2d(64, 64, 3), nn.PReLU(64)
        self.conv4, self.prelu4 = nn.Conv2d(64, 128, 2), nn.PReLU(128)
        self.dense5, self.prelu5 = nn.Linear(1152, 256), nn.PReLU(256)
        self.dense6_1, self.dense6_2 = nn.Linear(256, 2), nn.Linear(256, 4)
        self.dense6_3 = nn.Linear(256, 10)

    def forward(self, windows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Compute scores (N,), corrections (N, 4), points (N, 10) of windows (N, 3, 48, 48)."""
        x = F.max_pool2d(self.prelu1(self.conv1(windows)), 3, 2, ceil_mode=True)
        x = F.max_pool2d(self.prelu2(self.conv2(x)), 3, 2, ceil_mode=True)
        x = F.max_pool2d(self.prelu3(self.conv3(x)), 2, 2, ceil_mode=True)
        x = self.prelu5(self.dense5(_flat(self.prelu4(self.conv4(x)))))
        return self.dense6_1(x).softmax(1)[:, 1], self.dense6_2(x), self.dense6_3(x)


class Mtcnn:
    """Face detector for ``align_face`` and ``align_folder``.

    Args:
        folder: Folder with ``mtcnn_pnet.pt``, ``mtcnn_rnet.pt`` and ``mtcnn_onet.pt``.
        min_size: Side of the smallest face to detect, in pixels.

    Raises:
        WeightsError: A file is missing, damaged or of another network.
    """

    def __init__(self, folder: str | Path, min_size: int = 20) -> None:
        self.min_size = min_size
        nets = (ProposalNet(), RefineNet(), OutputNet())
        for net, name in zip(nets, FILES, strict=True):
            _load(net, Path(folder) / name)
        self.propose, self.refine, self.output = nets

    def __call__(self, image: Image) -> tuple[NDArray[Any], NDArray[Any]]:
        """Detect faces.

        Args:
            image: uint8 (H, W, 3), RGB, or (H, W, 1).

        Returns:
            Boxes (N, 4) as left, top, right, bottom, and landmarks (N, 5, 2), in pixels; sorted by
            confidence.
        """
        pixels = torch.tensor(np.ascontiguousarray(np.broadcast_to(image, (*image.shape[:2], 3))))
        planes = (pixels.permute(2, 0, 1)[None].float() - 127.5) / 128
        with torch.inference_mode():
            boxes = self._proposals(planes)
            scores, corrections = self._score(self.refine, planes, boxes)
            boxes = _select(boxes, scores, corrections, MIN_SCORES[1])
            scores, corrections, points = self._score(self.output, planes, boxes)
            relative = points.view(-1, 2, 5).transpose(1, 2)
            sides = (boxes[:, 2:] - boxes[:, :2] + 1)[:, None]
            landmarks = relative * sides + boxes[:, None, :2] - 1
            confident = scores > MIN_SCORES[2]
            boxes, landmarks, scores = boxes[confident], landmarks[confident], scores[confident]
            boxes = _correct(boxes, corrections[confident])
            kept = nms(boxes, scores, NMS_IOU[2])
        return boxes[kept].numpy(), landmarks[kept].numpy()

    def _proposals(self, planes: Tensor) -> Tensor:
        """Propose boxes at all scales at which a face may fill a window."""
        height, width = planes.shape[2:]
        scale = WINDOW / self.min_size
        found: list[tuple[Tensor, Tensor, Tensor]] = []
        while min(height, width) * scale >= WINDOW:
            size = (int(height * scale + 1), int(width * scale + 1))
            scores, corrections = self.propose(F.interpolate(planes, size, mode="area"))
            found.append(_candidates(scores[0], corrections[0], scale))
            scale *= PYRAMID_FACTOR
        if not found:
            return planes.new_zeros((0, 4))
        boxes, scores, corrections = (torch.cat(parts) for parts in zip(*found, strict=True))
        return _select(boxes, scores, corrections, MIN_SCORES[0])

    def _score(self, net: nn.Module, planes: Tensor, boxes: Tensor) -> tuple[Tensor, ...]:
        """Run a network on the windows of an image, in chunks."""
        side: int = net.side  # type: ignore[assignment]
        chunks = boxes.split(CHUNK) if len(boxes) else [boxes]
        outputs = [net(_crop(planes, chunk, side)) for chunk in chunks]
        return tuple(torch.cat(each) for each in zip(*outputs, strict=True))


def _candidates(
    score_map: Tensor, correction_map: Tensor, scale: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Convert the windows of one scale that may be a face to boxes in the image, after NMS."""
    rows, columns = (score_map >= MIN_SCORES[0]).nonzero(as_tuple=True)
    corner = torch.stack([columns, rows], 1).float() * STRIDE + 1
    boxes = torch.cat([corner / scale, (corner - 1 + WINDOW) / scale], 1).floor()
    scores, corrections = score_map[rows, columns], correction_map[:, rows, columns].T
    kept = nms(boxes, scores, NMS_IOU[0])
    return boxes[kept], scores[kept], corrections[kept]


def _select(boxes: Tensor, scores: Tensor, corrections: Tensor, min_score: float) -> Tensor:
    """Select boxes by score and NMS; return them corrected and extended to squares."""
    confident = scores > min_score
    boxes, scores, corrections = boxes[confident], scores[confident], corrections[confident]
    kept = batched_nms(boxes, scores, torch.zeros(len(boxes)), NMS_IOU[1])
    return _squares(_correct(boxes[kept], corrections[kept]))


def _correct(boxes: Tensor, corrections: Tensor) -> Tensor:
    sides = boxes[:, 2:] - boxes[:, :2] + 1
    return boxes + corrections * sides.repeat(1, 2)


def _squares(boxes: Tensor) -> Tensor:
    sides = boxes[:, 2:] - boxes[:, :2]
    longest = sides.amax(1, keepdim=True)
    corner = boxes[:, :2] + (sides - longest) / 2
    return torch.cat([corner, corner + longest], 1)


def _crop(planes: Tensor, boxes: Tensor, side: int) -> Tensor:
    """Crop windows from an image and resize them; outside of the image they are gray (0)."""
    height, width = planes.shape[2:]
    windows = planes.new_zeros((len(boxes), 3, side, side))
    for window, box in zip(windows, boxes.trunc().long().tolist(), strict=True):
        left, top, right, bottom = box[0] - 1, box[1] - 1, box[2], box[3]
        inside = planes[0, :, max(top, 0) : max(bottom, 0), max(left, 0) : max(right, 0)]
        if inside.numel():
            margins = (max(-left, 0), max(right - width, 0), max(-top, 0), max(bottom - height, 0))
            padded = F.pad(inside, margins)[None]
            window.copy_(F.interpolate(padded, (side, side), mode="area")[0])
    return windows


def _flat(x: Tensor) -> Tensor:
    """Flatten feature maps in column-major order, for which Matlab trained the weights."""
    return x.permute(0, 3, 2, 1).flatten(1)


def _load(net: nn.Module, path: Path) -> None:
    if not path.is_file():
        raise WeightsError(f"{path} does not exist; MTCNN needs {', '.join(FILES)} in one folder")
    tensors = read_weights(path)
    own = net.state_dict()
    wrong = sorted(own.keys() ^ tensors.keys())
    wrong += [n for n in own.keys() & tensors.keys() if own[n].shape != tensors[n].shape]
    if wrong:
        raise WeightsError(
            f"{path} is not a weights file of {type(net).__name__}: {len(wrong)} tensors differ, "
            f"such as {wrong[0]!r}"
        )
    net.load_state_dict(tensors)
    net.eval().requires_grad_(False)
