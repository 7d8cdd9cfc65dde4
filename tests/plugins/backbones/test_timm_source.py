from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import pytest
import timm
import torch
from safetensors.torch import save_file
from torch.utils.flop_counter import FlopCounterMode

from visiongraft.backbone import Backbone
from visiongraft.errors import BackboneError, WeightsError
from visiongraft.lookup.backbones import load_backbone
from visiongraft.plugins.backbones.timm_source import RECOMMENDED

Check = Callable[[Backbone], None]

# One small architecture of each family, at a small size that it supports.
FAMILIES: dict[str, tuple[int, int]] = {
    "resnet18": (64, 64),
    "regnetx_002": (64, 64),
    "densenet121": (64, 64),
    "efficientnet_lite0": (64, 64),
    "mobilenetv3_small_050": (64, 64),
    "convnext_atto": (64, 64),
    "vit_tiny_patch16_224": (64, 64),
    "deit_tiny_distilled_patch16_224": (64, 64),
    "swin_tiny_patch4_window7_224": (64, 64),
    "vgg11": (32, 32),
    "maxvit_pico_rw_256": (64, 64),
    "cait_xxs24_224": (64, 64),  # its own groups overlap
    "pit_ti_224": (64, 64),  # has no groups
    "coat_lite_tiny": (64, 64),  # its groups contradict the order of its modules
    "tresnet_m": (64, 64),  # declares a wrong stride
    "vit_srelpos_small_patch16_224": (64, 64),  # shares one module among all blocks
}


# Further architectures that take the same paths through the source as others in the list.
ALIKE = {
    "regnetx_002",
    "mobilenetv3_small_050",
    "deit_tiny_distilled_patch16_224",
    "vgg11",
    "maxvit_pico_rw_256",
}
CASES = [pytest.param(n, marks=[pytest.mark.exhaustive] * (n in ALIKE)) for n in FAMILIES]


@cache
def built(name: str) -> Backbone:
    torch.manual_seed(0)
    return load_backbone(f"timm/{name}", None, size=FAMILIES[name])


@pytest.fixture(params=CASES)
def backbone(request: pytest.FixtureRequest) -> Backbone:
    return built(request.param)


@pytest.fixture(scope="module", autouse=True)
def forget() -> Iterator[None]:
    yield
    built.cache_clear()


def test_maps_strides_and_channels_are_as_declared(
    backbone: Backbone, check_features: Check
) -> None:
    check_features(backbone)


def test_the_embedding_equals_timms_own(backbone: Backbone) -> None:
    images = torch.randn(2, 3, *backbone.info.preprocess.size)
    with torch.no_grad():
        expected = backbone.eval().model(images)  # type: ignore[operator, union-attr]
        assert torch.equal(backbone(images).pooled, expected)


def test_every_parameter_learns_from_the_features(backbone: Backbone) -> None:
    torch.manual_seed(0)
    backbone.train()
    maps, pooled = backbone(torch.randn(2, 3, *backbone.info.preprocess.size))
    (pooled.square().sum() + sum(m.square().sum() for m in maps)).backward()
    without = [n for n, p in backbone.named_parameters() if p.grad is None]
    assert not without
    assert all(p.grad.isfinite().all() for p in backbone.parameters() if p.grad is not None)
    backbone.zero_grad(set_to_none=True)


@pytest.mark.parametrize("name", [c for c in CASES if c.values != ("vgg11",)])  # half a gigabyte
def test_a_saved_state_loads_again_bit_by_bit(name: str, tmp_path: Path) -> None:
    backbone = built(name)
    state = {n: t.clone() for n, t in backbone.state_dict().items()}
    torch.save(state, tmp_path / "state.pth")
    again = load_backbone(f"timm/{name}", tmp_path / "state.pth", size=FAMILIES[name])
    assert all(torch.equal(t, state[n]) for n, t in again.state_dict().items())


# After the tests above, since it changes the weights.
def test_stages_cover_every_tensor_and_follow_the_data(
    backbone: Backbone, check_stages: Check
) -> None:
    check_stages(backbone)


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("resnet18", 5),
        ("regnetx_002", 5),
        ("densenet121", 5),
        ("efficientnet_lite0", 8),
        ("convnext_atto", 5),
        ("swin_tiny_patch4_window7_224", 5),
        ("vit_tiny_patch16_224", 13),
        ("pit_ti_224", 4),
        ("cait_xxs24_224", 25),
    ],
)
def test_the_number_of_stages_is_that_of_the_architecture(name: str, count: int) -> None:
    assert len(built(name).stages) == count


def test_the_final_norm_belongs_to_the_last_stage() -> None:
    for name, tensor in [
        ("vit_tiny_patch16_224", "model.norm.weight"),
        ("convnext_atto", "model.head.norm.weight"),
        ("mobilenetv3_small_050", "model.conv_head.weight"),
    ]:
        backbone = built(name)
        assert backbone.info.stage_of[tensor] == backbone.stages[-1]


# ---- sizes ----


@pytest.mark.parametrize(
    "name", ["resnet18", "vit_tiny_patch16_224", "swin_tiny_patch4_window7_224"]
)
@pytest.mark.parametrize("size", [(64, 96), (128, 64)])
def test_sizes_that_are_not_square_are_supported(
    name: str, size: tuple[int, int], check_features: Check
) -> None:
    backbone = load_backbone(f"timm/{name}", None, size=size)
    assert backbone.info.preprocess.size == size
    check_features(backbone)


def test_a_convolutional_network_supports_odd_sizes(check_features: Check) -> None:
    check_features(load_backbone("timm/test_resnet", None, size=(33, 71)))


def test_without_a_size_the_default_is_used(check_features: Check) -> None:
    backbone = load_backbone("timm/test_vit", None)
    assert backbone.info.preprocess.size == (160, 160)
    check_features(backbone)


@pytest.mark.parametrize(
    ("name", "size", "words"),
    [
        ("vit_tiny_patch16_224", 100, "images must consist of whole 16x16 patches"),
        ("maxvit_pico_rw_256", 100, "must be divisible"),
        ("convnext_atto", 16, "Kernel size"),
        ("densenet121", 20, "too small"),
    ],
)
def test_an_unsupported_size_raises(name: str, size: int, words: str) -> None:
    with pytest.raises(
        BackboneError, match=f"does not support images of {size}x{size} .*{words}"
    ) as caught:
        load_backbone(f"timm/{name}", None, size=size)
    assert "\n" not in str(caught.value)
    assert "choose another size" in str(caught.value)


def test_a_model_without_embedding_raises_without_blaming_the_size(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise NotImplementedError("no classification here")

    monkeypatch.setattr("timm.models.resnet.ResNet.forward_head", refuse)
    with pytest.raises(
        BackboneError, match=r"cannot be used as a backbone: no classification here$"
    ):
        load_backbone("timm/test_resnet", None)


def test_a_model_without_feature_maps_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "timm.models.resnet.ResNet.forward_intermediates",
        lambda self, x, indices: (self.forward_features(x), [torch.ones(1, 4)] * 5),
    )
    with pytest.raises(BackboneError, match="returns no feature maps"):
        load_backbone("timm/test_resnet", None)


def test_a_type_error_of_the_constructor_is_not_hidden(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise TypeError("something else")

    monkeypatch.setattr(timm, "create_model", broken)
    with pytest.raises(BackboneError, match="something else"):
        load_backbone("timm/test_resnet", None, size=64)


# ---- preprocessing ----


def test_preprocessing_is_that_of_timm() -> None:
    config = built("convnext_atto").info.preprocess
    expected = timm.get_pretrained_cfg("convnext_atto")
    assert config.mean == expected.mean and config.std == expected.std
    assert (config.interpolation, config.crop_fraction) == ("bicubic", expected.crop_pct)
    assert config.resize == "crop"


def test_squashed_images_are_stretched() -> None:
    backbone = load_backbone("timm/resnet50_clip.openai", None, size=64)
    expected = timm.get_pretrained_cfg("resnet50_clip.openai")
    resize = "stretch" if expected.crop_mode == "squash" else "crop"
    assert backbone.info.preprocess.resize == resize
    assert backbone.info.preprocess.mean == expected.mean


# ---- weights files ----


def file_of(name: str, folder: Path, *, seed: int = 1, **options: object) -> Path:
    """Write a checkpoint like those that timm publishes, with its classifier."""
    torch.manual_seed(seed)
    path = folder / "model.safetensors"
    save_file(timm.create_model(name, **options).state_dict(), path)
    return path


@pytest.mark.parametrize("name", ["test_resnet", "test_vit", "test_efficientnet", "test_convnext"])
def test_a_published_file_loads_without_its_classifier(tmp_path: Path, name: str) -> None:
    path = file_of(name, tmp_path, num_classes=10)
    backbone = load_backbone(f"timm/{name}", path).eval()
    torch.manual_seed(1)
    source = timm.create_model(name, num_classes=10).eval()
    images = torch.randn(2, 3, *backbone.info.preprocess.size)
    with torch.no_grad():
        expected = source.forward_head(source.forward_features(images), pre_logits=True)
        assert torch.equal(backbone(images).pooled, expected)
    total = len([n for n in backbone.state_dict() if "num_batches" not in n])
    assert backbone.info.provenance["tensors"] == f"{total} of {total} loaded"


def test_a_file_of_another_architecture_raises(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="contains no tensors that fit timm/test_vit"):
        load_backbone("timm/test_vit", file_of("test_resnet", tmp_path))


def test_position_embeddings_are_resampled_to_another_size(tmp_path: Path) -> None:
    path = file_of("test_vit", tmp_path)
    backbone = load_backbone("timm/test_vit", path, size=(96, 128))
    own = load_backbone("timm/test_vit", path)
    resampled, original = (b.state_dict()["model.pos_embed"] for b in (backbone, own))
    assert resampled.shape[1] - 1 == 6 * 8
    assert original.shape[1] - 1 == 10 * 10
    torch.testing.assert_close(resampled[:, 1:].mean(), original[:, 1:].mean(), atol=0.01, rtol=0)


@pytest.mark.parametrize("name", ["test_resnet", "test_vit", "test_convnext"])
def test_pretrained_stems_are_converted_to_gray_images(tmp_path: Path, name: str) -> None:
    path = file_of(name, tmp_path)
    rgb = load_backbone(f"timm/{name}", path).eval()
    gray = load_backbone(f"timm/{name}", path, in_channels=1).eval()
    assert len(gray.info.preprocess.mean) == 1
    images = torch.rand(2, 1, *rgb.info.preprocess.size)
    with torch.no_grad():
        expected = rgb(images.expand(-1, 3, -1, -1)).pooled
        torch.testing.assert_close(gray(images).pooled, expected, atol=1e-4, rtol=1e-4)


# ---- pretrained weights ----


@pytest.fixture
def no_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Disconnect the hub, and return its empty cache."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    return tmp_path


def test_an_unreachable_hub_raises_one_line_with_alternatives(no_hub: Path) -> None:
    with pytest.raises(WeightsError) as caught:
        load_backbone("timm/resnet18")
    text = str(caught.value)
    assert "\n" not in text
    for words in ("hub cannot be reached", "weights=FILE", "bundled/efficientnet_lite0"):
        assert words in text


def test_missing_pretrained_weights_raise(no_hub: Path) -> None:
    unpublished = next(n for n in timm.list_models() if not timm.get_pretrained_cfg(n).has_weights)
    with pytest.raises(WeightsError, match="none are published"):
        load_backbone(f"timm/{unpublished}")


def plant(cache_folder: Path, name: str, content: Path) -> None:
    """Put a file into the cache of the hub's client."""
    repository = timm.get_pretrained_cfg(name).hf_hub_id.replace("/", "--")
    folder = cache_folder / f"models--{repository}"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text("0" * 40)
    snapshot = folder / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    content.rename(snapshot / "model.safetensors")


@pytest.mark.parametrize("in_channels", [1, 3])
def test_cached_weights_are_used_without_the_hub(no_hub: Path, in_channels: int) -> None:
    plant(no_hub, "test_resnet", file_of("test_resnet", no_hub))
    torch.manual_seed(1)
    kernel = timm.create_model("test_resnet").state_dict()["conv1.0.weight"]
    backbone = load_backbone("timm/test_resnet", in_channels=in_channels)
    own = backbone.state_dict()["model.conv1.0.weight"]
    torch.testing.assert_close(own, kernel if in_channels == 3 else kernel.sum(1, keepdim=True))
    provenance = backbone.info.provenance
    assert provenance["weights"].startswith("test_resnet.")
    assert provenance["license"] == "apache-2.0"


def test_a_damaged_download_raises_a_weights_error(no_hub: Path) -> None:
    damaged = no_hub / "damaged"
    damaged.write_bytes(b"no tensors")
    plant(no_hub, "test_resnet", damaged)
    with pytest.raises(
        WeightsError, match="pretrained weights of timm/test_resnet could not be downloaded"
    ):
        load_backbone("timm/test_resnet")


def test_an_unsupported_size_raises_a_backbone_error_despite_pretrained_weights(
    no_hub: Path,
) -> None:
    never_read = no_hub / "never_read"
    never_read.touch()
    plant(no_hub, "maxvit_nano_rw_256", never_read)
    with pytest.raises(BackboneError, match="does not support images of 100x100"):
        load_backbone("timm/maxvit_nano_rw_256", size=100)


def test_pretrained_weights_can_be_chosen_by_tag() -> None:
    backbone = load_backbone("timm/test_resnet.r160_in1k", None)
    assert backbone.info.name == "timm/test_resnet.r160_in1k"


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", RECOMMENDED)
def test_operations_of_recommended_networks_are_those_that_pytorch_counts(name: str) -> None:
    config: Any = timm.get_pretrained_cfg(name)
    size = config.test_input_size or config.input_size
    with torch.device("meta"):
        network = timm.create_model(name).eval()
        with FlopCounterMode(display=False) as counted, torch.no_grad():
            network(torch.zeros(1, *size))
    assert RECOMMENDED[name][1] == pytest.approx(counted.get_total_flops() / 2e9, rel=1e-3)
