"""Fine-tune a backbone of visiongraft with Lightning, prove what was frozen, and export the result.

    python examples/lightning_classifier.py FLOWERS --backbone timm/resnet18 --out flowers.onnx

FLOWERS has the folders train/ and val/ with one folder of images per class. Lightning runs the loop; visiongraft
provides the backbone and its preprocessing, the schedule, frozen stages with a receipt, and the exported file, which
is compared with PyTorch on the validation images. It needs ``pip install lightning``.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import lightning
import torch
from torch import Tensor
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder
from torchvision.transforms.v2 import functional as F

import visiongraft as vg
from visiongraft.plugins.classification.task import Classification


class Prepare:
    """Turns an image into the network's input, with the preprocessing that is exported."""

    def __init__(self, network: vg.Network) -> None:
        self.preprocess = network.preprocess_on_cpu()

    def __call__(self, image: Any) -> Tensor:
        pixels = F.pil_to_tensor(image.convert("RGB"))
        return self.preprocess(pixels.permute(1, 2, 0)[None])[0]


class PhaseModule(lightning.LightningModule):
    """Trains a network for one phase of a schedule."""

    def __init__(self, network: vg.Network, phase: vg.Phase, index: int) -> None:
        super().__init__()
        self.network, self.phase, self.index = network, phase, index
        vg.apply_phase(
            network, phase
        )  # freezes stages, and keeps their batch norms in evaluation mode
        self.snapshot = vg.FrozenSnapshot.take(network)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(vg.parameter_groups(self.network, self.phase, weight_decay=0.05))

    def training_step(self, batch: tuple[Tensor, Tensor], _: int) -> Tensor:
        loss = self._loss(*batch)
        self.log("loss", loss, prog_bar=True)
        return loss

    def validation_step(self, batch: tuple[Tensor, Tensor], _: int) -> None:
        images, targets = batch
        outputs = self.network.head(self.network.backbone(images))
        accuracy = (outputs.argmax(1) == targets).float().mean()
        self.log("accuracy", accuracy, prog_bar=True, batch_size=len(images))

    def _loss(self, images: Tensor, targets: Tensor) -> Tensor:
        parts = self.network.loss(self.network.head(self.network.backbone(images)), targets)
        return torch.stack(list(parts.values())).sum()

    def on_train_end(self) -> None:
        optimizer = self.optimizers(use_pl_optimizer=False)
        receipt = self.snapshot.check(self.network, [optimizer], phase=self.phase, index=self.index)
        print(f"phase {self.index + 1}: {len(receipt.frozen)} frozen tensors unchanged")


def train(
    data: Path, backbone: str, weights: str | None, epochs: int, size: int | None
) -> vg.Network:
    """Train the network of a classifier, phase by phase."""
    classes = tuple(ImageFolder(data / "train").classes)
    task = Classification(class_names=classes, multi_label=False)
    network = vg.Network(vg.load_backbone(backbone, weights, size=size), task)
    train_set, val_set = (
        ImageFolder(data / split, transform=Prepare(network)) for split in ("train", "val")
    )
    schedule = vg.find_schedule("lp_ft")
    for index, phase in enumerate(schedule.phases(network.backbone.stages, epochs)):
        trainer = lightning.Trainer(
            max_epochs=phase.epochs,
            accelerator="auto",
            devices=1,
            logger=False,
            enable_checkpointing=False,
            enable_model_summary=False,
        )
        trainer.fit(
            PhaseModule(network, phase, index),
            DataLoader(train_set, batch_size=16, shuffle=True),
            DataLoader(val_set, batch_size=16),
        )
    return network


def main() -> None:
    """Run the example."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--backbone", default="bundled/efficientnet_lite0")
    parser.add_argument("--weights", default="pretrained", help="none for random ones")
    parser.add_argument("--size", type=int)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--out", type=Path, default=Path("model.onnx"))
    given = parser.parse_args()
    lightning.seed_everything(0)
    weights = None if given.weights == "none" else given.weights
    network = train(given.data, given.backbone, weights, given.epochs, given.size)
    model = vg.TransferModel(network)
    certificate = model.export(given.out, data=given.data)
    print(f"{given.out}: relative differences at most {certificate.difference:.1e}")


if __name__ == "__main__":
    main()
