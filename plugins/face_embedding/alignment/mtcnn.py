"""MTCNN, a detector of faces and five landmarks, by its published weight files.

Zhang et al., "Joint face detection and alignment using multitask cascaded convolutional networks",
2016. Three small networks: the first proposes windows on a pyramid of sizes, the second rejects most
of them, the third refines boxes and gives landmarks.
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
SHRINK = 0.709  # from one size of the pyramid to the next
SCORES = (0.6, 0.7, 0.7)  # least score of each network
OVERLAP = (0.5, 0.7, 0.5)  # of boxes of one scale, of all scales, of the results
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
        """Look at whole images.

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
        """Judge windows, float (N, 3, 24, 24): scores (N,) and corrections (N, 4)."""
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
        """Judge windows, float (N, 3, 48, 48): scores (N,), corrections (N, 4), points (N, 10)."""
        x = F.max_pool2d(self.prelu1(self.conv1(windows)), 3, 2, ceil_mode=True)
        x = F.max_pool2d(self.prelu2(self.conv2(x)), 3, 2, ceil_mode=True)
        x = F.max_pool2d(self.prelu3(self.conv3(x)), 2, 2, ceil_mode=True)
        x = self.prelu5(self.dense5(_flat(self.prelu4(self.conv4(x)))))
        return self.dense6_1(x).softmax(1)[:, 1], self.dense6_2(x), self.dense6_3(x)


class Mtcnn:
    """A detector for ``align_face`` and ``align_folder``.

    Args:
        folder: Holds ``mtcnn_pnet.pt``, ``mtcnn_rnet.pt`` and ``mtcnn_onet.pt``.
        smallest: Side of the smallest face to look for, in pixels.

    Raises:
        WeightsError: A file is missing, damaged or of another network.
    """

    def __init__(self, folder: str | Path, smallest: int = 20) -> None:
        self.smallest = smallest
        nets = (ProposalNet(), RefineNet(), OutputNet())
        for net, name in zip(nets, FILES, strict=True):
            _load(net, Path(folder) / name)
        self.propose, self.refine, self.output = nets

    def __call__(self, image: Image) -> tuple[NDArray[Any], NDArray[Any]]:
        """Find faces.

        Args:
            image: uint8 (H, W, 3), RGB, or (H, W, 1).

        Returns:
            Boxes (N, 4) as left, top, right, bottom, and landmarks (N, 5, 2), in pixels; the surest
            face first.
        """
        pixels = torch.tensor(np.ascontiguousarray(np.broadcast_to(image, (*image.shape[:2], 3))))
        planes = (pixels.permute(2, 0, 1)[None].float() - 127.5) / 128
        with torch.inference_mode():
            boxes = self._proposals(planes)
            scores, moves = self._judged(self.refine, planes, boxes)
            boxes, _ = _kept(boxes, scores, moves, SCORES[1])
            scores, moves, points = self._judged(self.output, planes, boxes)
            found = points.view(-1, 2, 5).transpose(1, 2)
            sides = (boxes[:, 2:] - boxes[:, :2] + 1)[:, None]
            landmarks = found * sides + boxes[:, None, :2] - 1
            sure = scores > SCORES[2]
            boxes, landmarks, scores = boxes[sure], landmarks[sure], scores[sure]
            boxes = _moved(boxes, moves[sure])
            kept = nms(boxes, scores, OVERLAP[2])
        return boxes[kept].numpy(), landmarks[kept].numpy()

    def _proposals(self, planes: Tensor) -> Tensor:
        """Look at the image in all sizes at which a face may fill a window."""
        height, width = planes.shape[2:]
        scale = WINDOW / self.smallest
        found: list[tuple[Tensor, Tensor, Tensor]] = []
        while min(height, width) * scale >= WINDOW:
            size = (int(height * scale + 1), int(width * scale + 1))
            scores, moves = self.propose(F.interpolate(planes, size, mode="area"))
            found.append(_windows(scores[0], moves[0], scale))
            scale *= SHRINK
        if not found:
            return planes.new_zeros((0, 4))
        boxes, marks, moves = (torch.cat(parts) for parts in zip(*found, strict=True))
        return _kept(boxes, marks, moves, SCORES[0])[0]

    def _judged(self, net: nn.Module, planes: Tensor, boxes: Tensor) -> tuple[Tensor, ...]:
        """Ask a network about the windows of an image, some at a time."""
        side: int = net.side  # type: ignore[assignment]
        parts = [
            net(_cut(planes, some, side))
            for some in (boxes.split(CHUNK) if len(boxes) else [boxes])
        ]
        return tuple(torch.cat(each) for each in zip(*parts, strict=True))


def _windows(scores: Tensor, moves: Tensor, scale: float) -> tuple[Tensor, Tensor, Tensor]:
    """Turn the windows that look like a face into boxes of the image; of each scale the best."""
    rows, columns = (scores >= SCORES[0]).nonzero(as_tuple=True)
    corner = torch.stack([columns, rows], 1).float() * STRIDE + 1
    boxes = torch.cat([corner / scale, (corner - 1 + WINDOW) / scale], 1).floor()
    marks, corrections = scores[rows, columns], moves[:, rows, columns].T
    kept = nms(boxes, marks, OVERLAP[0])
    return boxes[kept], marks[kept], corrections[kept]


def _kept(boxes: Tensor, scores: Tensor, moves: Tensor, least: float) -> tuple[Tensor, Tensor]:
    """Keep sure boxes that are not one face twice; corrected, as squares."""
    sure = scores > least
    boxes, scores, moves = boxes[sure], scores[sure], moves[sure]
    kept = batched_nms(boxes, scores, torch.zeros(len(boxes)), OVERLAP[1])
    return _squares(_moved(boxes[kept], moves[kept])), scores[kept]


def _moved(boxes: Tensor, moves: Tensor) -> Tensor:
    sides = boxes[:, 2:] - boxes[:, :2] + 1
    return boxes + moves * sides.repeat(1, 2)


def _squares(boxes: Tensor) -> Tensor:
    sides = boxes[:, 2:] - boxes[:, :2]
    longest = sides.amax(1, keepdim=True)
    corner = boxes[:, :2] + (sides - longest) / 2
    return torch.cat([corner, corner + longest], 1)


def _cut(planes: Tensor, boxes: Tensor, side: int) -> Tensor:
    """Cut windows out of an image and scale them; outside of it all is gray, the value 0."""
    height, width = planes.shape[2:]
    windows = planes.new_zeros((len(boxes), 3, side, side))
    for window, box in zip(windows, boxes.trunc().long().tolist(), strict=True):
        left, top, right, bottom = box[0] - 1, box[1] - 1, box[2], box[3]
        inside = planes[0, :, max(top, 0) : max(bottom, 0), max(left, 0) : max(right, 0)]
        if inside.numel():
            margins = (max(-left, 0), max(right - width, 0), max(-top, 0), max(bottom - height, 0))
            whole = F.pad(inside, margins)[None]
            window.copy_(F.interpolate(whole, (side, side), mode="area")[0])
    return windows


def _flat(x: Tensor) -> Tensor:
    """Flatten maps column by column, as the weights, which come from Matlab, have it."""
    return x.permute(0, 3, 2, 1).flatten(1)


def _load(net: nn.Module, path: Path) -> None:
    if not path.is_file():
        raise WeightsError(f"{path} does not exist; MTCNN takes {', '.join(FILES)} in one folder")
    tensors = read_weights(path)
    own = net.state_dict()
    odd = sorted(own.keys() ^ tensors.keys())
    odd += [name for name in own.keys() & tensors.keys() if own[name].shape != tensors[name].shape]
    if odd:
        raise WeightsError(
            f"{path} is no weights file of {type(net).__name__}: {len(odd)} tensors differ, such as "
            f"{odd[0]!r}"
        )
    net.load_state_dict(tensors)
    net.eval().requires_grad_(False)
