"""The benchmark of generation on toy data and random weights: its cells and its table."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from tests.benchmark_scripts import load_script

LENET = {
    "convnet.c1": nn.Conv2d(1, 6, 5),
    "convnet.c3": nn.Conv2d(6, 16, 5),
    "convnet.c5": nn.Conv2d(16, 120, 5),
    "fc.f6": nn.Linear(120, 84),
    "fc.f7": nn.Linear(84, 10),
}


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch) -> Any:
    return load_script("generation", monkeypatch)


def save(layers: dict[str, nn.Module], path: Path) -> None:
    state = {f"{name}.{n}": t for name, m in layers.items() for n, t in m.state_dict().items()}
    torch.save(state, path)


@pytest.mark.exhaustive
def test_generators_are_trained_and_compared(
    benchmark: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    random = np.random.default_rng(0)
    for split, count in (("train", 29), ("val", 4)):
        folder = tmp_path / "binaryalphadigs" / split / "0"
        folder.mkdir(parents=True)
        for i in range(count):
            pixels = random.integers(0, 256, (20, 16), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / f"{i}.png")
    save(LENET, tmp_path / "mnist_lenet.pth")
    widths = {"generator": (64, 256, 256, 784), "discriminator": (784, 256, 256, 1)}
    for name, (a, b, c, d) in widths.items():
        layers = {"0": nn.Linear(a, b), "2": nn.Linear(b, c), "4": nn.Linear(c, d)}
        save(dict(layers), tmp_path / f"mnist_gan_mlp_{name}.ckpt")
    words = ["--data", str(tmp_path), "--weights", str(tmp_path), "--steps", "1", "--seeds", "1"]
    words += ["--results", str(tmp_path / "results.jsonl"), "--starts", "nothing"]
    benchmark.main([*words, "MNIST, critic's first layer frozen"])
    table = capsys.readouterr().out
    assert "| nothing | 1 |" in table and "| the training images |" in table


def test_images_alike_have_no_distance(benchmark: Any, tmp_path: Path) -> None:
    save(LENET, tmp_path / "lenet.pth")
    random = np.random.default_rng(0)
    images = list(random.integers(0, 256, (6, 28, 28, 1), dtype=np.uint8))
    for i, image in enumerate(images):
        Image.fromarray(image[:, :, 0]).save(tmp_path / f"{i}.png")
    lenet = benchmark.LeNet(tmp_path / "lenet.pth")
    (tmp_path / "lenet.pth").unlink()
    same = benchmark.score(images, lenet, tmp_path)
    dark = benchmark.score([image // 255 for image in images], lenet, tmp_path)
    assert same["kid"] < dark["kid"]
    assert same["classes"] == pytest.approx(1, abs=0.1) and dark["gray"] < same["gray"]
