"""What people write by hand with timm, PyTorch and scikit-learn, on the same weights as the others."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from timm.data import create_transform
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder

Floats = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Settings:
    """What all peers are given.

    Attributes:
        data: Folder with ``train/CLASS`` and ``val/CLASS``.
        architecture: Of timm.
        weights: Its weights, as safetensors.
        mean: Mean of the normalization.
        std: Standard deviation of the normalization.
        size: Side of the network's input in pixels.
        epochs: Epochs in which everything trains.
        frozen_epochs: Epochs in which only the head trains, where a peer has such.
        batch_size: Images in a step.
        seed: Of everything random.
        workers: Processes that load images.
        threads: Threads of PyTorch.
        everything: Whether torchvision's detectors train the whole network with batch norm, as visiongraft's do,
            and not only what torchvision's references train.
        clock: ``"wall"``, or ``"cpu"`` for the processor's time, which other work on the machine does not stretch;
            then without workers.
    """

    data: str
    architecture: str
    weights: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    size: int
    epochs: int = 10
    frozen_epochs: int = 1
    batch_size: int = 32
    seed: int = 0
    workers: int = 0
    threads: int = 1
    everything: bool = False
    clock: str = "wall"

    def now(self) -> float:
        """Return the time of the clock, in seconds."""
        return time.process_time() if self.clock == "cpu" else time.perf_counter()


@dataclass(frozen=True)
class Outcome:
    """What a peer achieved.

    Attributes:
        probabilities: Of the validation images, (N, C).
        targets: Their class ids, (N,).
        seconds: Of each training epoch, without validation.
    """

    probabilities: Floats
    targets: NDArray[np.integer[Any]]
    seconds: list[float]


@dataclass(frozen=True)
class DenseOutcome:
    """What a training of detection or segmentation achieved.

    Attributes:
        score: mAP or mean IoU on the validation images after the last epoch.
        seconds: Of each training epoch, without validation.
        steps: Steps of an epoch.
    """

    score: float
    seconds: list[float]
    steps: int


def pretrained(settings: Settings, classes: int) -> nn.Module:
    """Build timm's model with the weights, and a new head of ``classes`` outputs."""
    model: nn.Module = timm.create_model(settings.architecture, num_classes=classes)
    missing = model.load_state_dict(load_file(settings.weights), strict=False).missing_keys
    assert all(name.startswith("classifier") for name in missing), missing
    return model.to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


def loader(settings: Settings, split: str, *, training: bool) -> DataLoader[Any]:
    """Load a split with timm's transforms; training images are cropped no smaller than a third."""
    options = {"scale": (0.35, 1.0), "color_jitter": 0.4} if training else {"crop_pct": 0.875}
    transform = create_transform(
        settings.size,
        is_training=training,
        mean=settings.mean,
        std=settings.std,
        interpolation="bicubic",
        **options,
    )
    return DataLoader(
        ImageFolder(str(Path(settings.data) / split), transform),
        settings.batch_size,
        shuffle=training,
        num_workers=settings.workers,
        generator=torch.Generator().manual_seed(settings.seed),
    )


def timm_style(settings: Settings) -> Outcome:
    """Fine-tune as timm's users do: AdamW, layer decay, label smoothing, warm-up and cosine."""
    from timm.optim import create_optimizer_v2

    torch.manual_seed(settings.seed)
    batches = loader(settings, "train", training=True)
    model = pretrained(settings, len(batches.dataset.classes))  # type: ignore[attr-defined]
    optimizer = create_optimizer_v2(
        model, "adamw", lr=5e-4, weight_decay=0.05, layer_decay=0.75, filter_bias_and_bn=True
    )
    peaks = [group["lr"] * group.get("lr_scale", 1.0) for group in optimizer.param_groups]
    steps = settings.epochs * len(batches)
    warm_up = max(1, steps // 10)

    def set_rates(step: int) -> None:
        progress = (step - warm_up) / max(1, steps - warm_up)
        cosine = 0.5 * (1 + np.cos(np.pi * progress))
        factor = (step + 1) / (warm_up + 1) if step < warm_up else cosine
        for group, peak in zip(optimizer.param_groups, peaks, strict=True):
            group["lr"] = peak * factor

    loss_function = nn.CrossEntropyLoss(label_smoothing=0.1)
    step, seconds = 0, []
    for _ in range(settings.epochs):
        start = settings.now()
        model.train()
        for images, targets in batches:
            set_rates(step)
            loss_function(model(_fast(images)), targets).backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
            step += 1
        seconds.append(settings.now() - start)
    return Outcome(*_predictions(model, settings), seconds)


def bare(settings: Settings) -> Outcome:
    """Fine-tune in the shortest loop that trains everything, with the default optimizer."""
    torch.manual_seed(settings.seed)
    batches = loader(settings, "train", training=True)
    model = pretrained(settings, len(batches.dataset.classes)).train()  # type: ignore[attr-defined]
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    seconds = []
    for _ in range(settings.epochs):
        start = settings.now()
        for images, targets in batches:
            nn.functional.cross_entropy(model(_fast(images)), targets).backward()
            optimizer.step()
            optimizer.zero_grad()
        seconds.append(settings.now() - start)
    return Outcome(*_predictions(model, settings), seconds)


def probe(settings: Settings) -> Outcome:
    """Fit scikit-learn's logistic regression on pooled features, its strength chosen within the training set."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    model = pretrained(settings, 0)
    features, targets = _features(model, loader(settings, "train", training=False))
    classifier = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
    folds = min(3, int(np.bincount(targets).min()))
    if folds > 1:
        strengths = {"logisticregression__C": np.logspace(-4, 1, 6)}
        classifier = GridSearchCV(classifier, strengths, cv=folds, scoring="neg_log_loss")
    classifier.fit(features, targets)
    unseen, expected = _features(model, loader(settings, "val", training=False))
    return Outcome(classifier.predict_proba(unseen), expected, [])


def one_pass(settings: Settings) -> float:
    """Return the seconds of one pass over the training images, forward only."""
    model = pretrained(settings, 0)
    start = settings.now()
    _features(model, loader(settings, "train", training=False))
    return settings.now() - start


def _fast(images: Tensor) -> Tensor:
    return images.contiguous(memory_format=torch.channels_last)


@torch.no_grad()
def _features(model: nn.Module, batches: DataLoader[Any]) -> tuple[Floats, NDArray[np.int64]]:
    model.eval()
    pairs = [(model(_fast(images)), targets) for images, targets in batches]
    return tuple(torch.cat(values).numpy() for values in zip(*pairs, strict=True))  # type: ignore[return-value]


def _predictions(model: nn.Module, settings: Settings) -> Iterator[NDArray[Any]]:
    outputs, targets = _features(model, loader(settings, "val", training=False))
    yield torch.from_numpy(outputs).softmax(1).numpy()
    yield targets
