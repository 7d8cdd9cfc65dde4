"""What a pretrained generator gains with few images: MNIST to the digits of binaryalphadigits.

    python benchmarks/generation.py --data FOLDER --weights FOLDER [--results FILE.jsonl] [...]

FOLDER of the data contains binaryalphadigs/ with train/CLASS/ and val/CLASS/; that of the weights
mnist_gan_mlp_generator.ckpt, mnist_gan_mlp_discriminator.ckpt and mnist_lenet.pth. Each cell trains on the
290 training images for the same number of steps and draws 1000 images from the last, averaged generator.
They are compared with the validation images by the features of a LeNet that was trained on MNIST:

    kid         kernel distance of its features (lower is better)
    classes     its classifier score, the exponential of the mean divergence of the class probabilities of an
                image from those of all (1 to 10)
    gray        percentage of values between 0.1 and 0.9, which the new digits have twice as many of as MNIST's

Classifier score and gray values should be those of the training images, which the last row has. Finished
cells are appended to the results and are not trained again. Afterwards it prints the table of all finished
cells: mean and standard error over seeds.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from cells import mean_and_error, train_cells
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

import visiongraft
from visiongraft.plugins.generation.pretrained import load_adversarial
from visiongraft.plugins.generation.task import Generation
from visiongraft.plugins.image_sets.distances import kernel_distance
from visiongraft.saving.weights import read_weights

SIZE = (28, 28)
BATCH = 29  # of 290 images: ten steps an epoch
DRAWN = 1000
OPTIONS: dict[str, Any] = {"augment": (), "features_size": 32}
PENALTY = (
    10.0  # on new critics; MNIST's critic was trained without, and loses what it knows with it
)
ONLY_MAPPING = ["backbone", "head.critic", "head.mapping"]

# Where the generator and the critic start, and the options of the schedule and of fit.
STARTS: dict[str, tuple[bool, bool, str, dict[str, Any]]] = {
    "nothing": (False, False, "full", {}),
    "MNIST before training": (True, True, "", {}),
    "MNIST, generator alone": (True, False, "full", {}),
    "MNIST, generator and critic": (True, True, "full", {}),
    "MNIST, critic's first layer frozen": (True, True, "last_n", {"n": 1}),
    "MNIST, only the mapping of latents": (True, False, "full", {"trainable": ONLY_MAPPING}),
    "MNIST, generator alone, weights consolidated": (True, False, "full", {}),
}


@dataclass(frozen=True)
class Cell:
    """One training run.

    Attributes:
        start: A key of ``STARTS``.
        steps: Steps of training.
        seed: Of the run.
    """

    start: str
    steps: int
    seed: int


class LeNet(nn.Module):
    """LeNet-5 with ReLUs, from gray images in 0..1 to the features before the classes.

    Args:
        path: Its weights file.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tensors = read_weights(path)

    def forward(self, images: Tensor) -> Tensor:
        """Compute features, float (N, 84), of images (N, 1, H, W)."""
        x = F.interpolate(images, (32, 32), mode="bilinear", antialias=True)
        for layer in ("c1", "c3"):
            x = F.max_pool2d(self._convolved(x, layer).relu(), 2)
        x = self._convolved(x, "c5").relu().flatten(1)
        return F.linear(x, self.tensors["fc.f6.weight"], self.tensors["fc.f6.bias"]).relu()

    def probabilities(self, features: Tensor) -> Tensor:
        """Compute the probabilities of the ten digits from features."""
        logits = F.linear(features, self.tensors["fc.f7.weight"], self.tensors["fc.f7.bias"])
        return logits.softmax(1)

    def _convolved(self, x: Tensor, layer: str) -> Tensor:
        name = f"convnet.{layer}"
        return F.conv2d(x, self.tensors[f"{name}.weight"], self.tensors[f"{name}.bias"])


def read_images(folder: Path) -> list[NDArray[np.uint8]]:
    """Read all images below a folder in gray."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return [np.asarray(Image.open(path).convert("L").resize(SIZE))[:, :, None] for path in paths]


def train(cell: Cell, data: Path, weights: Path) -> dict[str, Any]:
    """Train and measure one cell."""
    generator, critic, schedule, options = STARTS[cell.start]
    task_options = {**OPTIONS, "penalty": 0.0 if critic else PENALTY}
    settings: dict[str, Any] = {"backbone": "generation/mlp", "weights": None, "in_channels": 1}
    settings |= {"size": SIZE, "task": Generation("gan", generator="mlp", **task_options)}
    if generator:
        torch.manual_seed(cell.seed)  # of what the files do not contain
        model = load_adversarial(
            weights / "mnist_gan_mlp_generator.ckpt",
            SIZE,
            weights / "mnist_gan_mlp_discriminator.ckpt" if critic else None,
            **task_options,
        )
        settings = {"start": model}
    if "consolidated" in cell.start:
        settings["transfer_loss"] = "generator_ewc"
    if schedule:
        chosen = visiongraft.find_schedule(schedule)(learning_rate=2e-4, **options)
        training, validation = (read_images(data / part) for part in ("train", "val"))
        model = visiongraft.fit(
            (training, validation[:2]),  # measured afterwards, by other features
            schedule=chosen,
            epochs=cell.steps // (len(training) // BATCH),
            batch_size=BATCH,
            seed=cell.seed,
            ema=0.99,
            select="last",
            workers=0,
            device="cpu",
            callbacks=(),
            **settings,
        )
    latents = model.task.inputs.draw(DRAWN, seed=0)
    drawn = [one.image for one in model.predict(latents, batch_size=250)]
    return score(drawn, LeNet(weights / "mnist_lenet.pth"), data / "val")


def score(images: Sequence[NDArray[np.uint8]], lenet: LeNet, folder: Path) -> dict[str, float]:
    """Compare images with those in a folder."""
    (real_features, _, _), (features, classes, gray) = (
        _measured(lenet, np.stack(some)) for some in (read_images(folder), images)
    )
    return {"kid": kernel_distance(real_features, features), "classes": classes, "gray": gray}


def _measured(lenet: LeNet, images: NDArray[np.uint8]) -> tuple[NDArray[np.float64], float, float]:
    """Compute scaled features, the classifier score and the percentage of gray values."""
    values = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
    with torch.no_grad():
        features = lenet(values)
        chances = lenet.probabilities(features).double().clamp(min=1e-12)
    scaled = features.double() / features.double().square().mean(1, keepdim=True).sqrt()
    divergence = (chances * (chances.log() - chances.mean(0).log())).sum(1).mean()
    gray = ((values > 0.1) & (values < 0.9)).double().mean()
    return scaled.numpy(), float(divergence.exp()), 100 * float(gray)


def print_table(found: dict[Cell, dict[str, Any]], reference: dict[str, float]) -> None:
    """Print the mean and the standard error over the seeds of each start."""
    print(
        "| start | steps | KID x 100 | classes | gray % | seeds |\n| --- | --- | --- | --- | --- | --- |"
    )
    for start, steps in dict.fromkeys((cell.start, cell.steps) for cell in found):
        mine = [v for c, v in found.items() if (c.start, c.steps) == (start, steps)]
        columns = [
            mean_and_error([factor * values[name] for values in mine])
            for name, factor in (("kid", 100), ("classes", 1), ("gray", 1))
        ]
        print(f"| {start} | {steps} | {' | '.join(columns)} | {len(mine)} |")
    kid, classes, gray = (reference[name] for name in ("kid", "classes", "gray"))
    print(f"| the training images | | {100 * kid:.1f} | {classes:.1f} | {gray:.1f} | |")


def main(arguments: Sequence[str] | None = None) -> None:
    """Train the cells and print the table."""
    parser = argparse.ArgumentParser(description="MNIST to the digits of binaryalphadigits")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--results", type=Path, default=Path("generation.jsonl"))
    parser.add_argument("--starts", nargs="+", choices=list(STARTS), default=list(STARTS))
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--limit", type=int, default=1000, help="cells to train at most")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    cells = [
        Cell(start, options.steps, seed)
        for seed in range(options.seeds)
        for start in options.starts
    ]
    data = options.data / "binaryalphadigs"
    found = train_cells(
        cells, lambda cell: train(cell, data, options.weights), options.results, options.limit
    )
    lenet = LeNet(options.weights / "mnist_lenet.pth")
    print_table(found, score(read_images(data / "train"), lenet, data / "val"))


if __name__ == "__main__":
    main()
