from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import segmentation_models_pytorch as smp
import torch
from torch import Tensor, nn
from torchvision.models.segmentation.deeplabv3 import DeepLabHead
from torchvision.models.segmentation.fcn import FCNHead

from visiongraft.backbone import BackboneInfo, Features
from visiongraft.errors import OptionError
from visiongraft.lookup.backbones import load_backbone
from visiongraft.plugins.dense.decoders import DECODERS
from visiongraft.plugins.dense.pyramid import EncoderLevels
from visiongraft.plugins.segmentation.models.network import SegmentationNetwork
from visiongraft.plugins.segmentation.task import DECODER_NAMES, Segmentation

MODELS: dict[str, Any] = {
    "unet": smp.Unet,
    "fpn": smp.FPN,
    "deeplabv3plus": smp.DeepLabV3Plus,
    "upernet": smp.UPerNet,
    "segformer": smp.Segformer,
}


def info(channels: tuple[int, ...], strides: tuple[int, ...]) -> BackboneInfo:
    base = load_backbone("simple_cnn", weights=None).info
    return replace(base, channels=channels, strides=strides)


def features(facts: BackboneInfo, height: int = 64, width: int = 96, count: int = 2) -> Features:
    maps = [
        torch.randn(count, c, -(-height // s), -(-width // s))
        for c, s in zip(facts.channels, facts.strides, strict=True)
    ]
    return Features(tuple(maps), torch.zeros(count, 1))


def test_the_option_lists_all_decoders() -> None:
    assert tuple(DECODERS) == DECODER_NAMES


@pytest.mark.parametrize("name", MODELS)
def test_decoders_match_smp_models_with_the_same_weights(name: str) -> None:
    torch.manual_seed(0)
    # SegFormer's decoder begins at stride 4, as that of its own encoder does.
    encoder = "mit_b0" if name == "segformer" else "resnet18"
    model = MODELS[name](encoder, encoder_weights=None, classes=3).eval()
    with torch.no_grad():
        maps = model.encoder(torch.randn(2, 3, 64, 96))
        # The output of the last layer, before upsampling.
        expected = model.segmentation_head[0](model.decoder([m.clone() for m in maps]))
    maps = [m for m in maps[1:] if m.shape[1]]
    facts = info(tuple(m.shape[1] for m in maps), tuple(96 // m.shape[-1] for m in maps))
    ours = SegmentationNetwork(facts, name, 3, 0, auxiliary=False).eval()
    inner: Any = ours.decoder
    inner.decoder.load_state_dict(model.decoder.state_dict())
    inner.output.load_state_dict(model.segmentation_head.state_dict())
    with torch.no_grad():
        logits = ours(Features(tuple(maps), maps[-1]))["logits"]
        other = ours(Features((maps[0] * 1.1, *maps[1:]), maps[-1]))["logits"]
    assert torch.allclose(logits, expected, atol=1e-5)
    assert not torch.allclose(logits, other, atol=1e-5) or name != "unet"


@pytest.mark.parametrize(("name", "kind"), [("fcn", FCNHead), ("deeplabv3", DeepLabHead)])
def test_torchvision_heads_are_unchanged(name: str, kind: type[nn.Module]) -> None:
    facts = info((16, 32), (4, 8))  # a dilated backbone
    ours = SegmentationNetwork(facts, name, 3, 0, auxiliary=True).eval()
    theirs: nn.Module = kind(32, 3).eval()
    head: Any = ours.decoder
    theirs.load_state_dict(head.head.state_dict())
    maps = features(facts)
    with torch.no_grad():
        assert torch.equal(ours(maps)["logits"], theirs(maps.maps[-1]))


@pytest.mark.parametrize("name", DECODER_NAMES)
@pytest.mark.parametrize(
    ("channels", "strides"),
    [
        ((8, 12, 16, 20, 24), (2, 4, 8, 16, 32)),
        ((8, 12, 16, 20), (4, 8, 16, 32)),  # ConvNeXt, Swin
        ((24,), (16,)),  # a plain ViT
        ((24, 24, 24), (14, 14, 14)),
        ((8, 12), (2, 4)),
        ((8, 12, 16, 20), (2, 4, 8, 16)),
        ((8,), (1,)),
        ((8, 12, 16, 20, 24, 28), (1, 2, 4, 8, 16, 32)),
        ((8, 16, 20, 24), (2, 8, 32, 64)),
    ],
    ids=str,
)
def test_every_decoder_works_on_every_pyramid(
    name: str, channels: tuple[int, ...], strides: tuple[int, ...]
) -> None:
    facts = info(channels, strides)
    width = {"fpn": 128, "fcn": 0, "deeplabv3": 0}.get(name, 16)
    network = SegmentationNetwork(facts, name, 3, width, auxiliary=True).train()
    maps = features(facts, 32, 64)
    outputs = network(maps)
    assert set(outputs) == {"logits", "auxiliary"}
    for values in outputs.values():
        assert values.shape[:2] == (2, 3)
    height, width = outputs["logits"].shape[-2:]
    assert abs(width / height - 2) < 0.6 and height >= 32 // max(8, *strides)
    torch.stack([values.mean() for values in outputs.values()]).sum().backward()
    assert not [n for n, p in network.named_parameters() if p.grad is None]
    network.eval()
    nothing = Features(tuple(m[:0] for m in maps.maps), maps.pooled[:0])
    with torch.no_grad():
        assert network(nothing)["logits"].shape == (0, *outputs["logits"].shape[1:])
        assert set(network(maps)) == {"logits"}


def test_unet_reaches_the_resolution_of_the_input() -> None:
    facts = info((8, 12, 16), (2, 4, 8))
    assert SegmentationNetwork(facts, "unet", 3, 16, False)(features(facts))["logits"].shape == (
        2,
        3,
        64,
        96,
    )


def test_channels_set_the_width() -> None:
    facts = info((8, 12, 16, 20, 24), (2, 4, 8, 16, 32))
    for name in ("unet", "deeplabv3plus", "upernet", "segformer"):
        sizes = [
            sum(p.numel() for p in SegmentationNetwork(facts, name, 3, c, False).parameters())
            for c in (16, 64, 0)
        ]
        assert sizes == sorted(sizes) and len(set(sizes)) == 3


@pytest.mark.parametrize(
    ("name", "channels", "message"),
    [
        ("fpn", 64, "channels=64: the fpn decoder needs a multiple of 128"),
        ("fcn", 64, "decoder 'fcn' has a fixed width"),
        ("deeplabv3", 64, "decoder 'deeplabv3' has a fixed width"),
    ],
)
def test_an_unsupported_width_raises(name: str, channels: int, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        SegmentationNetwork(info((8, 12), (2, 4)), name, 3, channels, False)


def test_input_sizes_with_unaligned_maps_raise() -> None:
    task = Segmentation(class_names=("a", "b"), kind="multi_class")
    backbone = load_backbone("simple_cnn", weights=None, size=(30, 42))
    with pytest.raises(OptionError, match=r"multiples of 4 pixels, such as size=\(32, 40\)"):
        task.build_head(backbone)
    assert task.build_head(load_backbone("simple_cnn", weights=None, size=(32, 40))) is not None


def test_levels_are_selected_resized_and_doubled_exactly() -> None:
    facts = info((8, 12, 16), (4, 8, 8))
    pyramid = EncoderLevels(facts)
    assert pyramid.deepest == 3 and pyramid.width(3) == 16  # the deepest of two
    assert [pyramid.width(k) for k in (1, 2, 5)] == [8, 8, 16]
    maps = features(facts, 72, 40)  # 9x5 at the deepest level
    levels = pyramid(maps, [1, 2, 3, 4, 5])
    sizes = [tuple(level.shape[-2:]) for level in levels]
    assert sizes == [(48, 32), (24, 16), (12, 8), (6, 4), (3, 2)]
    plain = pyramid(maps, [2, 3])
    assert plain[0] is maps.maps[0] and plain[1] is maps.maps[2]


def test_a_bright_spot_does_not_move_between_levels() -> None:
    facts = info((1,), (8,))
    spot = torch.zeros(1, 1, 8, 8)
    spot[0, 0, 6, 2] = 1
    for level in EncoderLevels(facts)(Features((spot,), spot), [1, 2, 3, 4]):
        side = level.shape[-1]
        y, x = (float(level.sum(axis).view(-1) @ (torch.arange(side) + 0.5)) for axis in (3, 2))
        total = float(level.sum())
        assert (y / total / side, x / total / side) == pytest.approx(
            (6.5 / 8, 2.5 / 8), abs=0.5 / side + 1e-6
        )


def test_the_auxiliary_head_reads_the_map_before_the_deepest() -> None:
    facts = info((8, 12, 16), (2, 4, 8))
    network = SegmentationNetwork(facts, "unet", 3, 16, auxiliary=True).train()
    maps = features(facts)

    def auxiliary(changed: int) -> Tensor:
        torch.manual_seed(0)
        moved = tuple(m + (i == changed) for i, m in enumerate(maps.maps))
        found: Tensor = network(Features(moved, maps.pooled))["auxiliary"]
        return found

    assert torch.equal(auxiliary(-1), auxiliary(2))
    assert not torch.equal(auxiliary(-1), auxiliary(1))
