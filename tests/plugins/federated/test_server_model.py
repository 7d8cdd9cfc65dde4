"""The server makes a model of its own, without any image; it and those of the sites state the licenses of all images."""

from __future__ import annotations

import json
import logging
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import visiongraft
from visiongraft.backbone import licenses
from visiongraft.cli import main
from visiongraft.exporters.pt2.runtime import Pt2Predictor
from visiongraft.exporters.runtime import Predictor
from visiongraft.plugins.federated.config import FederatedError
from visiongraft.plugins.federated.server_model import server_model
from visiongraft.plugins.federated.simulation import LocalSites, simulate

FORBIDS = "the license of training images, CC-BY-NC-4.0, forbids commercial use"
STATED = {"east": "cc0-1.0", "north": "unknown", "south": "CC-BY-NC-4.0"}


@pytest.fixture(scope="module")
def licensed(
    settings: Any, sites: Any, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, Any], list[str]]:
    """Train where one site has a card with a license, one states it in the settings, one states none."""
    folder = tmp_path_factory.mktemp("licensed")
    shutil.copytree(sites["east"], folder / "east")
    (folder / "east" / "README.md").write_text("---\nlicense: cc0-1.0\n---\n")
    named = {**sites, "east": str(folder / "east")}
    config = settings(rounds=1, sites=named, licenses={"south": STATED["south"]})
    said: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: said.append(record.getMessage())  # type: ignore[method-assign]
    log = logging.getLogger("visiongraft")
    log.addHandler(handler)
    try:
        return folder / "out", simulate(config, folder / "out"), said
    finally:
        log.removeHandler(handler)


def test_the_server_has_the_model_that_its_sites_have(licensed: Any, sites: Any) -> None:
    out, result, _ = licensed
    assert result["model"] == "model"
    own, other = (visiongraft.load(out / each) for each in ("model", "sites/north/model"))
    tensors, others = own.network.state_dict(), other.network.state_dict()
    assert tensors.keys() == others.keys()
    assert all(torch.equal(tensor, others[name]) for name, tensor in tensors.items())
    assert own.facts["data"] == {"sites": 3, "training images": sum(s for s in images(result))}
    assert own.facts["metrics"] == result["mean"]
    assert own.evaluate(sites["south"]) == other.evaluate(sites["south"])
    assert main(["predict", str(out), str(Path(sites["south"]) / "red")]) == 0  # the folder of all
    assert own.proof_samples(None) is None  # the server has no image


def images(result: dict[str, Any]) -> list[int]:
    return list(result["rounds"][0]["sites"].values())


def test_licenses_of_all_sites_are_known_and_what_they_forbid_is_said_before_the_first_round(
    licensed: Any,
) -> None:
    _, result, said = licensed
    assert result["licenses"] == STATED
    assert [line for line in said if line.startswith("site 'south'") and FORBIDS in line]


@pytest.mark.parametrize(
    "model", ["model", pytest.param("sites/north/model", marks=pytest.mark.exhaustive)]
)
def test_cards_and_exported_files_state_the_licenses_of_all_sites(
    licensed: Any, model: str, tmp_path: Path
) -> None:
    out, _, _ = licensed
    card = (out / model / "README.md").read_text()
    for site, text in STATED.items():
        assert f"| site {site}: training images | {text} |" in card
    assert FORBIDS in card
    loaded = visiongraft.load(out / model)
    for name, predictor in (("m.onnx", Predictor), ("m.pt2", Pt2Predictor)):
        certificate = loaded.export(tmp_path / name)
        written = predictor(tmp_path / name).metadata
        for facts in (certificate.backbone, written["backbone"]["provenance"]):
            stated = licenses(facts)
            assert {site: stated[f"site {site}: training images"] for site in STATED} == STATED
        head = certificate.weights["head"]  # which was trained on nothing else
        assert {site: head[f"site {site}: data license"] for site in STATED} == STATED
        assert any(FORBIDS in line for line in certificate.warnings)
        (file,) = tmp_path.glob(f"{name}*.json")
        assert any(FORBIDS in line for line in json.loads(file.read_text())["warnings"])


def test_conflicts_are_said_where_training_continues_with_it(
    licensed: Any, sites: Any, caplog: pytest.LogCaptureFixture
) -> None:
    out, _, _ = licensed
    again = visiongraft.fit(sites["east"], start=out / "model", epochs=1, callbacks=())
    assert any(FORBIDS in line for line in caplog.messages)
    provenance = again.backbone_info.provenance
    assert provenance["before: site south: data license"] == "CC-BY-NC-4.0"


def test_without_any_license_the_card_leaves_the_question_open(
    settings: Any, tmp_path: Path
) -> None:
    result = simulate(settings(rounds=1), tmp_path / "out")
    assert set(result["licenses"].values()) == {"unknown"}
    for model in ("model", "sites/east/model"):
        assert "state it: data_license" in (tmp_path / "out" / model / "README.md").read_text()


@pytest.mark.parametrize(
    "fit",
    [
        {"adapters": ["lora(rank=2)"], "schedule": "full"},
        {"schedule": "full(batch_norm='train')", "backbone": "timm/test_resnet", "size": 32},
    ],
)
def test_it_has_adapters_and_statistics_that_travelled(
    settings: Any, tmp_path: Path, fit: dict[str, Any]
) -> None:
    simulate(settings(fit, rounds=1), tmp_path)
    own, other = (visiongraft.load(tmp_path / m) for m in ("model", "sites/east/model"))
    others = other.network.state_dict()
    for name, tensor in own.network.state_dict().items():
        if not name.endswith("num_batches_tracked"):
            assert torch.equal(tensor, others[name]), name


def test_it_has_none_if_tensors_stay_at_the_sites(settings: Any, tmp_path: Path) -> None:
    fit = {"schedule": "full(batch_norm='train')", "backbone": "timm/test_resnet", "size": 32}
    result = simulate(settings(fit, rounds=1, personal="norms"), tmp_path)
    assert result["model"] is None and not (tmp_path / "model").exists()
    assert "personal=['norms'] stays at the sites" in result["without_model"]


def test_other_frozen_weights_than_those_of_the_sites_are_refused(
    settings: Any, tmp_path: Path
) -> None:
    """As of a server whose weights file is another one."""
    config = settings()
    local = LocalSites(config, tmp_path)
    declared = local.hello()[0]["east"].declared
    local.close()
    values = {name: np.zeros(shape, np.float32) for name, shape in declared.shapes.items()}
    assert server_model(config, declared, values, {}, {}).task.name == "classification"
    with pytest.raises(FederatedError, match="are others here than at the sites"):
        server_model(config, replace(declared, frozen="0" * 64), values, {}, {})
    other = replace(config, fit={**config.fit, "seed": 9})  # other random weights
    with pytest.raises(FederatedError, match="are others here than at the sites"):
        server_model(other, declared, values, {}, {})
