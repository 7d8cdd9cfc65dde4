"""The network of a run is built from the settings of ``fit``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import visiongraft
from visiongraft.cli import main
from visiongraft.errors import WeightsError


@pytest.fixture
def some(tmp_path: Path) -> Path:
    """A weights file that lacks the last stage of the toy backbone."""
    torch.manual_seed(0)
    state = visiongraft.load_backbone("toys/toy", None).state_dict()
    torch.save({n: t for n, t in state.items() if "stage2" not in n}, tmp_path / "some.pth")
    return tmp_path / "some.pth"


def test_a_part_of_a_weights_file_is_loaded_on_request(
    toy_data: Any, fit_toy: Any, some: Path, tmp_path: Path
) -> None:
    settings: dict[str, Any] = {"weights": some, "epochs": 1}
    settings["schedule"] = "last_n(n=1)"
    with pytest.raises(WeightsError, match=r"missing 5: .*; .*partial=True \(--partial\) loads"):
        fit_toy(toy_data(20), **settings)
    model = fit_toy(toy_data(20), partial=True, out=tmp_path / "run", **settings)
    loaded = torch.load(some, weights_only=True)
    own = model.network.backbone.state_dict()
    assert torch.equal(own["blocks.stem.0.weight"], loaded["blocks.stem.0.weight"])
    assert model.backbone_info.provenance["tensors"] == "10 of 15 loaded"
    assert json.loads((tmp_path / "run" / "config.json").read_text())["partial"] is True


def test_the_command_loads_a_part_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    state = visiongraft.load_backbone("simple_cnn", None, size=32).state_dict()
    torch.save({n: t for n, t in state.items() if "stage2" not in n}, tmp_path / "some.pth")
    arguments = ["fit", str(tmp_path / "none"), "--task", "classification", "--size", "32"]
    arguments += ["--backbone", "simple_cnn", "--weights", str(tmp_path / "some.pth")]
    assert main([*arguments, "--out", str(tmp_path / "run")]) == 2
    assert "--partial" in capsys.readouterr().err
    assert main([*arguments, "--partial", "--out", str(tmp_path / "run")]) == 2
    assert "none" in capsys.readouterr().err  # the weights were loaded, the data are missing
