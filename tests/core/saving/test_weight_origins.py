"""Certificates name the source and the license of what each part of a model began with."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

import visiongraft
from visiongraft.backbone import license_warning
from visiongraft.errors import OptionError
from visiongraft.saving.weight_origins import weight_origins
from visiongraft.saving.weights import file_provenance


@pytest.fixture
def network(Toy: Any) -> Any:
    backbone = visiongraft.load_backbone("toys/toy", None)
    return visiongraft.Network(backbone, Toy(classes=2)).eval()


def with_provenance(network: Any, **known: str) -> Any:
    given = {name.replace("__", ": "): value for name, value in known.items()}
    network.backbone.info = replace(network.backbone.info, provenance=given)
    return network


def test_each_part_has_its_tensors_source_and_license(network: Any) -> None:
    network = with_provenance(network, source="library", weights="w", license="mit")
    found = weight_origins(network, {})
    assert found["backbone"].items() >= {"source": "library", "license": "mit"}.items()
    assert found["head"]["source"] == "trained on the dataset alone"
    assert sum(part["tensors"] for part in found.values()) == len(
        {**network.backbone.state_dict(), **{f"head.{n}": 0 for n in network.head.state_dict()}}
    )


@pytest.mark.parametrize("fact", ["start", "assembled"])
def test_a_head_of_the_same_file_or_model_has_its_licenses(network: Any, fact: str) -> None:
    network = with_provenance(network, source="saved model a", before__license="cc-by-nc-4.0")
    found = weight_origins(network, {fact: {}})
    assert found["head"]["before: license"] == "cc-by-nc-4.0"
    assert found["head"]["source"] == found["backbone"]["source"]


def test_a_head_of_texts_has_the_license_of_the_text_encoder(network: Any) -> None:
    network = with_provenance(
        network, source="a", license="mit", text__source="b", text__license="cc-by-4.0"
    )
    found = weight_origins(network, {"zero-shot": {}})
    assert found["head"].items() >= {"source": "b", "license": "cc-by-4.0"}.items()
    assert "text: license" not in found["backbone"]


def test_what_is_not_stated_is_unknown_and_random_weights_are_nobodys(network: Any) -> None:
    found = weight_origins(with_provenance(network, source="network in memory"), {})
    assert found["backbone"]["license"] == "unknown"
    assert (
        "license" not in weight_origins(with_provenance(network, weights="random"), {})["backbone"]
    )


def test_the_license_of_a_file_is_the_users_or_its_own_or_unknown(tmp_path: Path) -> None:
    plain, stated = tmp_path / "plain.safetensors", tmp_path / "stated.safetensors"
    save_file({"a": torch.zeros(1)}, plain)
    save_file({"a": torch.zeros(1)}, stated, {"license": "Apache-2.0"})
    assert file_provenance(plain)["license"] == "unknown"
    assert file_provenance(stated)["license"] == "Apache-2.0"
    assert file_provenance(stated, "MIT")["license"] == "MIT"


def test_an_unknown_license_of_a_file_is_said_once_and_a_stated_one_is_not() -> None:
    unknown = {"source": "file", "weights": "w.pth", "license": "unknown"}
    (line,) = license_warning("b", unknown)
    assert line.startswith("the license of the weights file w.pth is unknown; state it")
    earlier = {f"before: {key}": value for key, value in unknown.items()}
    assert license_warning("b", {"source": "saved model", **earlier}) == (line,)
    assert license_warning("b", {**unknown, "license": "MIT"}) == ()
    assert license_warning("b", {"source": "a library", "license": "unknown"}) == ()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "is for a weights file; published weights state their own license"),
        ({"weights": None}, "is for a weights file"),
        ({"weights_license": " "}, "' ' is not the name of a license, such as 'MIT'"),
        ({"weights_license": "a\nb"}, r"'a\\nb' is not the name of a license"),
    ],
)
def test_a_license_of_other_weights_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        visiongraft.load_backbone("toys/toy", **{"weights_license": "MIT", **settings})


def test_a_run_states_the_license_of_its_weights_file(
    toy_data: Any, fit_toy: Any, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    file = tmp_path / "own.pth"
    torch.save(visiongraft.load_backbone("toys/toy", None).state_dict(), file)
    settings: dict[str, Any] = {"weights": file, "epochs": 1, "schedule": "linear_probe"}
    stated = fit_toy(toy_data(20), weights_license="MIT", out=tmp_path / "run", **settings)
    assert stated.backbone_info.provenance["license"] == "MIT"
    with pytest.raises(OptionError, match="omit weights_license='MIT'"):
        visiongraft.fit(toy_data(20), start=stated, weights_license="MIT", callbacks=())
    again = visiongraft.load_backbone(tmp_path / "run")
    assert again.info.provenance["before: license"] == "MIT"


def test_the_license_of_a_network_in_memory_can_be_stated() -> None:
    network = torch.nn.Conv2d(3, 4, 3, 2)
    backbone = visiongraft.load_backbone(network, size=32, weights_license="MIT")
    assert backbone.info.provenance["license"] == "MIT"
