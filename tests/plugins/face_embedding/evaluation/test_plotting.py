from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from visiongraft.errors import OptionError
from visiongraft.plugins.face_embedding.evaluation.plotting import plot_results

RESULTS = {
    "equal_error_rate": 0.1,
    "roc": {"far": [0.0, 0.01, 0.2, 1.0], "tar": [0.0, 0.6, 0.95, 1.0]},
    "rank1": 0.8,
    "cmc": [0.8, 0.9, 1.0],
}


def test_curves_are_drawn(tmp_path: Path) -> None:
    plot_results({"before": RESULTS}, tmp_path / "one.png")
    better = {**RESULTS, "roc": {"far": [0.0, 1.0], "tar": [1.0, 1.0]}}
    plot_results({"before": RESULTS, "after": better}, tmp_path / "two.png")
    one, two = (np.asarray(Image.open(tmp_path / f"{n}.png").convert("L")) for n in ("one", "two"))
    assert one.shape == two.shape == (400, 900)
    assert (one != two).sum() > 300


def test_without_probes_only_the_roc_is_drawn(tmp_path: Path) -> None:
    plot_results({"pairs": {**RESULTS, "cmc": [], "rank1": None}}, tmp_path / "roc.png")
    assert (tmp_path / "roc.png").is_file()


@pytest.mark.parametrize("results", [{}, {"none": {"roc": {"far": [], "tar": []}}}, {"other": {}}])
def test_results_without_a_curve_are_refused(
    results: dict[str, dict[str, object]], tmp_path: Path
) -> None:
    with pytest.raises(OptionError, match="no ROC curve to plot"):
        plot_results(results, tmp_path / "roc.png")
