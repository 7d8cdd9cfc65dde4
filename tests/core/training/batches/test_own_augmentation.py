"""Training images are augmented by what the user passes, in place of the task's augmentation."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image as PillowImage
from torchvision import tv_tensors
from torchvision.transforms import v2

from tests.core.stopping import StopAt
from visiongraft.errors import CheckpointError, OptionError, PluginError
from visiongraft.preprocess import Preprocess, PreprocessConfig
from visiongraft.training.batches.own_augmentation import OwnAugmentation, describe_function

PREPROCESS = PreprocessConfig(size=(16, 16))
SHORT = {"epochs": 2, "schedule": "full"}
IMAGE = tv_tensors.Image(
    torch.arange(3 * 20 * 24).remainder(256).to(torch.uint8).reshape(3, 20, 24)
)


def brighter(image: Any) -> Any:
    """Draw from all three generators that are seeded."""
    more = int(torch.randint(20, ())) + random.randrange(20) + int(np.random.randint(20))
    return (image.int() + more).clamp(max=255).to(torch.uint8)


@pytest.fixture(scope="module")
def task(Toy: type[Any]) -> Any:
    @dataclass(frozen=True)
    class Whole(Toy):  # type: ignore[misc]
        """Its targets are of whole images."""

        name = "whole-toy"
        whole_image_targets = True

    return Whole()


def augment(function: Any, task: Any, image: Any = IMAGE) -> Any:
    return OwnAugmentation(function, task, PREPROCESS)(image, 1)


def test_an_image_is_resized_as_without_augmentation(task: Any) -> None:
    found, target = augment(v2.RandomHorizontalFlip(p=1), task)
    whole = Preprocess(PREPROCESS).resize(IMAGE.flip(-1).permute(1, 2, 0)[None])[0]
    assert torch.equal(found, whole)
    assert target == 1


def test_an_image_of_the_size_of_the_input_stays_as_it_is(task: Any) -> None:
    found, _ = augment(v2.CenterCrop(16), task)
    assert torch.equal(found, v2.CenterCrop(16)(IMAGE).as_subclass(torch.Tensor))


def test_a_pillow_image_is_accepted(task: Any) -> None:
    def through_pillow(image: Any) -> PillowImage.Image:
        return v2.functional.to_pil_image(image)

    plain, _ = augment(v2.Identity(), task)
    assert torch.equal(augment(through_pillow, task)[0], plain)


@pytest.fixture(scope="module")
def stopped(task: Any, fit_toy: Any, toy_data: Any, tmp_path_factory: Any) -> tuple[Path, Path]:
    """A whole run, and an equal one that is stopped after an epoch."""
    folder = tmp_path_factory.mktemp("runs")
    settings = {"task": task, "augment": brighter, "checkpoint_every": 1, **SHORT}
    fit_toy(toy_data(24), **settings, out=folder / "whole")
    with pytest.raises(KeyboardInterrupt):
        fit_toy(toy_data(24), **settings, out=folder / "part", callbacks=[StopAt(3)])
    return folder / "whole", folder / "part"


def test_a_resumed_run_needs_it_again(stopped: Any, task: Any, fit_toy: Any, toy_data: Any) -> None:
    with pytest.raises(
        CheckpointError, match=r"augments images by an object .*brighter: pass it again"
    ):
        fit_toy(toy_data(24), task=task, out=stopped[1], resume=True, **SHORT)
    with pytest.raises(CheckpointError, match="different settings: augment="):
        fit_toy(
            toy_data(24), task=task, out=stopped[1], resume=True, augment=v2.Identity(), **SHORT
        )


def test_a_resumed_run_ends_as_a_whole_one(
    stopped: Any, task: Any, fit_toy: Any, toy_data: Any
) -> None:
    whole, part = stopped
    fit_toy(toy_data(24), task=task, out=part, resume=True, augment=brighter, **SHORT)
    assert (part / "metrics.jsonl").read_text() == (whole / "metrics.jsonl").read_text()
    model = "model/model.safetensors"
    assert (part / model).read_bytes() == (whole / model).read_bytes()


def test_the_code_of_a_function_is_noted(stopped: Any) -> None:
    assert __name__ in json.loads((stopped[0] / "inputs.json").read_text())["code"]


def test_a_function_of_a_file_resumes_by_its_name(
    task: Any, fit_toy: Any, toy_data: Any, tmp_path: Path
) -> None:
    file = tmp_path / "my_augmentation.py"
    file.write_text("from torchvision.transforms import v2\nflip = v2.RandomHorizontalFlip()\n")
    out = tmp_path / "run"
    fit_toy(toy_data(24), task=task, augment=f"{file}:flip", out=out, **SHORT)
    fit_toy(toy_data(24), task=task, out=out, resume=True, **SHORT)
    assert json.loads((out / "config.json").read_text())["augment"] == f"{file}:flip"
    with pytest.raises(
        OptionError, match="has no function or transform 'flop'; did you mean 'flip'"
    ):
        fit_toy(toy_data(24), task=task, augment=f"{file}:flop")
    with pytest.raises(PluginError, match="does not exist"):
        fit_toy(toy_data(24), task=task, augment="missing.py:flip")


class Stateful:
    """Draws from a generator of its own."""

    def __init__(self) -> None:
        self.generator = np.random.default_rng(0)

    def __call__(self, image: Any) -> Any:
        return image.roll(int(self.generator.integers(16)), -1)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (Stateful(), "other images for the same seeds, so that a run could not be repeated"),
        (v2.ToDtype(torch.float32, scale=True), "torch.float32, not of torch.uint8 .* leave out"),
        (lambda image: image[:1], r"the shape \(1, 20, 24\) for an image \(3, 20, 24\)"),
        (lambda image: image.numpy(), "returned ndarray, not an image as it gets one"),
        (lambda image: 1 / 0, "0: cannot be prepared: ZeroDivisionError"),
        (
            3,
            "augment=3 is neither a callable, nor 'FILE.py:NAME', nor a value of the task's option",
        ),
        (v2.Identity, "is neither a callable"),
    ],
)
def test_what_cannot_augment_is_refused_before_training(
    function: Any, message: str, task: Any, fit_toy: Any, toy_data: Any, tmp_path: Path
) -> None:
    with pytest.raises(OptionError, match=message):
        fit_toy(toy_data(24), task=task, augment=function, out=tmp_path / "run")
    assert not (tmp_path / "run" / "config.json").exists()


def test_a_task_whose_targets_have_positions_must_support_it(fit_toy: Any, toy_data: Any) -> None:
    with pytest.raises(OptionError, match="task 'toy' has no way to move its targets with images"):
        fit_toy(toy_data(24), augment=v2.Identity())


def test_a_value_of_the_option_of_the_task_is_passed_on(
    task: Any, fit_toy: Any, toy_data: Any
) -> None:
    model = fit_toy(toy_data(24), task="toy", augment=None, epochs=1, schedule="full")
    assert model.task.augment is True
    with pytest.raises(OptionError, match="are the same option; pass one of them"):
        fit_toy(toy_data(24), task="toy", augment="strong", task_options={"augment": False})


def test_batches_are_shown_with_it(task: Any, toy_data: Any) -> None:
    import visiongraft

    settings = {"task": task, "backbone": "toys/toy", "weights": None, "count": 2}
    dark = visiongraft.show_batch(toy_data(24), augment=lambda image: image * 0, **settings)
    plain = visiongraft.show_batch(toy_data(24), augment=v2.Identity(), **settings)
    assert np.asarray(dark)[:100].mean() < np.asarray(plain)[:100].mean()


def test_descriptions_hold_no_address_and_are_short() -> None:
    assert describe_function(Stateful()).endswith("Stateful object>")
    long = describe_function(v2.Compose([v2.RandomHorizontalFlip()] * 60))
    assert len(long) < 520
    assert long != describe_function(v2.Compose([v2.RandomHorizontalFlip()] * 61))
