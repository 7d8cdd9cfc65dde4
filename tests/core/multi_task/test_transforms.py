"""One augmentation for the targets of several heads."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest
import torch
from torchvision import tv_tensors

from visiongraft.errors import DataError, OptionError
from visiongraft.multi_task.transforms import combined_transform
from visiongraft.preprocess import PreprocessConfig

CONFIG = PreprocessConfig(size=(8, 8), resize="stretch")


def shift(image: Any, target: float) -> Any:
    """Move image and target by the same random number of pixels."""
    by = int(torch.randint(8, ()))
    return image.roll(by, -1), target + by


def invert(image: Any, target: Any) -> Any:
    return 255 - image, target


@pytest.fixture
def kinds(Color: Any, Spot: Any) -> dict[str, Any]:
    class Shifted(Spot):  # type: ignore[misc]
        name: ClassVar[str] = "shifted"

        def train_transform(self, preprocess: Any) -> Any:
            return shift

    class Inverted(Spot):  # type: ignore[misc]
        name: ClassVar[str] = "inverted"

        def train_transform(self, preprocess: Any) -> Any:
            return invert

    class Colored(Color):  # type: ignore[misc]
        name: ClassVar[str] = "colored"

        def train_transform(self, preprocess: Any) -> Any:
            return invert

    return {"shifted": Shifted(), "inverted": Inverted(), "colored": Colored(), "color": Color()}


def image() -> Any:
    return tv_tensors.Image(torch.arange(64, dtype=torch.uint8).reshape(1, 8, 8).expand(3, 8, 8))


def test_targets_with_positions_move_with_the_image(kinds: Any, Spot: Any) -> None:
    heads = {"kind": kinds["colored"], "one": kinds["shifted"], "two": kinds["shifted"]}
    transform = combined_transform(heads, CONFIG)
    assert transform is not None
    changed, targets = transform(image(), {"kind": 1, "one": 0, "two": 10})
    assert targets["kind"] == 1
    assert torch.equal(changed, image().roll(targets["one"], -1))
    assert targets["two"] == targets["one"] + 10


def test_an_image_without_such_a_target_is_augmented_by_another_head(kinds: Any) -> None:
    transform = combined_transform({"one": kinds["shifted"], "kind": kinds["colored"]}, CONFIG)
    assert transform is not None
    assert torch.equal(transform(image(), {"kind": 1})[0], 255 - image())


def test_an_image_that_no_head_augments_is_only_resized(kinds: Any) -> None:
    transform = combined_transform({"one": kinds["shifted"], "kind": kinds["color"]}, CONFIG)
    assert transform is not None
    assert torch.equal(transform(image(), {"kind": 1})[0], image().float())


def test_augmentations_that_move_an_image_differently_are_refused(kinds: Any) -> None:
    transform = combined_transform({"a": kinds["shifted"], "b": kinds["inverted"]}, CONFIG)
    assert transform is not None
    with pytest.raises(DataError, match="'a' and 'b' both have targets with positions"):
        transform(image(), {"a": 0, "b": 0})


def test_a_head_with_positions_that_does_not_augment_forbids_it(kinds: Any, Spot: Any) -> None:
    assert combined_transform({"kind": kinds["colored"], "place": Spot()}, CONFIG) is None
    with pytest.raises(OptionError, match="'a' augments images, and head 'place'"):
        combined_transform({"a": kinds["shifted"], "place": Spot()}, CONFIG)
