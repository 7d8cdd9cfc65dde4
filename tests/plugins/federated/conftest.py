"""Three sites with small images of two colors, and settings that train on them in a second."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from PIL import Image

from visiongraft.plugins.federated.config import FederatedConfig

SITES = {"east": 12, "north": 16, "south": 20}
FIT: dict[str, Any] = {
    "task": "classification",
    "task_options": {"class_names": ["blue", "red"], "augment": "none", "multi_label": False},
    "backbone": "simple_cnn",
    "weights": None,
    "size": 16,
    "schedule": "linear_probe",
    "learning_rate": 0.02,
    "epochs": 1,
    "device": "cpu",
}


@pytest.fixture(scope="session")
def sites(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("sites")
    for number, (site, count) in enumerate(SITES.items()):
        generator = np.random.default_rng(number)
        for i in range(count):
            pixels = generator.integers(0, 160, (16, 16, 3), dtype=np.uint8)
            pixels[..., 2 if i % 2 else 0] += 90
            path = folder / site / ("blue" if i % 2 else "red") / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(path)
    return {site: str(folder / site) for site in SITES}


@pytest.fixture(scope="session")
def settings(sites: dict[str, str]) -> Any:
    def make(fit: dict[str, Any] | None = None, **changes: Any) -> FederatedConfig:
        values = {"fit": {**FIT, **(fit or {})}, "rounds": 2, "sites": sites, **changes}
        return FederatedConfig.of(values)

    return make
