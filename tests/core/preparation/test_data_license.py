"""The license of training images goes with a model through fine-tuning, soups, distillation and export."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import visiongraft
from visiongraft.backbone import licenses
from visiongraft.cli import main
from visiongraft.data.license import stated_license

FIT: dict[str, Any] = {
    "task": "classification",
    "backbone": "simple_cnn",
    "weights": None,
    "size": 16,
    "schedule": "linear_probe",
    "task_options": {"augment": "none"},
    "epochs": 1,
    "device": "cpu",
    "callbacks": (),
}
NON_COMMERCIAL = "the license of training images, cc-by-nc-4.0, forbids commercial use"


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write images with a card, as datasets of the Hugging Face Hub have it."""
    folder = tmp_path_factory.mktemp("licensed") / "data"
    generator = np.random.default_rng(0)
    for i in range(16):
        path = folder / "ab"[i % 2] / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(generator.integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(path)
    (folder / "README.md").write_text("---\nlicense: cc-by-nc-4.0\n---\n# Noise\n")
    return folder


@pytest.fixture(scope="module")
def run(images: Path) -> Path:
    visiongraft.fit(images, out=images.parent / "run", **FIT)
    return images.parent / "run"


def test_the_card_of_a_dataset_states_its_license(run: Path) -> None:
    model = visiongraft.load(run)
    assert licenses(model.backbone_info.provenance)["training images"] == "cc-by-nc-4.0"
    card = (run / "model" / "README.md").read_text()
    assert "| training images | cc-by-nc-4.0 |" in card and NON_COMMERCIAL in card


def test_a_run_that_continues_keeps_the_license_of_earlier_images(
    images: Path, run: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings = {k: v for k, v in FIT.items() if k not in ("backbone", "weights")}
    with caplog.at_level(logging.WARNING, "visiongraft"):
        model = visiongraft.fit(images, backbone=run, data_license="CC0-1.0", **settings)
    found = licenses(model.backbone_info.provenance)
    assert found["training images"] == "CC0-1.0"
    assert found["before: training images"] == "cc-by-nc-4.0"
    assert NON_COMMERCIAL in caplog.text


def test_soups_and_students_have_the_licenses_of_all(images: Path, run: Path) -> None:
    student = {
        **FIT,
        "data_license": "GPL-3.0",
        "transfer_loss": f"distillation(teacher={str(run)!r})",
    }
    model = visiongraft.fit(images, **student)
    found = licenses(model.backbone_info.provenance)
    assert found["training images"] == "GPL-3.0"
    assert found["distillation teacher: training images"] == "cc-by-nc-4.0"
    soup = visiongraft.soup([visiongraft.load(run), model])
    merged = licenses(soup.backbone_info.provenance)
    assert {"cc-by-nc-4.0", "GPL-3.0"} <= set(merged.values())


def test_exported_files_state_it_with_what_it_forbids(run: Path, capsys: Any) -> None:
    out = run.parent / "model.onnx"
    assert main(["export", str(run), str(out), "--json"]) == 0
    capsys.readouterr()
    (certificate,) = run.parent.glob("model*.json")
    values = json.loads(certificate.read_text())
    assert values["backbone"]["data license"] == "cc-by-nc-4.0"
    assert any(line.startswith(NON_COMMERCIAL) for line in values["warnings"])


@pytest.mark.parametrize(
    ("card", "expected"),
    [
        ("---\nlicense: [mit, cc-by-4.0]\n---\n", "mit, cc-by-4.0"),
        ("# no metadata", None),
        ("---\nlicense: {a: 1}\n---\n", None),
        ("---\nlicense: [\n---\n", None),
    ],
)
def test_cards_that_state_none_or_several(tmp_path: Path, card: str, expected: str | None) -> None:
    (tmp_path / "README.md").write_text(card)
    assert stated_license(tmp_path) == expected
