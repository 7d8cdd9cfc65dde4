"""Fine-tune a backbone of visiongraft with the Trainer of transformers, and export the result with a proof.

    python examples/transformers_trainer.py FLOWERS --backbone timm/resnet18 --out flowers.onnx

FLOWERS has the folders train/ and val/ with one folder of images per class. The Trainer runs the loop; visiongraft
provides the backbone and its preprocessing, the frozen stages with a receipt, and the exported file, which is compared
with PyTorch on the validation images. It needs ``pip install "visiongraft[transformers]"``.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.datasets import ImageFolder
from torchvision.transforms.v2 import functional as F
from transformers import Trainer, TrainingArguments

import visiongraft as vg
from visiongraft.plugins.classification.task import Classification


class ForTrainer(nn.Module):
    """A network that returns what the Trainer expects of a model."""

    def __init__(self, network: vg.Network) -> None:
        super().__init__()
        self.network = network

    def forward(self, pixel_values: Tensor, labels: Tensor | None = None) -> dict[str, Tensor]:
        logits = self.network.head(self.network.backbone(pixel_values))
        if labels is None:
            return {"logits": logits}
        parts = self.network.loss(logits, labels)
        return {"loss": torch.stack(list(parts.values())).sum(), "logits": logits}


class Collate:
    """Makes batches of images and labels, with the preprocessing that is exported."""

    def __init__(self, network: vg.Network) -> None:
        self.preprocess = network.preprocess_on_cpu()

    def __call__(self, samples: Sequence[tuple[Any, int]]) -> dict[str, Tensor]:
        pixels = [F.pil_to_tensor(image.convert("RGB")).permute(1, 2, 0) for image, _ in samples]
        return {
            "pixel_values": torch.cat([self.preprocess(one[None]) for one in pixels]),
            "labels": torch.tensor([label for _, label in samples]),
        }


def accuracy(prediction: Any) -> dict[str, float]:
    """Return the fraction of images whose most probable class is right."""
    right = prediction.predictions.argmax(-1) == prediction.label_ids
    return {"accuracy": float(right.mean())}


def train(
    data: Path, backbone: str, weights: str | None, epochs: int, size: int | None
) -> vg.Network:
    """Train the network of a classifier, phase by phase."""
    train_set, val_set = (ImageFolder(data / split) for split in ("train", "val"))
    task = Classification(class_names=tuple(train_set.classes), multi_label=False)
    network = vg.Network(vg.load_backbone(backbone, weights, size=size), task)
    schedule = vg.find_schedule("lp_ft")
    for index, phase in enumerate(schedule.phases(network.backbone.stages, epochs)):
        vg.apply_phase(
            network, phase
        )  # freezes stages, and keeps their batch norms in evaluation mode
        snapshot = vg.FrozenSnapshot.take(network)
        optimizer = torch.optim.AdamW(vg.parameter_groups(network, phase, weight_decay=0.05))
        with tempfile.TemporaryDirectory() as scratch:
            trainer = Trainer(
                model=ForTrainer(network),
                args=TrainingArguments(
                    output_dir=scratch,
                    num_train_epochs=phase.epochs,
                    per_device_train_batch_size=16,
                    eval_strategy="epoch",
                    save_strategy="no",
                    report_to="none",
                    remove_unused_columns=False,
                ),
                data_collator=Collate(network),
                train_dataset=train_set,
                eval_dataset=val_set,
                compute_metrics=accuracy,
                optimizers=(optimizer, torch.optim.lr_scheduler.ConstantLR(optimizer, factor=1.0)),
            )
            trainer.train()
        receipt = snapshot.check(network, [optimizer], phase=phase, index=index)
        print(f"phase {index + 1}: {len(receipt.frozen)} frozen tensors unchanged")
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
    torch.manual_seed(0)
    weights = None if given.weights == "none" else given.weights
    network = train(given.data, given.backbone, weights, given.epochs, given.size)
    certificate = vg.TransferModel(network).export(given.out, data=given.data)
    print(f"{given.out}: relative differences at most {certificate.difference:.1e}")


if __name__ == "__main__":
    main()
