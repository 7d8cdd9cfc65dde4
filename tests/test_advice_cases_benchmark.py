"""The constructed cases of advice: disjoint images, changes that change, and what counts as right."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.benchmark_scripts import load_script


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch) -> Any:
    return load_script("advice_cases", monkeypatch)


@pytest.mark.parametrize("data", ["digits", "textures"])
def test_sources_targets_and_truth_share_no_image(benchmark: Any, data: str) -> None:
    parts = benchmark.parts(data)
    assert sum(map(len, parts.values())) == len(benchmark.all_images(data))
    kept = [{image.tobytes() for image, _ in pairs} for pairs in parts.values()]
    assert not kept[0] & kept[1] and not kept[1] & kept[2] and not kept[0] & kept[2]


def test_each_case_has_enough_images_of_a_known_source(benchmark: Any) -> None:
    for source, data, images, shift, labels in benchmark.CASES.values():
        divided = benchmark.parts(data)
        own = benchmark.SOURCES[source][0] == data
        pool = divided["target"] if own else [*divided["target"], *divided["source"]]
        assert len(benchmark.changed(pool, "", labels)) >= images
        assert shift in benchmark.SHIFTS


@pytest.mark.parametrize("shift", ["inverted", "noisy", "rotated", "blurred"])
def test_a_shift_changes_images_always_alike(benchmark: Any, shift: str) -> None:
    image, _ = benchmark.all_images("digits")[0]
    change = benchmark.SHIFTS[shift]
    assert change(image).shape == image.shape and change(image).dtype == np.uint8
    assert not np.array_equal(change(image), image)
    assert np.array_equal(change(image), change(image))


def test_advice_is_right_within_two_points_of_the_best_training(
    benchmark: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    truth = dict.fromkeys(benchmark.TRAININGS, 0.9) | {"full": 0.915}
    found = {"verdict": "cannot distinguish", "advised": "lp_ft", "truth": truth}
    case = benchmark.Case("same", *benchmark.CASES["same"])
    assert benchmark.regret(found) == pytest.approx(0.015)
    benchmark.print_table({case: found})
    shown = capsys.readouterr().out
    assert "cannot distinguish -> lp_ft: right" in shown and "1 of 1 right" in shown
    wrong = {**found, "truth": {**truth, "full": 0.95}}
    benchmark.print_table({case: wrong})
    assert "WRONG by 0.050" in capsys.readouterr().out
