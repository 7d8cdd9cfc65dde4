"""The comparison with other toolkits: dense peers, and ratios of trainings in processes of their own."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tests.benchmark_scripts import load_script
from visiongraft.plugins.detection.task import Detection
from visiongraft.plugins.segmentation.task import Segmentation


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    peers = load_script("peers", monkeypatch)
    given = peers.parse(["dense", "--size", "64", "--clock", "cpu"])
    return replace(peers.common_settings(given, tmp_path), epochs=1, batch_size=4)


def script(name: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    return load_script(name, monkeypatch)


def test_accuracies_of_the_chosen_toolkits_are_compared_by_number_of_images(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    peers = script("peers", monkeypatch)
    right = {("visiongraft", 0): 0.8, ("visiongraft", 1): 0.9, ("probe", 0): 0.7, ("probe", 1): 0.6}
    found = {
        peers.Cell("ants", 60, 96, seed, method): {"accuracy": value, "calibration_error": 0.1}
        for (method, seed), value in right.items()
    }
    # A seed that only one toolkit has finished counts for none.
    found[peers.Cell("ants", 60, 96, 2, "probe")] = {"accuracy": 1.0, "calibration_error": 0.9}
    lines = peers.accuracy_table(found, ["ants", "bees"], ["visiongraft", "probe"]).splitlines()
    assert lines[0] == "| images | dataset | visiongraft | probe | lead |"
    assert lines[2:] == [
        "| 60 | ants | 85.0 | 65.0 | +20.0 ± 10.0 |",
        "| 60 | mean | 85.0 | 65.0 | +20.0 |",
        "| 60 | ECE | 10.0 | 10.0 |  |",
    ]
    (*_, line, _, _) = peers.accuracy_table(found, ["ants"], ["probe"]).splitlines()
    assert line == "| 60 | ants | 76.7 |"


def test_torchvisions_detectors_begin_with_the_weights_of_the_others(
    settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    loops = script("dense_loops", monkeypatch)
    body = loops.Pyramid(settings).train().body
    weights = loops.load_file(settings.weights)
    own = body.state_dict()
    assert own.keys() <= weights.keys()
    assert all(torch.equal(tensor, weights[name]) for name, tensor in own.items())
    assert not any(m.training for m in body.modules() if isinstance(m, torch.nn.BatchNorm2d))
    assert {n.split(".")[0] for n, p in body.named_parameters() if not p.requires_grad} == {
        "conv_stem",
        "bn1",
        "blocks",
    }


def test_torchvisions_loop_trains_and_is_measured(
    settings: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loops = script("dense_loops", monkeypatch)
    data = Detection().examples().make_dataset(tmp_path, 10, 0)
    outcome = loops.fcos(replace(settings, data=str(data)))
    assert 0 <= outcome.score <= 1
    assert (outcome.steps, len(outcome.seconds)) == (2, 1)


def test_smps_loop_trains_and_a_right_mask_has_an_iou_of_one(
    settings: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loops = script("dense_loops", monkeypatch)
    data = Segmentation().examples().make_dataset(tmp_path, 10, 0)
    common = replace(settings, data=str(data))
    assert 0 <= loops.smp_fpn(common).score <= 1
    splits = Segmentation().read(data)
    task = Segmentation().bind(splits.train)
    masks = iter([np.asarray(splits.validation.target(i)) for i in range(len(splits.validation))])

    class Right(torch.nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            mask = torch.as_tensor(next(masks)).long().clamp(max=len(task.class_names) - 1)
            return (
                torch.nn.functional.one_hot(mask, len(task.class_names)).movedim(-1, 0)[None] * 9.0
            )

    assert loops._mean_iou(Right(), task, splits.validation, common) == pytest.approx(1)


def test_ratios_are_medians_over_rounds(monkeypatch: pytest.MonkeyPatch, settings: Any) -> None:
    speed = script("peer_speed", monkeypatch)
    values = iter([1.0, 5.0, 2.0])
    monkeypatch.setitem(speed.PARTS, "made", lambda peers: iter([("what", next(values))]))
    _, line = speed.measure(speed.Peers(settings, ""), ["made"], 3).splitlines()
    assert line.split() == ["what", "2.00", "1.00", "5.00"]


def test_a_process_reports_times_scores_and_memory(
    settings: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    process = script("peer_process", monkeypatch)
    random = np.random.default_rng(0)
    for split, name in ((s, n) for s in ("train", "val") for n in ("dark", "light")):
        folder = tmp_path / "data" / split / name
        folder.mkdir(parents=True)
        for i in range(4):
            pixels = random.integers(0, 100, (40, 40, 3)) + (100 if name == "light" else 0)
            Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{i}.png")
    words = json.dumps({**vars(settings), "data": str(tmp_path / "data"), "size": 32})
    process.main(["visiongraft", words, json.dumps({"epochs": 2, "schedule": "linear_probe"})])
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert len(result["seconds"]) == 2
    assert result["memory"] >= 0
    assert result["scores"]["accuracy"] >= 0.5


@pytest.mark.parametrize(
    ("reached", "ratio"), [([0.7, 0.9], 6 / 20), ([0.7] * 6, float("inf"))], ids=["late", "never"]
)
def test_the_time_to_the_others_accuracy_is_that_of_the_shortest_run_that_reaches_it(
    reached: list[float],
    ratio: float,
    settings: Any,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    speed = script("peer_speed", monkeypatch)
    # Right for nine of ten images, in 20 seconds.
    right = np.eye(2)[[0] * 10]
    outcome = speed.Outcome(right, np.array([0] * 9 + [1]), [12.0, 8.0])
    monkeypatch.setattr(speed, "run_fastai", lambda *_: outcome)
    runs = iter(reached)
    monkeypatch.setattr(
        speed,
        "run",
        lambda *_, epochs: {"seconds": [3.0] * epochs, "scores": {"accuracy": next(runs)}},
    )
    ((_, found),) = speed.to_accuracy(speed.Peers(settings, ""))
    assert found == pytest.approx(ratio)
    assert "fastai: accuracy 0.900 in 20.0 s" in capsys.readouterr().err
