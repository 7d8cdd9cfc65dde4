"""Reference loops of torchvision's detectors and of smp, on the same weights and images as visiongraft's trainings.

``references/detection/train.py`` of torchvision: SGD with momentum, warm-up in the first epoch, steps down at two
thirds and eleven twelfths, horizontal flips, batch norm frozen. smp's example of segmentation with several classes:
Adam, Dice loss, cosine decay, flips and crops. Both read images and targets as visiongraft does, and are measured
by its metrics.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import segmentation_models_pytorch as smp
import timm
import torch
from peer_loops import DenseOutcome, Settings
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision import tv_tensors
from torchvision.models.detection import FCOS, RetinaNet
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.retinanet import RetinaNetHead
from torchvision.ops import FeaturePyramidNetwork
from torchvision.ops.feature_pyramid_network import LastLevelP6P7
from torchvision.transforms import v2

from visiongraft.data.samples import Samples
from visiongraft.plugins.detection.task import Detection
from visiongraft.plugins.segmentation.formats.masks import IGNORED_VALUE
from visiongraft.plugins.segmentation.task import Segmentation

STRIDES = (8, 16, 32, 64, 128)
WIDTH = 128  # of the pyramid, as in visiongraft's default
RATE_PER_IMAGE = 0.02 / 16  # of a step, as in torchvision's references
FROZEN = ("conv_stem", "bn1", "blocks.0.", "blocks.1.")  # torchvision trains the last three stages


class Pyramid(nn.Module):
    """timm's network with torchvision's feature pyramid, as torchvision's detectors take it.

    Args:
        settings: Architecture and weights.
    """

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        self.body = timm.create_model(
            settings.architecture, features_only=True, out_indices=(2, 3, 4)
        )
        self.body.load_state_dict(load_file(settings.weights), strict=False)
        channels = self.body.feature_info.channels()
        self.pyramid = FeaturePyramidNetwork(
            channels, WIDTH, extra_blocks=LastLevelP6P7(WIDTH, WIDTH)
        )
        self.out_channels = WIDTH
        self.everything = settings.everything
        for name, parameter in self.body.named_parameters():
            parameter.requires_grad_(self.everything or not name.startswith(FROZEN))

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Return the maps from fine to coarse."""
        maps: dict[str, Tensor] = self.pyramid(
            OrderedDict((str(i), x) for i, x in enumerate(self.body(images)))
        )
        return maps

    def train(self, mode: bool = True) -> Pyramid:
        """Keep batch norms as they were trained, unless everything trains."""
        super().train(mode)
        for module in self.body.modules():
            if isinstance(module, nn.BatchNorm2d) and not self.everything:
                module.eval()
        return self


def fcos(settings: Settings) -> DenseOutcome:
    """Train torchvision's FCOS."""
    anchors = AnchorGenerator(tuple((stride,) for stride in STRIDES), ((1.0,),) * len(STRIDES))
    return _detector(settings, partial(FCOS, anchor_generator=anchors))


def retinanet(settings: Settings) -> DenseOutcome:
    """Train torchvision's RetinaNet, with the head of its version 2: one without norms learns too slowly."""
    sizes = tuple(tuple(int(4 * s * 2 ** (i / 3)) for i in range(3)) for s in STRIDES)
    anchors = AnchorGenerator(sizes, ((0.5, 1.0, 2.0),) * len(sizes))

    def build(backbone: nn.Module, classes: int, **options: Any) -> RetinaNet:
        norm = partial(nn.GroupNorm, 32)
        head = RetinaNetHead(WIDTH, anchors.num_anchors_per_location()[0], classes, norm)
        head.regression_head._loss_type = "giou"
        return RetinaNet(backbone, classes, anchor_generator=anchors, head=head, **options)

    return _detector(settings, build)


class Boxes(Dataset[Any]):
    """Images with boxes, flipped at random in training.

    Args:
        samples: From visiongraft's reader.
        training: Whether images are flipped.
    """

    def __init__(self, samples: Samples, training: bool) -> None:
        self.samples = samples
        flip = [v2.RandomHorizontalFlip(0.5)] if training else []
        self.transform = v2.Compose([v2.ToImage(), *flip, v2.ToDtype(torch.float32, scale=True)])

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> tuple[Tensor, dict[str, Tensor]]:
        image = Image.open(self.samples.name(index)).convert("RGB")
        found = self.samples.target(index).tensors()
        size = (image.height, image.width)
        boxes = tv_tensors.BoundingBoxes(found["boxes"], format="XYXY", canvas_size=size)  # type: ignore[call-overload]
        pixels, target = self.transform(image, {"boxes": boxes, "labels": found["labels"]})
        return pixels, {"boxes": target["boxes"].as_subclass(Tensor), "labels": target["labels"]}


def _detector(settings: Settings, build: Callable[..., nn.Module]) -> DenseOutcome:
    torch.manual_seed(settings.seed)
    task = Detection()
    splits = task.read(settings.data, validation=0.2, seed=settings.seed)
    task = task.bind(splits.train)
    model = build(
        Pyramid(settings),
        len(task.class_names),
        image_mean=list(settings.mean),
        image_std=list(settings.std),
        fixed_size=(settings.size, settings.size),
        score_thresh=0.001,  # a short training ends below the usual 0.05
    )
    batches = _loader(settings, Boxes(splits.train, training=True), training=True)
    trained = [p for p in model.parameters() if p.requires_grad]
    rate = RATE_PER_IMAGE * settings.batch_size
    optimizer = torch.optim.SGD(trained, rate, momentum=0.9, weight_decay=1e-4)
    last = [round(settings.epochs * part) for part in (2 / 3, 11 / 12)]
    decay = torch.optim.lr_scheduler.MultiStepLR(optimizer, last, gamma=0.1)
    seconds = []
    for epoch in range(settings.epochs):
        start = settings.now()
        model.train()
        warm_up = None
        if epoch == 0:
            steps = max(1, min(1000, len(batches) - 1))
            warm_up = torch.optim.lr_scheduler.LinearLR(optimizer, 1 / 1000, total_iters=steps)
        for images, targets in batches:
            losses = model(list(images), [dict(target) for target in targets])
            optimizer.zero_grad()
            sum(losses.values()).backward()
            optimizer.step()
            if warm_up is not None:
                warm_up.step()
        decay.step()
        seconds.append(settings.now() - start)
    return DenseOutcome(_mean_precision(model, task, splits.validation), seconds, len(batches))


def _loader(settings: Settings, data: Dataset[Any], *, training: bool) -> DataLoader[Any]:
    return DataLoader(
        data,
        settings.batch_size,
        shuffle=training,
        num_workers=settings.workers,
        collate_fn=_as_lists,
        generator=torch.Generator().manual_seed(settings.seed),
    )


def _as_lists(batch: list[Any]) -> tuple[Any, ...]:
    return tuple(zip(*batch, strict=True))


@torch.no_grad()
def _mean_precision(model: nn.Module, task: Detection, samples: Samples) -> float:
    """Measure mAP by visiongraft's metrics."""
    model.eval()
    metrics, images = task.build_metrics(), Boxes(samples, training=False)
    for index in range(len(images)):
        (found,) = model([images[index][0]])
        order = found["scores"].argsort(descending=True)
        arrays = {name: found[name][order].numpy()[None] for name in ("boxes", "scores", "labels")}
        arrays["count"] = np.array([len(order)])
        metrics.update(arrays, task.collate([samples.target(index)]))
    return float(metrics.compute()[task.headline])


# ---- segmentation ----


class Masks(Dataset[Any]):
    """Images with masks of one size, augmented in training.

    Args:
        samples: From visiongraft's reader.
        settings: Size and normalization.
        training: Whether to augment.
    """

    def __init__(self, samples: Samples, settings: Settings, training: bool) -> None:
        size = (settings.size, settings.size)
        shape: list[nn.Module] = [v2.Resize(size, antialias=True)]
        if training:
            shape = [v2.RandomResizedCrop(size, (0.5, 1.0)), v2.RandomHorizontalFlip(0.5)]
        self.samples = samples
        self.transform = v2.Compose(
            [*shape, v2.ToDtype({tv_tensors.Image: torch.float32, "others": None}, scale=True)]
        )
        self.normalize = v2.Normalize(list(settings.mean), list(settings.std))

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        image = tv_tensors.Image(
            np.array(Image.open(self.samples.name(index)).convert("RGB")).transpose(2, 0, 1)
        )
        mask = tv_tensors.Mask(np.asarray(self.samples.target(index)))
        pixels, mask = self.transform(image, mask)
        return self.normalize(pixels.as_subclass(Tensor)), mask.as_subclass(Tensor).long()


def smp_fpn(settings: Settings) -> DenseOutcome:
    """Train smp's FPN."""
    torch.manual_seed(settings.seed)
    task = Segmentation()
    splits = task.read(settings.data, validation=0.2, seed=settings.seed)
    task = task.bind(splits.train)
    model = smp.FPN(
        f"tu-{settings.architecture}", encoder_weights=None, classes=len(task.class_names)
    )
    model.encoder.model.load_state_dict(load_file(settings.weights), strict=False)
    model = model.to(memory_format=torch.channels_last)  # as visiongraft's network is
    batches = DataLoader(
        Masks(splits.train, settings, training=True),
        settings.batch_size,
        shuffle=True,
        num_workers=settings.workers,
        generator=torch.Generator().manual_seed(settings.seed),
    )
    loss_function = smp.losses.DiceLoss("multiclass", from_logits=True, ignore_index=IGNORED_VALUE)
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-4)
    decay = torch.optim.lr_scheduler.CosineAnnealingLR(
        optimizer, settings.epochs * len(batches), eta_min=1e-5
    )
    seconds = []
    for _ in range(settings.epochs):
        start = settings.now()
        model.train()
        for images, masks in batches:
            optimizer.zero_grad()
            loss_function(
                model(images.contiguous(memory_format=torch.channels_last)), masks
            ).backward()
            optimizer.step()
            decay.step()
        seconds.append(settings.now() - start)
    score = _mean_iou(model, task, splits.validation, settings)
    return DenseOutcome(score, seconds, len(batches))


@torch.no_grad()
def _mean_iou(model: nn.Module, task: Segmentation, samples: Samples, settings: Settings) -> float:
    """Measure the mean IoU at the images' own sizes, as visiongraft does."""
    model.eval()
    metrics, images = task.build_metrics(), Masks(samples, settings, training=False)
    for index in range(len(images)):
        logits = model(images[index][0][None])
        target = samples.target(index)
        sizes = torch.tensor([np.asarray(target).shape[-2:]])
        whole = nn.functional.interpolate(logits, tuple(sizes[0].tolist()), mode="bilinear")
        decoded = task.decode({"logits": whole}, sizes)
        arrays = {name: value.numpy() for name, value in decoded.items()}
        metrics.update(arrays, task.collate([target]))
    return float(metrics.compute()[task.headline])
