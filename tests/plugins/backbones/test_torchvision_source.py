from __future__ import annotations

import copy
import re
import urllib.error
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision.models as zoo
from torch import Tensor, nn

from visiongraft.backbone import Backbone
from visiongraft.caching.folding import folded_copy
from visiongraft.errors import BackboneError, WeightsError
from visiongraft.lookup.backbones import load_backbone
from visiongraft.saving.weights import fit_weights

Check = Callable[[Backbone], None]

# One small architecture of each family, at a small size that it supports.
FAMILIES = {
    "convnext_tiny": 64,
    "densenet121": 64,
    "efficientnet_b0": 64,
    "googlenet": 64,
    "inception_v3": 96,
    "maxvit_t": 224,
    "mnasnet0_5": 64,
    "mobilenet_v2": 64,
    "mobilenet_v3_small": 64,
    "regnet_y_400mf": 64,
    "resnet18": 64,
    "shufflenet_v2_x0_5": 64,
    "squeezenet1_0": 64,
    "swin_t": 64,
    "swin_v2_t": 64,
    "vit_b_32": 64,
}
LARGE = {"alexnet": 64, "vgg11": 32}  # hundreds of megabytes in their dense layers


# Large, or taking the same paths through the source as others in the list; `vit_b_32` has its own
# tests of position embeddings.
ALIKE = {
    "efficientnet_b0",
    "inception_v3",
    "maxvit_t",
    "mnasnet0_5",
    "mobilenet_v3_small",
    "regnet_y_400mf",
    "swin_v2_t",
    "vit_b_32",
    "alexnet",
    "vgg11",
}


def case(name: str) -> Any:
    return pytest.param(name, marks=[pytest.mark.exhaustive] * (name in ALIKE))


@cache
def built(name: str) -> Backbone:
    torch.manual_seed(0)
    return load_backbone(f"torchvision/{name}", None, size=(FAMILIES | LARGE)[name])


@pytest.fixture(scope="module", autouse=True)
def forget() -> Iterator[None]:
    yield
    built.cache_clear()


@pytest.fixture(params=[case(name) for name in FAMILIES | LARGE])
def backbone(request: pytest.FixtureRequest) -> Backbone:
    return built(request.param)


def original(name: str) -> nn.Module:
    """Build torchvision's own model, with its auxiliary classifiers, at the size under test."""
    options: dict[str, object] = {}
    if name in ("googlenet", "inception_v3"):
        options = {"aux_logits": True, "init_weights": False}
    elif name.startswith("vit"):
        options = {"image_size": FAMILIES[name]}
    torch.manual_seed(1)
    return zoo.get_model(name, weights=None, **options).eval()  # type: ignore[no-any-return]


def last_layer(model: nn.Module, pooled: Tensor) -> Tensor:
    """Classify an embedding with a model's own last layer."""
    if isinstance(model, zoo.SqueezeNet):
        # It classifies each position and then pools, so only the embedding can be compared.
        raise TypeError
    return [m for m in model.modules() if isinstance(m, nn.Linear)][-1](pooled)  # type: ignore[no-any-return]


@pytest.mark.parametrize("name", [case(n) for n in FAMILIES if n != "squeezenet1_0"])
def test_the_embedding_is_what_torchvisions_last_layer_reads(name: str) -> None:
    model, backbone = original(name), copy.deepcopy(built(name)).eval()
    fit_weights(backbone, dict(model.state_dict()), "the original")
    images = torch.randn(2, 3, *backbone.info.preprocess.size)
    with torch.no_grad():
        expected = model(images)
        torch.testing.assert_close(last_layer(model, backbone(images).pooled), expected)


def test_squeezenets_embedding_is_its_pooled_last_map() -> None:
    model, backbone = original("squeezenet1_0"), copy.deepcopy(built("squeezenet1_0")).eval()
    fit_weights(backbone, dict(model.state_dict()), "the original")
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        expected = model.features(images).mean((2, 3))  # type: ignore[operator, union-attr]
        torch.testing.assert_close(backbone(images).pooled, expected)


@pytest.mark.parametrize(
    ("name", "dimension"),
    [
        ("mobilenet_v2", 1280),
        ("squeezenet1_0", 512),
        pytest.param("vgg11", 4096, marks=pytest.mark.exhaustive),  # half a gigabyte
        pytest.param("alexnet", 4096, marks=pytest.mark.exhaustive),
    ],
)
def test_the_embedding_has_the_usual_dimension(name: str, dimension: int) -> None:
    assert built(name).info.embedding_dim == dimension


def test_maps_strides_and_channels_are_as_declared(
    backbone: Backbone, check_features: Check
) -> None:
    check_features(backbone)


@pytest.mark.parametrize("name", [case(name) for name in FAMILIES])
def test_every_parameter_learns_from_the_embedding_in_training_mode(name: str) -> None:
    torch.manual_seed(0)
    backbone = copy.deepcopy(built(name)).train()
    backbone(torch.randn(4, 3, *backbone.info.preprocess.size)).pooled.square().sum().backward()
    assert not [n for n, p in backbone.named_parameters() if p.grad is None]


# After the tests above, since it changes the weights.
def test_stages_cover_every_tensor_and_follow_the_data(
    backbone: Backbone, check_stages: Check
) -> None:
    check_stages(backbone)


@pytest.mark.parametrize(
    ("name", "firsts"),
    [
        ("resnet18", ["conv1", "layer1", "layer2", "layer3", "layer4"]),
        ("mobilenet_v2", [f"features.{i}" for i in (0, 2, 4, 7, 14)]),
        (
            "vgg11",
            [
                "features.0",
                "features.3",
                "features.6",
                "features.11",
                "features.16",
                "classifier.0",
            ],
        ),
        ("swin_t", [f"features.{i}" for i in (0, 1, 2, 4, 6)]),
        ("vit_b_32", ["class_token", *(f"encoder.layers.encoder_layer_{i}" for i in range(12))]),
    ],
)
def test_stages_begin_at_each_resolution_or_encoder_layer(name: str, firsts: list[str]) -> None:
    first: dict[str, str] = {}
    for tensor, stage in built(name).info.stage_of.items():
        first.setdefault(stage, tensor)
    for tensor, start in zip(first.values(), firsts, strict=True):
        assert tensor.startswith(f"model.{start}")


def test_a_copy_with_folded_batch_norms_computes_the_same_features() -> None:
    backbone = copy.deepcopy(built("resnet18")).eval()
    images = torch.randn(2, 3, 64, 64)
    folded = folded_copy(backbone, images)
    assert not any(isinstance(m, nn.BatchNorm2d) for m in folded.modules())
    with torch.no_grad():
        expected = backbone(images).pooled
        torch.testing.assert_close(folded(images).pooled, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    "name", ["squeezenet1_0", pytest.param("vit_b_32", marks=pytest.mark.exhaustive)]
)
def test_the_backbone_can_be_traced_for_export_with_any_number_of_images(name: str) -> None:
    backbone = built(name).eval()
    images = torch.randn(2, 3, 64, 64)
    dynamic = {0: torch.export.Dim.DYNAMIC}
    with torch.no_grad():
        traced = torch.export.export(backbone, (images,), dynamic_shapes=(dynamic,)).module()
        other = torch.randn(3, 3, 64, 64)
        torch.testing.assert_close(traced(other).pooled, backbone(other).pooled)


# ---- sizes and channels ----


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v2", "swin_t"])
def test_sizes_that_are_not_square_are_supported(name: str, check_features: Check) -> None:
    check_features(load_backbone(f"torchvision/{name}", None, size=(64, 96)))


@pytest.mark.parametrize(
    ("name", "size", "words"),
    [
        ("vit_b_32", (64, 96), "embeddings are square"),
        ("vit_b_32", (100, 100), "indivisible by patch size"),
        ("maxvit_t", (100, 100), "not divisible by partition size"),
        ("inception_v3", (64, 64), "Kernel size"),
        ("alexnet", (32, 32), "too small"),
    ],
)
def test_an_unsupported_size_raises(name: str, size: tuple[int, int], words: str) -> None:
    start = rf"torchvision/{name} does not support images of {size[0]}x{size[1]} "
    with pytest.raises(BackboneError, match=f"{start}.*{words}"):
        load_backbone(f"torchvision/{name}", None, size=size)


@pytest.mark.parametrize(
    "name",
    ["resnet18", "squeezenet1_0", pytest.param("regnet_y_400mf", marks=pytest.mark.exhaustive)],
)
def test_pretrained_stems_are_converted_to_gray_images(name: str, tmp_path: Path) -> None:
    torch.save(original(name).state_dict(), tmp_path / "w.pth")
    size = FAMILIES[name]
    rgb, gray = (
        load_backbone(f"torchvision/{name}", tmp_path / "w.pth", in_channels=c, size=size).eval()
        for c in (3, 1)
    )
    images = torch.rand(2, 1, size, size)
    with torch.no_grad():
        expected = rgb(images.expand(-1, 3, -1, -1)).pooled
        torch.testing.assert_close(gray(images).pooled, expected, atol=1e-4, rtol=1e-4)


def test_four_channels_are_supported(check_features: Check) -> None:
    check_features(load_backbone("torchvision/mobilenet_v2", None, in_channels=4, size=32))


# ---- preprocessing ----


def test_preprocessing_is_that_of_the_published_weights() -> None:
    config = built("efficientnet_b0").info.preprocess
    assert (config.interpolation, config.crop_fraction) == ("bicubic", 224 / 256)
    assert config.mean == (0.485, 0.456, 0.406)


def test_networks_that_renormalize_internally_get_the_range_they_expect() -> None:
    assert built("googlenet").info.preprocess.mean == (0.5, 0.5, 0.5)
    assert built("inception_v3").info.preprocess.std == (0.5, 0.5, 0.5)


# ---- weights files ----


def test_missing_layers_raise_unless_partial(tmp_path: Path) -> None:
    state = {n: t for n, t in original("shufflenet_v2_x0_5").state_dict().items()}
    kept = {n: t for n, t in state.items() if not n.startswith(("conv5.", "fc."))}
    torch.save(kept, tmp_path / "w.pth")
    name = "torchvision/shufflenet_v2_x0_5"
    with pytest.raises(WeightsError, match=r"missing 5: conv5\.0\.weight"):
        load_backbone(name, tmp_path / "w.pth")
    backbone = load_backbone(name, tmp_path / "w.pth", partial=True)
    assert backbone.info.provenance["tensors"] == "275 of 280 loaded"


def test_older_tensor_names_of_torchvision_are_converted() -> None:
    for name, pattern, older in [
        ("densenet121", r"(denselayer\d+\.(?:norm|conv))([12])\.", r"\1.\2."),
        ("vit_b_32", r"mlp\.0\.", "mlp.linear_1."),
    ]:
        backbone = copy.deepcopy(built(name))
        own = {n.removeprefix("model."): t for n, t in backbone.state_dict().items()}
        state = {re.sub(pattern, older, n): torch.ones_like(t) for n, t in own.items()}
        assert len(state.keys() - own.keys()) > 20
        fit_weights(backbone, state, "an older file")
        assert all(t.eq(1).all() for t in backbone.state_dict().values())


def test_position_embeddings_are_resampled_to_another_size() -> None:
    state = dict(built("vit_b_32").state_dict())
    name = "model.encoder.pos_embedding"
    larger = torch.cat([torch.zeros(1, 1, 768), torch.full((1, 49, 768), 0.5)], dim=1)
    backbone = copy.deepcopy(built("vit_b_32"))
    fit_weights(backbone, {**state, name: larger}, "a file for 224x224")
    resampled = backbone.state_dict()[name]
    assert resampled.shape == (1, 5, 768)
    torch.testing.assert_close(resampled[0, :, 0], torch.tensor([0.0, 0.5, 0.5, 0.5, 0.5]))


def test_position_embeddings_that_are_not_square_are_reported_as_reshaped() -> None:
    state = dict(built("vit_b_32").state_dict())
    state["model.encoder.pos_embedding"] = torch.zeros(1, 7, 768)
    with pytest.raises(WeightsError, match=r"reshaped 1: encoder\.pos_embedding"):
        fit_weights(copy.deepcopy(built("vit_b_32")), state, "a file")


@pytest.mark.parametrize("name", ["mnasnet0_5", "resnet18"])
def test_a_saved_state_loads_again_bit_by_bit(name: str, tmp_path: Path) -> None:
    backbone = built(name)
    torch.save(dict(backbone.state_dict()), tmp_path / "w.pth")
    again = load_backbone(f"torchvision/{name}", tmp_path / "w.pth", size=FAMILIES[name])
    again.load_state_dict(dict(backbone.state_dict()))
    assert all(map(torch.equal, again.state_dict().values(), backbone.state_dict().values()))


# ---- pretrained weights ----


def test_an_unreachable_hub_raises_one_line_with_alternatives(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise urllib.error.URLError("no network")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr("torch.hub.download_url_to_file", refuse)
    with pytest.raises(WeightsError, match=r"hub cannot be reached.*no network.*weights=FILE") as e:
        load_backbone("torchvision/squeezenet1_0")
    assert "\n" not in str(e.value)


@pytest.mark.parametrize("in_channels", [1, 3])
def test_cached_weights_are_used_without_the_hub(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, in_channels: int
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    state = original("squeezenet1_0").state_dict()
    file = tmp_path / "hub" / "checkpoints" / Path(zoo.SqueezeNet1_0_Weights.DEFAULT.url).name
    file.parent.mkdir(parents=True)
    torch.save(state, file)
    backbone = load_backbone("torchvision/squeezenet1_0", in_channels=in_channels)
    kernel = state["features.0.weight"]
    own = backbone.state_dict()["model.features.0.weight"]
    torch.testing.assert_close(own, kernel if in_channels == 3 else kernel.sum(1, keepdim=True))
    assert backbone.info.provenance["weights"] == "SqueezeNet1_0_Weights.IMAGENET1K_V1"


@pytest.mark.parametrize(("name", "cut"), [("resnet18", -2), ("mobilenet_v2", -1)])
def test_a_learner_of_fastai_is_read_by_the_order_of_its_layers(
    tmp_path: Path, name: str, cut: int
) -> None:
    torch.manual_seed(0)
    network = original(name)
    body = nn.Sequential(*list(network.children())[:cut])
    learner = nn.Sequential(body, nn.Sequential(nn.Flatten(), nn.Linear(3, 2)))
    torch.save({"model": learner.state_dict(), "opt": {"state": {}}}, tmp_path / "w.pth")
    backbone = load_backbone(f"torchvision/{name}", str(tmp_path / "w.pth")).eval()
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(backbone(images).maps[-1], body(images))
    del learner[0][-1]
    torch.save(learner.state_dict(), tmp_path / "w.pth")
    with pytest.raises(WeightsError, match=r"missing|contains no tensors that fit"):
        load_backbone(f"torchvision/{name}", str(tmp_path / "w.pth"))
