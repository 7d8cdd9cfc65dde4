"""AdaBN against statistics computed with numpy, and in whole runs."""

from __future__ import annotations

import json
from collections import OrderedDict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import visiongraft
from visiongraft.data.batch import Batch
from visiongraft.errors import OptionError
from visiongraft.plugins.losses.adabn import AdaBN, batch_norms
from visiongraft.saving.tensor_files import read_tensors


def network() -> Any:
    """Two batch norms in the backbone, and one in the head."""
    torch.manual_seed(0)
    backbone = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 5, 2), nn.BatchNorm2d(5)
    )
    head = nn.Sequential(
        OrderedDict(pool=nn.AdaptiveAvgPool2d(1), flat=nn.Flatten(), norm=nn.BatchNorm1d(5))
    )
    return SimpleNamespace(backbone=backbone.eval(), head=head.eval(), held_in_eval=())


def adapt(made: Any, *images: Tensor, frozen: bool = False) -> None:
    batches = [
        Batch(each, None, torch.ones(len(each), 2), torch.arange(len(each))) for each in images
    ]
    with torch.no_grad():
        AdaBN(made.backbone, made.backbone, frozen=frozen).adapt(made, {"unlabelled": batches})


def test_statistics_are_those_of_all_values_whatever_the_batches() -> None:
    made, images = network(), torch.randn(7, 3, 6, 6) * 3 + 2
    adapt(made, images[:5], images[5:])
    norm = made.backbone[1]
    values = made.backbone[0](images).detach().double().numpy()
    assert np.allclose(norm.running_mean, values.mean((0, 2, 3)), atol=1e-5)
    flat = np.moveaxis(values, 1, 0).reshape(4, -1)
    assert np.allclose(norm.running_var, flat.var(1, ddof=1), rtol=1e-5)


def test_evaluation_then_normalizes_the_target_as_a_batch_of_all_its_images() -> None:
    made, images = network(), torch.randn(9, 3, 6, 6) * 2 - 1
    adapt(made, images)
    adapted = made.backbone(images)
    made.backbone.train()
    assert torch.allclose(adapted, made.backbone(images), rtol=0.02, atol=0.02)


def test_weights_and_modes_stay_as_they_were() -> None:
    made, images = network(), torch.randn(4, 3, 6, 6)
    before = {n: p.clone() for n, p in made.backbone.named_parameters()}
    adapt(made, images)
    assert all(torch.equal(p, before[n]) for n, p in made.backbone.named_parameters())
    assert not any(m.training for m in (*made.backbone.modules(), *made.head.modules()))
    assert not any(m._forward_pre_hooks for m in made.backbone.modules())


def test_frozen_batch_norms_are_left_alone_unless_asked_for() -> None:
    for frozen in (False, True):
        made = network()
        made.held_in_eval = (made.backbone[1],)
        adapt(made, torch.randn(6, 3, 6, 6) + 5, frozen=frozen)
        assert bool(made.backbone[1].running_mean.any()) is frozen
        assert made.backbone[4].running_mean.any() and made.head.norm.running_mean.any()


def test_a_single_image_cannot_be_normalized_by_itself() -> None:
    with pytest.raises(OptionError, match="two or more images of the stream"):
        adapt(network(), torch.randn(1, 3, 6, 6))


def items(count: int, shift: int = 0) -> list[Any]:
    generator = np.random.default_rng(0)
    found = []
    for i in range(count):
        image = generator.integers(0, 150, (32, 32, 3), dtype=np.uint8)
        image[..., i % 2] += 50
        found.append((image + np.uint8(shift), i % 2))
    return found


SETTINGS: dict[str, Any] = {
    "task": "classification",
    "backbone": "timm/test_resnet",
    "weights": None,
    "size": 32,
    "batch_size": 8,
    "epochs": 1,
    "device": "cpu",
    "callbacks": (),
}


def test_what_trains_is_the_same_and_the_model_has_the_targets_statistics(tmp_path: Path) -> None:
    target = [image for image, _ in items(10, shift=50)]
    states = {}
    for name, loss in (("plain", None), ("adapted", "adabn(frozen=True)")):
        streams = {"unlabelled": target} if loss else None
        model = visiongraft.fit(
            items(24), transfer_loss=loss, streams=streams, out=tmp_path / name, **SETTINGS
        )
        states[name], _ = read_tensors(tmp_path / name / "checkpoints" / "last.safetensors")
    for name, tensor in states["plain"].items():
        assert torch.equal(tensor, states["adapted"][name]), name
    adapted = model.network
    norm, seen = batch_norms(adapted.backbone)[0], []
    norm.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    model.predict(target)
    values = torch.cat(seen).movedim(1, 0).flatten(1)
    assert norm.running_mean is not None
    assert torch.allclose(norm.running_mean, values.mean(1), atol=1e-4)


@pytest.mark.parametrize(
    ("backbone", "words"),
    [
        ("simple_cnn", "neither backbone 'simple_cnn' nor the head has any"),
        ("timm/test_resnet", "the schedule keeps all batch norms frozen"),
    ],
)
def test_nothing_to_adapt_is_refused_in_one_line_and_leaves_nothing_behind(
    tmp_path: Path, backbone: str, words: str
) -> None:
    settings = {**SETTINGS, "backbone": backbone}
    streams = {"unlabelled": [image for image, _ in items(4)]}
    with pytest.raises(OptionError, match=words) as caught:
        visiongraft.fit(
            items(16), transfer_loss="adabn", streams=streams, out=tmp_path / "run", **settings
        )
    assert "\n" not in str(caught.value) and not list(tmp_path.iterdir())


def test_phases_that_train_batch_norms_are_adapted_whatever_the_first_phase_keeps_frozen(
    tmp_path: Path,
) -> None:
    target = [image for image, _ in items(10, shift=50)]
    settings = {**SETTINGS, "epochs": 2, "schedule": "lp_ft(batch_norm='train')", "select": "last"}
    states, measured = {}, {}
    for name, loss in (("plain", None), ("adapted", "adabn")):
        model = visiongraft.fit(
            items(24),
            transfer_loss=loss,
            streams={"unlabelled": target} if loss else None,
            out=tmp_path / name,
            **settings,
        )
        lines = (tmp_path / name / "metrics.jsonl").read_text().splitlines()
        measured[name] = [json.loads(line)["validation_loss"]["loss"] for line in lines]
        states[name], _ = read_tensors(tmp_path / name / "checkpoints" / "last.safetensors")
    assert all(torch.equal(t, states["adapted"][name]) for name, t in states["plain"].items())
    assert measured["plain"][0] == measured["adapted"][0]  # the head alone trained
    assert measured["plain"][1] != measured["adapted"][1]
    norm, seen = batch_norms(model.network.backbone)[0], []
    norm.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    model.predict(target)
    values = torch.cat(seen).movedim(1, 0).flatten(1)
    assert norm.running_mean is not None
    assert torch.allclose(norm.running_mean, values.mean(1), atol=1e-4)
