"""Training for groups beyond classification: the same gradients as from the groups by themselves."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.optim.optimizer import register_optimizer_step_pre_hook

import visiongraft
from visiongraft.data.findings import content_digest
from visiongraft.hookspecs import hookimpl
from visiongraft.plugins.detection.task import Detection
from visiongraft.plugins.face_embedding.task import FaceEmbedding
from visiongraft.plugins.segmentation.task import Segmentation

FIT: dict[str, Any] = {
    "backbone": "simple_cnn",
    "weights": None,
    "size": 32,
    "schedule": "full",
    "task_options": {"augment": "none"},
    "batch_size": 64,
    "epochs": 1,
    "clip_norm": None,
    "workers": 0,
    "device": "cpu",
}
IMAGES = 20
TASKS = {"detection": Detection, "segmentation": Segmentation, "face_embedding": FaceEmbedding}
IN_SMALL = 4  # every fourth image is in the small group


def group(name: str) -> str:
    """Return the group of an image by its content, which has the same digest in every copy."""
    return "small" if int(digest(name), 16) % IN_SMALL == 0 else "large"


def digest(name: str) -> str:
    return content_digest(Path(name).read_bytes())


@pytest.fixture(scope="module")
def datasets(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    root = tmp_path_factory.mktemp("tasks")
    return {
        name: task().examples().make_dataset(root / name, IMAGES, 0) for name, task in TASKS.items()
    }


class Watch:
    """Keeps the gradients of the first step, and what the run says in the end."""

    def __init__(self) -> None:
        self.gradients: dict[str, torch.Tensor] = {}

    @hookimpl
    def phase_started(self, run: Any) -> None:
        self.network = run.network
        self.names = [run.training.name(i) for i in range(len(run.training))]

    def keep(self, *_: Any) -> None:
        for name, parameter in self.network.named_parameters():
            if parameter.grad is not None:
                self.gradients.setdefault(name, parameter.grad.clone())


def first_step(task: str, data: Any, **settings: Any) -> tuple[Watch, Any]:
    watch = Watch()
    handle = register_optimizer_step_pre_hook(watch.keep)
    try:
        model = visiongraft.fit(data, **{**FIT, **settings}, task=task, callbacks=(watch,))
    finally:
        handle.remove()
    return watch, model


@pytest.mark.parametrize("task", ["detection", "segmentation"])
def test_the_mean_losses_of_groups_count_alike_in_dense_tasks(datasets: Any, task: str) -> None:
    """Also where a loss is a sum over boxes or pixels, of which images have different numbers."""
    plain, _ = first_step(task, datasets[task])
    known = {name: group(name) for name in plain.names}
    assert 2 <= list(known.values()).count("small") < len(known) / 2
    alone = []
    for kept in ("small", "large"):
        others = [digest(name) for name, own in known.items() if own != kept]
        alone.append(first_step(task, datasets[task], leave_out=others)[0].gradients)
    whole, model = first_step(task, datasets[task], groups=group, group_training="reweight")
    for name, gradient in whole.gradients.items():
        expected = (alone[0][name] + alone[1][name]) / 2
        torch.testing.assert_close(gradient, expected, rtol=1e-3, atol=1e-5)
    largest = max((g - plain.gradients[n]).abs().max() for n, g in whole.gradients.items())
    assert largest > 1e-3  # the groups do count otherwise than images do
    headline = model.task.headline
    assert set(model.facts["groups"]) == {"large", "small"}
    assert f"worst_group_{headline}" in model.facts["metrics"] or all(
        "note" in facts for facts in model.facts["groups"].values()
    )


def test_faces_train_for_the_group_whose_loss_is_higher(datasets: Any, tmp_path: Path) -> None:
    """Their steps draw people, so that no step has all images; groups alone would have another head."""
    _, model = first_step(
        "face_embedding", datasets["face_embedding"], schedule="full(batch_norm='frozen')",
        groups=group, group_training="group_dro(step_size=1)", epochs=3, out=tmp_path / "run",
    )  # fmt: skip
    lines = (tmp_path / "run/metrics.jsonl").read_text().splitlines()
    records = [json.loads(line)["groups"] for line in lines]
    for record in records:
        assert sum(record["weights"].values()) == pytest.approx(1)
    higher = max(records[0]["losses"], key=records[0]["losses"].__getitem__)
    assert records[0]["weights"][higher] > 0.5
    assert all(facts["training images"] > 0 for facts in model.facts["groups"].values())
