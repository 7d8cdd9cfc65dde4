from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import visiongraft
from visiongraft.task import Task


@pytest.mark.parametrize(
    ("wish", "setting", "result"),
    [
        (None, None, "crop"),  # the backbone's own
        ("stretch", None, "stretch"),
        ("stretch", "crop", "crop"),
        (None, "stretch", "stretch"),
    ],
)
def test_the_user_decides_how_images_are_resized_then_the_task_then_the_backbone(
    fit_toy: Any,
    toy_data: Any,
    Toy: type[Task],
    wish: Any,
    setting: str | None,
    result: str,
    tmp_path: Path,
) -> None:
    @dataclass(frozen=True)
    class Wishing(Toy):  # type: ignore[valid-type, misc]
        resize = wish

    model = fit_toy(toy_data(24), task=Wishing(augment=False), epochs=1, resize=setting)
    assert model.network.preprocess.config.resize == result
    model.save(tmp_path / "saved")
    loaded = visiongraft.load(tmp_path / "saved", task=Wishing)
    assert loaded.network.preprocess.config.resize == result
