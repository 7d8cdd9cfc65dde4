"""Image towers of open_clip, from a tiny folder that it can load itself."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
from safetensors.torch import save_file

from tests.plugins.text_encoders import tiny_clip
from visiongraft.backbone import Backbone
from visiongraft.errors import BackboneError, PluginError, WeightsError
from visiongraft.lookup.backbones import load_backbone
from visiongraft.lookup.text_encoders import load_text_encoder
from visiongraft.plugins.backbones.open_clip_source import _names
from visiongraft.testing import check_backbone

Check = Callable[[Backbone], None]
MODEL = {
    "embed_dim": 12,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 16, "head_width": 8, "patch_size": 8},
    "text_cfg": {"context_length": 8, "vocab_size": 50, "width": 16, "heads": 2, "layers": 1},
}
PREPROCESS = {"mean": [0.4, 0.5, 0.6], "std": [0.2, 0.3, 0.25], "resize_mode": "squash"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clip") / "tiny"
    folder.mkdir()
    torch.manual_seed(0)
    model = open_clip.CLIP(**MODEL)
    save_file(model.state_dict(), folder / "open_clip_model.safetensors")
    config = {"model_cfg": MODEL, "preprocess_cfg": PREPROCESS}
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    return folder


@pytest.fixture
def name(folder: Path) -> str:
    return f"open_clip/local-dir:{folder}"


def test_the_embedding_is_that_of_open_clip(name: str, folder: Path, check_features: Check) -> None:
    backbone = load_backbone(name).eval()
    model: Any = open_clip.create_model(f"local-dir:{folder}").eval()
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(backbone(images).pooled, model.encode_image(images))
    check_features(backbone)
    info = backbone.info
    assert (info.preprocess.mean, info.preprocess.resize) == ((0.4, 0.5, 0.6), "stretch")
    assert info.preprocess.interpolation == "bicubic"
    assert info.provenance["weights"] == "local-dir:tiny"
    assert info.name == "open_clip/local-dir:tiny"  # no path, which would reveal a disk


def test_the_root_logger_stays_as_it_was(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without handlers, `logging.info` of a library would add one, which shows our messages twice."""
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    load_backbone(name)
    load_backbone(name, None)
    assert not logging.getLogger().handlers


def test_each_layer_is_a_stage(name: str, check_stages: Check) -> None:
    backbone = load_backbone(name)
    assert backbone.stages == ("stem", "stage1", "stage2")
    check_stages(backbone)


def test_other_sizes_and_gray_images_keep_the_weights(name: str, check_features: Check) -> None:
    check_features(load_backbone(name, size=48))
    gray, rgb = load_backbone(name, in_channels=1).eval(), load_backbone(name).eval()
    images = torch.randn(2, 1, 32, 32)
    with torch.no_grad():
        expected = rgb(images.expand(-1, 3, -1, -1)).pooled
        torch.testing.assert_close(gray(images).pooled, expected, atol=1e-4, rtol=1e-4)


def test_a_file_of_the_whole_network_gives_its_image_tower(name: str, folder: Path) -> None:
    state = load_backbone(name).state_dict()
    loaded = load_backbone(name, folder / "open_clip_model.safetensors").state_dict()
    assert all(torch.equal(tensor, state[n]) for n, tensor in loaded.items())


def test_names_are_those_of_architectures_with_and_without_weights() -> None:
    backbone = load_backbone("open_clip/ViT-S-32-alt", None, size=32)
    assert backbone.info.embedding_dim == 256
    with pytest.raises(WeightsError, match=r"there are several: add one of \.openai, \.laion400m"):
        load_backbone("open_clip/ViT-B-32", size=32)
    with pytest.raises(BackboneError, match="no backbone 'open_clip/ViT-B-33'; did you mean"):
        load_backbone("open_clip/ViT-B-33", None)


def test_a_missing_folder_and_a_missing_library_are_one_line(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(WeightsError) as caught:
        load_backbone(f"open_clip/local-dir:{tmp_path}/none")
    assert "\n" not in str(caught.value)
    monkeypatch.setitem(sys.modules, "open_clip", None)
    with pytest.raises(
        BackboneError, match=r"needs open_clip_torch: run pip install 'visiongraft\["
    ):
        load_backbone(name)
    _names.cache_clear()
    try:
        with pytest.raises(
            BackboneError, match=r"^open_clip/ViT-B-32.openai needs open_clip_torch"
        ):
            load_backbone("open_clip/ViT-B-32.openai")
        with pytest.raises(PluginError, match=r"^open_clip/ViT-B-32.openai needs open_clip_torch"):
            load_text_encoder("open_clip/ViT-B-32.openai")
    finally:
        _names.cache_clear()


def test_a_folder_without_weights_is_one_line(tmp_path: Path) -> None:
    folder = tiny_clip.write_open_clip(tmp_path / "tiny")
    (folder / "open_clip_model.safetensors").unlink()
    for load in (load_backbone, load_text_encoder):
        with pytest.raises(
            WeightsError, match=r"tiny contains no weights, such as open_clip_model"
        ):
            load(f"open_clip/local-dir:{folder}")


@pytest.mark.exhaustive
@pytest.mark.slow
def test_freezing_receipts_caching_resuming_and_export_work(name: str) -> None:
    check_backbone(name)
