"""Maps have the size of each image, in validation during training, evaluation and prediction."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.transforms import v2
from torchvision.tv_tensors import Mask

import visiongraft
from visiongraft.backbone import Backbone, Features
from visiongraft.data.images import DatasetSamples
from visiongraft.data.samples import Samples
from visiongraft.errors import DataError, OptionError
from visiongraft.network import Network
from visiongraft.preprocess import PreprocessConfig
from visiongraft.task import Arrays, Decoded, Task, TaskExamples
from visiongraft.testing import TASK_CHECKS, CheckError, TaskTrial

SIZES = ((20, 24), (33, 17), (20, 24), (40, 60))


class MapHead(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.score = nn.Conv2d(channels, 2, 1)

    def forward(self, features: Features) -> dict[str, Tensor]:
        return {"logits": self.score(features.maps[0]), "other": features.pooled}


class MapLoss(nn.Module):
    def forward(self, outputs: dict[str, Tensor], targets: list[Tensor]) -> dict[str, Tensor]:
        size = outputs["logits"].shape[-2:]
        small = [F.interpolate(t[None, None].float(), size=size)[0, 0].long() for t in targets]
        return {"entropy": F.cross_entropy(outputs["logits"], torch.stack(small))}


class PixelMetrics:
    def __init__(self) -> None:
        self.right: list[float] = []

    def update(self, decoded: Arrays, targets: list[Tensor]) -> None:
        for labels, target in zip(decoded["labels"], targets, strict=True):
            assert labels.shape == target.shape
            self.right.append(float((labels == target.numpy()).mean()))

    def compute(self) -> dict[str, float]:
        return {"right": float(np.mean(self.right)), "images": float(len(self.right))}


class Crop:
    def __init__(self, size: tuple[int, int]) -> None:
        self.crop = v2.RandomCrop(size, pad_if_needed=True)

    def __call__(self, image: Any, target: Any) -> tuple[Any, Any]:
        image, mask = self.crop(image, Mask(torch.as_tensor(target)))
        return image, mask.numpy()


@dataclass(frozen=True)
class Halves(Task):
    """Which pixels are red."""

    name = "halves"
    headline = "right"
    resize = "stretch"
    full_resolution_outputs = ("logits",)

    augment: bool = False

    def read(self, data: Any, *, validation: float = 0.2, seed: int = 0) -> Any:
        samples = DatasetSamples.of(data)
        count = len(samples)
        cut = range(count // 2)
        return visiongraft.Splits(samples.subset(cut), samples.subset(range(count // 2, count)))

    def read_evaluation(self, data: Any) -> Samples:
        return DatasetSamples.of(data)

    def train_transform(self, preprocess: PreprocessConfig) -> Crop | None:
        return Crop(preprocess.size) if self.augment else None

    def collate(self, targets: list[Any]) -> list[Tensor]:
        return [torch.as_tensor(target) for target in targets]

    def build_head(self, backbone: Backbone) -> MapHead:
        return MapHead(backbone.info.channels[0])

    def build_loss(self) -> MapLoss:
        return MapLoss()

    def decode(self, outputs: dict[str, Tensor], sizes: Tensor) -> Decoded:
        assert [list(outputs["logits"].shape[-2:])] * len(sizes) == sizes.tolist()
        return {"labels": outputs["logits"].argmax(1), "logits": outputs["logits"]}

    def build_metrics(self) -> PixelMetrics:
        return PixelMetrics()

    def predictions(self, decoded: Arrays) -> list[Any]:
        return list(decoded["labels"])


def halves(count: int) -> list[tuple[Any, Any]]:
    """Gray images whose left part, of another width each time, is red."""
    items = []
    for i in range(count):
        height, width = SIZES[i % len(SIZES)]
        image = np.full((height, width, 3), 90, np.uint8)
        edge = width // 4 + i % (width // 2)
        image[:, :edge, 0] = 250
        items.append((image, np.asarray(image[..., 0] > 128, np.int64)))
    return items


@pytest.fixture(scope="module")
def trained(fit_toy: Any) -> Any:
    return fit_toy(halves(48), task=Halves(), epochs=12, schedule="full(learning_rate=0.02)")


def test_a_task_of_maps_learns_on_images_of_many_sizes(trained: Any) -> None:
    results = trained.evaluate(halves(12), batch_size=5)
    assert results["right"] > 0.9
    assert results["images"] == 12


def test_predictions_come_in_the_order_of_the_images_at_their_own_sizes(trained: Any) -> None:
    images = [image for image, _ in halves(7)]
    together = trained.predict(images, batch_size=7)
    assert [mask.shape for mask in together] == [image.shape[:2] for image in images]
    for image, mask in zip(images, together, strict=True):
        assert (trained.predict(image)[0] == mask).all()


def test_the_graph_returns_what_prediction_returns(trained: Any) -> None:
    image = halves(4)[3][0]
    with torch.inference_mode():
        labels = trained.inference_graph()(torch.from_numpy(image[None]))["labels"]
    assert (labels[0].numpy() == trained.predict(image)[0]).all()


def test_validation_is_the_same_with_and_without_replay(fit_toy: Any) -> None:
    settings = {"schedule": "linear_probe(learning_rate=0.05)", "epochs": 3}
    played, plain = (
        fit_toy(halves(48), task=Halves(), replay=replay, **settings).facts["metrics"]
        for replay in (True, False)
    )
    assert played["right"] == pytest.approx(plain["right"], abs=1e-4)
    assert played["images"] == plain["images"] == 24


def test_padded_images_keep_their_size_and_learn_from_crops(fit_toy: Any) -> None:
    model = fit_toy(
        halves(48),
        task=Halves(augment=True),
        epochs=12,
        schedule="full(learning_rate=0.02)",
        resize="pad",
        backbone="toys/toy32",
    )
    assert model.network.preprocess.config.resize == "pad"
    assert model.evaluate(halves(12))["right"] > 0.9


def test_augmentation_receives_the_preprocessing_of_the_network(fit_toy: Any) -> None:
    callbacks: list[str] = []

    class Told(Halves):
        def train_transform(self, preprocess: PreprocessConfig) -> Crop:
            callbacks.append(preprocess.resize)
            return Crop(preprocess.size)

    for resize in ("pad", "stretch"):
        settings = {"schedule": "full", "resize": resize, "backbone": "toys/toy32"}
        fit_toy(halves(24), task=Told(), epochs=1, **settings)
    assert set(callbacks[: len(callbacks) // 2]) == {"pad"} and set(
        callbacks[len(callbacks) // 2 :]
    ) == {"stretch"}


def test_padded_images_of_several_sizes_need_augmentation(fit_toy: Any) -> None:
    with pytest.raises(DataError, match=r"have several sizes.*resize='stretch'"):
        fit_toy(halves(48), task=Halves(), resize="pad", backbone="toys/toy32")


def test_cropped_images_are_refused(fit_toy: Any) -> None:
    with pytest.raises(OptionError, match="task 'halves' needs whole images"):
        fit_toy(halves(24), task=Halves(), resize="crop")


def test_the_kit_lets_maps_of_no_images_have_any_size() -> None:
    (check,) = [c for c in TASK_CHECKS if c.name == "no_image_gives_no_result"]

    class Example(Halves):
        def examples(self) -> TaskExamples:
            return TaskExamples(lambda folder, count, seed: halves(count))

        def predictions(self, decoded: Arrays) -> list[Any]:
            return list(decoded["labels"])

    class Wrong(Example):
        def decode(self, outputs: dict[str, Tensor], sizes: Tensor) -> Decoded:
            values = outputs["logits"].argmax(1)
            return {"labels": values if len(values) else values.float()}

    check(TaskTrial(Example()))
    with pytest.raises(CheckError, match="float32"):
        check(TaskTrial(Wrong()))


def test_no_image_gives_no_result(trained: Any) -> None:
    network: Network = trained.network
    with torch.no_grad():
        decoded = network.decode(torch.zeros(0, 3, 16, 16), torch.zeros(0, 2, dtype=torch.int64))
    assert decoded["labels"].shape[0] == 0
