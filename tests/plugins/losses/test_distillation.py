"""Distillation: outputs and embeddings of a teacher, on the same view of each image."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from visiongraft.errors import OptionError
from visiongraft.lookup.backbones import load_backbone
from visiongraft.network import Network
from visiongraft.plugins.classification.task import Classification
from visiongraft.plugins.losses.divergence import softened_divergence
from visiongraft.saving.saved_model import save_model


def save_teacher(folder: Path, size: int = 8, names: Sequence[str] = ("ant", "bee", "cat")) -> Any:
    torch.manual_seed(7)
    backbone = load_backbone("simple_cnn", weights=None, size=size)
    network = Network(backbone, Classification(class_names=names)).eval()
    save_model(folder, network, {}, "classification")
    return network


def test_outputs_are_compared_with_the_teachers(bench: Callable[..., Any], tmp_path: Path) -> None:
    teacher = save_teacher(tmp_path)
    at = bench(f"distillation(teacher={str(tmp_path)!r}, outputs=0.5, temperature=4)")
    batch = at.batch()
    with torch.no_grad():
        wanted = teacher.head(teacher.backbone(batch.images))
        ours = at.network.head(at.network.backbone(batch.images))
    parts = at.parts(batch)
    assert parts.keys() == {"outputs"}
    expected = 0.5 * float(softened_divergence(ours, wanted, 4))
    assert float(parts["outputs"].detach()) == pytest.approx(expected, rel=1e-4)
    parts["outputs"].backward()
    assert all(p.grad is not None for p in at.network.head.parameters())


def test_a_teacher_of_another_size_sees_the_resized_images(
    bench: Callable[..., Any], tmp_path: Path
) -> None:
    teacher = save_teacher(tmp_path, size=12)
    at = bench(f"distillation(teacher={str(tmp_path)!r}, outputs=0, features=2.0)")
    train, batch = at.batch(), at.batch((0, 1), seed=2)
    at.prepare(train)

    def taught(images: torch.Tensor) -> torch.Tensor:
        raw = images * 0.5 + 0.5
        larger = F.interpolate(raw, (12, 12), mode="bilinear", antialias=True)
        return teacher.backbone((larger - 0.5) / 0.5).pooled

    with torch.no_grad():
        scale = taught(train.images).square().mean()
        ours = at.loss.regressor(at.network.backbone(batch.images).pooled)
        expected = 2.0 * (ours - taught(batch.images)).square().mean() / (2 * scale)
    parts = at.parts(batch)
    assert parts.keys() == {"features"}
    assert float(parts["features"].detach()) == pytest.approx(float(expected), rel=1e-4)


def test_the_teacher_is_neither_saved_nor_trained(
    bench: Callable[..., Any], tmp_path: Path
) -> None:
    save_teacher(tmp_path)
    at = bench(f"distillation(teacher={str(tmp_path)!r}, features=1.0)")
    assert set(at.loss.state_dict()) == {"scale", "regressor.weight", "regressor.bias"}
    at.network.train()
    assert not any(m.training for module in at.loss.held for m in module.modules())
    assert at.loss.files() == {"teacher": tmp_path / "model.safetensors"}


@pytest.mark.parametrize(
    ("names", "change"),
    [
        (("cat", "bee", "ant"), r"class_names=\['cat', 'bee', 'ant'\] instead of"),
        (("ant", "bee", "dog"), "class_names without 'cat' with 'dog'"),
        ([f"class {i}" for i in range(1000)], "with 'class 0', 'class 1', 'class 2' and 997 more"),
    ],
)
def test_outputs_of_other_classes_are_refused(
    bench: Callable[..., Any], tmp_path: Path, names: Sequence[str], change: str
) -> None:
    save_teacher(tmp_path, names=names)
    at = bench(f"distillation(teacher={str(tmp_path)!r})")
    with pytest.raises(OptionError, match=f"has other classes: .*{change}"):
        at.prepare(at.batch())
    bench(f"distillation(teacher={str(tmp_path)!r}, outputs=0, features=1)").prepare(at.batch())


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        (
            "teacher='nowhere'",
            OptionError,
            "teacher='nowhere' of distillation is not the folder of a",
        ),
        (
            "teacher='.'",
            OptionError,
            "teacher='.' of distillation is not the folder of a saved model",
        ),
        ("teacher=3", OptionError, "teacher=3 of distillation is not the folder of a saved model"),
        ("", OptionError, "'distillation' needs the option 'teacher'"),
    ],
)
def test_a_wrong_teacher_is_one_line(
    bench: Callable[..., Any], options: str, error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        bench(f"distillation({options})")
