"""Every built-in loss in whole runs: killed and resumed, with receipts, exported."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import visiongraft
from visiongraft.cli import main
from visiongraft.errors import OptionError
from visiongraft.hookspecs import hookimpl
from visiongraft.plugins.classification.task import Classification
from visiongraft.plugins.segmentation.task import Segmentation
from visiongraft.training.resuming.checkpoint import Checkpoint

TASKS = {"classification": Classification(), "segmentation": Segmentation()}
EXHAUSTIVE = pytest.mark.exhaustive
ANY = ("l2_sp", "delta", "bss(k=2)", "lwf", "distillation(teacher={source!r}, features=0.5)")
CLASSES = ("co_tuning", "co_tuning(relation='calibrated')", "bi_tuning(queue=2, projection=8)")
DOMAINS = ("dann(hidden=8)", "cdan(hidden=8)", "mcc", "coral")  # with a stream of target images
CASES = [("classification", ["delta", "co_tuning", "bss", *DOMAINS], ())]
CASES += [("classification", loss, EXHAUSTIVE) for loss in (*ANY, *CLASSES, *DOMAINS)]  # type: ignore[misc]
CASES += [("segmentation", loss, EXHAUSTIVE) for loss in (*ANY, *DOMAINS)]  # type: ignore[misc]


class Stop:
    """Kills a run at a step."""

    def __init__(self, step: int) -> None:
        self.left = step

    @hookimpl
    def step_ended(self) -> None:
        self.left -= 1
        if not self.left:
            raise KeyboardInterrupt


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """Return a dataset of each task, and a model trained on it; made on first use."""
    made: dict[str, dict[str, Any]] = {}

    class Made(dict[str, dict[str, Any]]):
        def __missing__(self, task: str) -> dict[str, Any]:
            folder = tmp_path_factory.mktemp(task)
            examples = TASKS[task].examples()
            assert examples is not None
            data = examples.make_dataset(folder / "data", 24, 0)
            out = folder / "source"
            settings = {"task": task, "size": 32, "batch_size": 8, "device": "cpu"}
            visiongraft.fit(
                data,
                backbone="simple_cnn",
                weights=None,
                epochs=1,
                out=out,
                callbacks=(),
                **settings,
            )
            self[task] = {"data": data, "backbone": str(out), **settings}
            return self[task]

    return Made(made)


def with_loss(settings: dict[str, Any], loss: Any) -> dict[str, Any]:
    """Return settings with a loss, its teacher, and the stream of target images that it may need."""
    if isinstance(loss, str):
        loss = loss.replace("{source!r}", repr(settings["backbone"]))
    names = [loss] if isinstance(loss, str) else loss
    streams = {"unlabelled": settings["data"]} if set(names) & set(DOMAINS) else None
    return {**settings, "transfer_loss": loss, "streams": streams}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("task", "loss"), [pytest.param(t, x, marks=m, id=f"{t}-{x}") for t, x, m in CASES]
)
def test_a_run_resumes_exactly_and_keeps_its_receipts(
    sources: dict[str, dict[str, Any]], tmp_path: Path, task: str, loss: Any
) -> None:
    settings = {**sources[task], "epochs": 2, "checkpoint_every": 1, "ema": 0.9}
    settings = with_loss(settings, loss)
    visiongraft.fit(out=tmp_path / "whole", callbacks=(), **settings)
    with pytest.raises(KeyboardInterrupt):
        visiongraft.fit(
            out=tmp_path / "part", callbacks=[Stop(4)], **settings
        )  # in the second phase
    visiongraft.fit(out=tmp_path / "part", callbacks=(), resume=True)
    one, other = (
        Checkpoint.read(tmp_path / run / "checkpoints" / "last.safetensors")
        for run in ("whole", "part")
    )
    for group, tensors in one.tensors.items():
        for name, tensor in tensors.items():
            assert torch.equal(tensor, other.tensors[group][name]), f"{group} {name}"
    receipts = json.loads((tmp_path / "part" / "receipts.json").read_text())
    assert receipts == json.loads((tmp_path / "whole" / "receipts.json").read_text())
    assert all(name.startswith("backbone.") for name in receipts[0]["frozen"])


@EXHAUSTIVE
@pytest.mark.parametrize("task", TASKS)
def test_a_model_trained_with_losses_is_exported_with_a_certificate(
    sources: dict[str, dict[str, Any]], tmp_path: Path, task: str
) -> None:
    settings = with_loss(sources[task], ["delta", "bss", "lwf", *DOMAINS])
    model = visiongraft.fit(callbacks=(), epochs=1, **settings)
    assert not any("transfer" in name for name in model.network.state_dict())
    certificate = model.export(tmp_path / "model.onnx")
    assert any(comparison.predictions for comparison in certificate.comparisons)


@pytest.mark.parametrize("loss", CLASSES[::2])
def test_a_loss_that_needs_class_ids_is_refused_without_them(
    sources: dict[str, dict[str, Any]], tmp_path: Path, loss: str
) -> None:
    with pytest.raises(OptionError, match=r"choose another loss") as caught:
        visiongraft.fit(
            out=tmp_path / "run",
            epochs=1,
            transfer_loss=loss,
            callbacks=(),
            **sources["segmentation"],
        )
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


@EXHAUSTIVE
def test_the_command_line_takes_several_losses(
    sources: dict[str, dict[str, Any]], tmp_path: Path
) -> None:
    source = sources["classification"]
    words = ["fit", str(source["data"]), "--out", str(tmp_path / "run"), "--epochs", "1"]
    words += ["--task", "classification", "--backbone", source["backbone"], "--size", "32"]
    words += ["--transfer-loss", "lwf(strength=0.2)", "--transfer-loss", "bi_tuning(queue=2)"]
    assert main(words) == 0
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert [loss["name"] for loss in config["transfer_loss"]] == ["lwf", "bi_tuning"]


@EXHAUSTIVE
def test_another_teacher_is_refused_on_resume(
    sources: dict[str, dict[str, Any]], tmp_path: Path
) -> None:
    source = sources["classification"]
    teacher = tmp_path / "teacher"
    visiongraft.load(source["backbone"]).save(teacher)
    loss = f"distillation(teacher={str(teacher)!r})"
    settings = {**source, "epochs": 1, "checkpoint_every": 1, "transfer_loss": loss}
    with pytest.raises(KeyboardInterrupt):
        visiongraft.fit(out=tmp_path / "run", callbacks=[Stop(1)], **settings)
    model = visiongraft.load(teacher)
    with torch.no_grad():
        next(model.network.head.parameters()).add_(1)
    model.save(teacher)
    words = "the file of distillation.teacher has other content"
    with pytest.raises(visiongraft.errors.CheckpointError, match=words):
        visiongraft.fit(out=tmp_path / "run", callbacks=(), resume=True)
