"""One .pt2 file for all tests here, of the model that the ONNX tests export too."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from visiongraft.certificate import Certificate
from visiongraft.exporters.pt2.exporter import Pt2Exporter
from visiongraft.model import TransferModel


@dataclass(frozen=True)
class Exported:
    """An exported file and the model that it was made from."""

    model: TransferModel
    photos: Any
    path: Path
    certificate: Certificate


@pytest.fixture(scope="session")
def program_file(exported: Any, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """Export one model for all tests; they must not change it."""
    path = tmp_path_factory.mktemp("pt2") / "shades.pt2"
    certificate = Pt2Exporter().export(exported.model, path, exported.photos)
    return Exported(exported.model, exported.photos, path, certificate)
