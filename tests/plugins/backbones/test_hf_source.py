"""Backbones by transformers, from folders that the library itself wrote."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from tests.plugins.backbones import tiny_hf
from visiongraft import fit, load
from visiongraft.backbone import Backbone
from visiongraft.errors import BackboneError, WeightsError
from visiongraft.lookup.backbones import load_backbone
from visiongraft.plugins.backbones.hf_preprocess import preprocess_of
from visiongraft.preprocess import Preprocess
from visiongraft.testing import check_backbone

Check = Callable[[Backbone], None]
FAMILIES = list(tiny_hf.FAMILIES)
NO_POOLING = ("deit", "swin", "vit")  # published weights may lack the layer, which is left out


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("hf")
    return {f: tiny_hf.write(root / f, tiny_hf.model_of(f)) for f in FAMILIES}


@pytest.fixture(params=FAMILIES)
def family(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_maps_strides_and_channels_are_as_declared(
    family: str, folders: dict[str, Path], check_features: Check
) -> None:
    for size in (tiny_hf.SIZE, 64):
        check_features(load_backbone(folders[family], size=size))


def test_the_embedding_is_the_librarys_own_on_the_same_pixels(
    family: str, folders: dict[str, Path]
) -> None:
    backbone = load_backbone(folders[family]).eval()
    options = {"add_pooling_layer": False} if family in NO_POOLING else {}
    model = type(tiny_hf.model_of(family)).from_pretrained(folders[family], **options).eval()
    images = torch.randn(2, 3, tiny_hf.SIZE, tiny_hf.SIZE)
    with torch.no_grad():
        found = model(images)
        features = backbone(images)
    tokens = found.last_hidden_state
    expected = getattr(found, "pooler_output", None)
    if expected is None:
        expected = tokens.mean(1) if family == "swin" else tokens[:, 0]
    torch.testing.assert_close(features.pooled, expected)
    if tokens.ndim == 3 and family in ("vit", "dinov2", "siglip"):
        torch.testing.assert_close(features.maps[0].flatten(2).transpose(1, 2), tokens[:, -16:])


def test_each_layer_is_a_stage_that_depends_on_no_later_one(
    family: str, folders: dict[str, Path], check_stages: Check
) -> None:
    backbone = load_backbone(folders[family])
    assert len(backbone.stages) == (
        4 if family == "dinov3_convnext" else 5 if "conv" in family else 3
    )
    check_stages(backbone)


def test_gray_images_are_taken_with_adapted_weights(family: str, folders: dict[str, Path]) -> None:
    gray = load_backbone(folders[family], in_channels=1).eval()
    rgb = load_backbone(folders[family]).eval()
    images = torch.randn(2, 1, tiny_hf.SIZE, tiny_hf.SIZE)
    with torch.no_grad():
        expected = rgb(images.expand(-1, 3, -1, -1)).pooled
        torch.testing.assert_close(gray(images).pooled, expected, atol=1e-4, rtol=1e-4)
    assert len(gray.info.preprocess.mean) == 1


@pytest.mark.exhaustive
@pytest.mark.slow
def test_freezing_receipts_caching_resuming_and_export_work(
    family: str, folders: dict[str, Path]
) -> None:
    check_backbone(str(folders[family]))


# ---- names ----


def test_a_folder_is_found_with_and_without_the_prefix(
    folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folders["vit"].parent)
    for name, full in (
        ("hf/vit", "hf/./vit"),
        ("vit", "hf/./vit"),
        (folders["vit"], "hf/./vit"),  # no folders: an exported file contains the name
    ):
        assert load_backbone(name, None).info.name == full


def test_other_folders_and_typing_errors_are_not_taken_for_repositories(tmp_path: Path) -> None:
    with pytest.raises(BackboneError, match="no backbone 'timm/resnet5'; did you mean"):
        load_backbone("timm/resnet5")
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(BackboneError, match="no backbone"):
        load_backbone(tmp_path)
    with pytest.raises(BackboneError, match="neither a folder nor a repository such as org/name"):
        load_backbone(f"hf/{tmp_path}/nothing")


def test_a_network_of_another_kind_is_refused_with_those_that_can_be_used(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(
        BackboneError, match=r"of the type 'bert'; those of clip_vision_model, .*vit"
    ):
        load_backbone(tmp_path, None)


def test_without_the_library_an_install_command_is_named(
    folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(BackboneError, match=r"needs transformers: run pip install 'visiongraft\["):
        load_backbone(folders["vit"])


# ---- weights ----


def test_a_classifier_or_a_whole_model_of_images_and_text_gives_its_vision_network(
    tmp_path: Path, folders: dict[str, Path]
) -> None:
    config = transformers.ViTConfig(**tiny_hf.TOKENS, num_labels=3)
    classifier = transformers.ViTForImageClassification(config).eval()
    backbone = load_backbone(tiny_hf.write(tmp_path / "classifier", classifier)).eval()
    images = torch.randn(2, 3, tiny_hf.SIZE, tiny_hf.SIZE)
    with torch.no_grad():
        expected = classifier(images).logits
        torch.testing.assert_close(classifier.classifier(backbone(images).pooled), expected)
    text = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "vocab_size": 50}
    whole = transformers.SiglipModel(
        transformers.SiglipConfig(vision_config=tiny_hf.TOKENS, text_config=text)
    ).eval()
    backbone = load_backbone(tiny_hf.write(tmp_path / "whole", whole)).eval()
    with torch.no_grad():
        torch.testing.assert_close(
            backbone(images).pooled, whole.get_image_features(images).pooler_output
        )


def test_a_file_with_the_librarys_names_loads_and_another_one_is_refused(
    folders: dict[str, Path],
) -> None:
    file = folders["dinov2"] / "model.safetensors"
    published = load_backbone(folders["dinov2"])
    backbone = load_backbone(folders["dinov2"], file)
    state = published.state_dict()
    assert all(torch.equal(t, state[n]) for n, t in backbone.state_dict().items())
    with pytest.raises(WeightsError, match=r"contains no tensors that fit|does not fit"):
        load_backbone(folders["swin"], file)


def test_weights_that_lack_tensors_are_refused(tmp_path: Path, folders: dict[str, Path]) -> None:
    shutil.copytree(folders["vit"], tmp_path / "vit")
    tensors = load_file(tmp_path / "vit" / "model.safetensors")
    name = next(n for n in tensors if n.endswith("layernorm.weight"))
    save_file(
        {n: t for n, t in tensors.items() if n != name},
        tmp_path / "vit" / "model.safetensors",
        {"format": "pt"},
    )
    with pytest.raises(WeightsError, match=r"missing 1: layernorm\.weight"):
        load_backbone(tmp_path / "vit")
    (tmp_path / "vit" / "model.safetensors").write_bytes(b"damaged")
    with pytest.raises(WeightsError, match="cannot be loaded") as caught:
        load_backbone(tmp_path / "vit")
    assert "\n" not in str(caught.value)


def test_the_license_of_the_card_is_recorded(tmp_path: Path, folders: dict[str, Path]) -> None:
    shutil.copytree(folders["vit"], tmp_path / "vit")
    (tmp_path / "vit" / "README.md").write_text("---\nlicense: cc-by-nc-4.0\n---\n# A network\n")
    provenance = load_backbone(tmp_path / "vit").info.provenance
    assert (provenance["license"], provenance["weights"]) == ("cc-by-nc-4.0", "vit")
    assert load_backbone(folders["vit"]).info.provenance["license"] == "unknown"


def test_a_saved_model_loads_without_the_folder_and_its_license_is_told(
    tmp_path: Path, folders: dict[str, Path], caplog: pytest.LogCaptureFixture
) -> None:
    shutil.copytree(folders["vit"], tmp_path / "vit")
    (tmp_path / "vit" / "README.md").write_text("---\nlicense: cc-by-nc-4.0\n---\n")
    images = [torch.randint(0, 256, (40, 50, 3), dtype=torch.uint8).numpy() for _ in range(8)]
    data = [(image, "ab"[i % 2]) for i, image in enumerate(images)]
    settings: dict[str, Any] = {"schedule": "linear_probe", "epochs": 1, "callbacks": ()}
    model = fit(
        data, task="classification", backbone=tmp_path / "vit", out=tmp_path / "run", **settings
    )
    warned = "license of the weights of hf/./vit, cc-by-nc-4.0, forbids commercial use"
    assert warned in caplog.text
    assert "cc-by-nc-4.0" in (tmp_path / "run/model/README.md").read_text()
    shutil.rmtree(tmp_path / "vit")
    again = load(tmp_path / "run")
    assert again.predict(images) == model.predict(images)
    assert json.loads((tmp_path / "run/model/config.json").read_text())["backbone"]["architecture"]


# ---- preprocessing ----

PROCESSORS: dict[str, dict[str, Any]] = {
    "stretched": tiny_hf.PROCESSOR,
    "cropped": {
        "image_processor_type": "CLIPImageProcessor",
        "size": {"shortest_edge": 36},
        "crop_size": {"height": 32, "width": 32},
    },
    "bilinear": {**tiny_hf.PROCESSOR, "resample": 2, "do_normalize": False},
    "convnext": {
        "image_processor_type": "ConvNextImageProcessor",
        "size": {"shortest_edge": 32},
        "crop_pct": 0.875,
    },
}


@pytest.mark.parametrize("name", PROCESSORS)
def test_images_are_prepared_as_the_librarys_processor_does(name: str, tmp_path: Path) -> None:
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(PROCESSORS[name]))
    processor = transformers.AutoImageProcessor.from_pretrained(tmp_path)
    config = preprocess_of(processor, name)
    ramp = torch.linspace(0, 255, 64).round().to(torch.uint8)
    image = torch.stack([ramp.expand(48, 64), ramp.flip(0).expand(48, 64), ramp.expand(48, 64)], -1)
    expected = processor(image.permute(2, 0, 1), return_tensors="pt")["pixel_values"]
    prepared = Preprocess(config)(image[None])
    assert prepared.shape == expected.shape
    # The library rounds sizes and resized values to integers, and crops after resizing.
    assert float((prepared - expected).abs().mean()) < 0.05
