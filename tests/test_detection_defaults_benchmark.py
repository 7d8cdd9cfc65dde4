"""The benchmark of detection's defaults tabulates what it measured."""

from __future__ import annotations

from typing import Any

import pytest

from tests.benchmark_scripts import load_script


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Any:
    return load_script("detection_defaults", monkeypatch)


def test_the_table_has_a_row_of_each_candidate_and_means_over_seeds(script: Any) -> None:
    found = {
        script.Cell("shapes", seed, script.CHOSEN, 192, 10): {"mAP": score}
        for seed, score in enumerate((0.2, 0.3))
    }
    lines = script.table(found, ["shapes"]).splitlines()
    assert lines[0] == "| settings | shapes |"
    assert lines[2] == "| chosen | 25.0 ± 5.0 |"
    assert len(lines) == 2 + len(script.CANDIDATES)
    assert lines[3].endswith("| - |")
