"""An adapter changes nothing when it is applied, and nothing when it is merged."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
from timm.layers.conv2d_same import Conv2dSame
from timm.layers.std_conv import StdConv2d
from torch import nn

from visiongraft.adaptation.backbones import merge_adapters
from visiongraft.errors import OptionError, TrainingError
from visiongraft.lookup.backbones import load_backbone

LAYERS: dict[str, Any] = {
    "linear": lambda: nn.Linear(12, 20),
    "linear without bias": lambda: nn.Linear(12, 20, bias=False),
    "pointwise": lambda: nn.Conv2d(12, 20, 1),
    "strided": lambda: nn.Conv2d(12, 20, 3, stride=2, padding=1),
    "dilated": lambda: nn.Conv2d(12, 20, (3, 5), padding=(2, 4), dilation=2),
    "reflecting": lambda: nn.Conv2d(12, 20, 3, padding=1, padding_mode="reflect"),
    "same": lambda: nn.Conv2d(12, 20, 3, padding="same", bias=False),
    "grouped": lambda: nn.Conv2d(12, 20, 3, groups=4),
    "same as TensorFlow": lambda: Conv2dSame(12, 20, 3, stride=2),
    "standardized": lambda: StdConv2d(12, 20, 3),
}
MERGED = ["lora(rank=3, alpha=5)", "dora(rank=3)", "ia3"]
UPDATES = [(n, a) for n in LAYERS for a in MERGED if (n, a) != ("standardized", "ia3")]


@pytest.mark.parametrize(("kind", "adapter"), UPDATES)
def test_merging_a_trained_adapter_changes_no_output(
    kind: str, adapter: str, layers: Any, apply: Any, perturb: Any, embed: Any
) -> None:
    backbone = layers(layer=LAYERS[kind]())
    plain, classes = embed(backbone), [type(m) for m in backbone.modules()]
    names = list(backbone.state_dict())
    trained = apply(backbone, adapter)
    torch.testing.assert_close(embed(backbone), plain, rtol=1e-5, atol=1e-5)
    perturb(backbone, trained)
    changed = embed(backbone)
    assert (changed - plain).abs().max() > 0.01
    merge_adapters(backbone)
    torch.testing.assert_close(embed(backbone), changed, rtol=1e-4, atol=1e-4)
    assert [type(m) for m in backbone.modules()] == classes
    assert list(backbone.state_dict()) == names
    assert set(backbone.info.stage_of) == set(names)


@pytest.mark.parametrize("adapter", ["ia3(inputs=['layer'])"])
@pytest.mark.parametrize("kind", ["linear", "strided", "grouped"])
def test_merging_factors_on_inputs_changes_no_output(
    kind: str, adapter: str, layers: Any, apply: Any, perturb: Any, embed: Any
) -> None:
    backbone = layers(layer=LAYERS[kind]())
    plain = embed(backbone)
    perturb(backbone, apply(backbone, adapter))
    changed = embed(backbone)
    assert (changed - plain).abs().max() > 0.01
    merge_adapters(backbone)
    torch.testing.assert_close(embed(backbone), changed, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("adapter", MERGED)
def test_merging_twice_is_merging_once(adapter: str, layers: Any, apply: Any, perturb: Any) -> None:
    backbone = layers(layer=nn.Linear(12, 20))
    perturb(backbone, apply(backbone, adapter))
    merge_adapters(backbone)
    once = copy.deepcopy(backbone.state_dict())
    merge_adapters(backbone)
    assert all(torch.equal(t, once[n]) for n, t in backbone.state_dict().items())


def test_weights_that_would_not_be_finite_are_not_merged(layers: Any, apply: Any) -> None:
    backbone = layers(layer=nn.Linear(12, 20))
    apply(backbone, "lora")
    backbone.layer.lora.b.data.fill_(float("inf"))
    with pytest.raises(TrainingError, match=r"merging adapter 'lora' makes 'weight'.* not finite"):
        merge_adapters(backbone)


def test_half_precision_weights_are_merged_in_single_precision(
    layers: Any, apply: Any, perturb: Any
) -> None:
    backbone = layers(layer=nn.Linear(12, 20))
    perturb(backbone, apply(backbone, "lora(rank=2)"))
    exact = backbone.layer.weight.double() + backbone.layer.lora.update(
        backbone.layer.weight.double()
    )
    backbone.layer.weight.data = backbone.layer.weight.data.bfloat16()
    start = backbone.layer.weight.double()
    exact = start + backbone.layer.lora.update(start)
    merge_adapters(backbone)
    assert torch.equal(backbone.layer.weight, exact.bfloat16())


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
def test_a_backbone_with_adapters_can_be_copied_and_pickled(
    copied: Any, layers: Any, apply: Any, perturb: Any, embed: Any
) -> None:
    backbone = layers(layer=nn.Linear(12, 20))
    attention = nn.MultiheadAttention(12, 3)
    backbone.add_module("unused", attention)
    perturb(backbone, apply(backbone, "lora"))
    twin = copied(backbone)
    assert torch.equal(embed(twin), embed(backbone))
    merge_adapters(twin)
    assert "layer.lora.a" in backbone.state_dict()
    assert type(backbone.layer) is not nn.Linear
    assert type(twin.layer) is nn.Linear


class SelfAttention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(12, 3, batch_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x.flatten(2).transpose(1, 2)
        output: torch.Tensor = self.attention(x, x, x, need_weights=False)[0]
        return output


@pytest.mark.parametrize("adapter", ["lora(rank=2)", "dora(rank=2)"])
def test_multi_head_attention_is_adapted_through_its_weights(
    adapter: str, layers: Any, apply: Any, perturb: Any, embed: Any
) -> None:
    """Its projections are never called: only their weights are read."""
    backbone = layers(block=SelfAttention())
    plain = embed(backbone)
    trained = apply(backbone, adapter)
    owners = {n.partition("." + adapter[:4])[0] for n in trained}
    assert owners == {"block.attention", "block.attention.out_proj"}
    torch.testing.assert_close(embed(backbone), plain)
    perturb(backbone, trained)
    changed = embed(backbone)
    assert (changed - plain).abs().max() > 0.01
    merge_adapters(backbone)
    torch.testing.assert_close(embed(backbone), changed, rtol=1e-4, atol=1e-4)


@pytest.mark.exhaustive
def test_the_attention_of_torchvision_is_adapted(apply: Any, perturb: Any, embed: Any) -> None:
    backbone = load_backbone("torchvision/vit_b_16", None, size=32)
    plain = embed(backbone, 32)
    trained = apply(backbone, "lora(rank=2, targets=['*.encoder_layer_0.self_attention*'])")
    ends = {n.split("self_attention.")[1] for n in trained}
    assert ends == {"lora.a", "lora.b", "out_proj.lora.a", "out_proj.lora.b"}
    perturb(backbone, trained)
    changed = embed(backbone, 32)
    assert (changed - plain).abs().max() > 1e-4
    merge_adapters(backbone)
    torch.testing.assert_close(embed(backbone, 32), changed, rtol=1e-4, atol=1e-4)


class Attention(nn.Module):
    """Reads the weight of its projection, as some attentions do, and never calls it."""

    def __init__(self) -> None:
        super().__init__()
        self.proj = nn.Linear(12, 20)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.linear(x.flatten(2).transpose(1, 2), self.proj.weight, self.proj.bias)


@pytest.mark.parametrize("adapter", ["lora", "dora"])
def test_a_layer_whose_weight_is_read_is_adapted_through_its_weight(
    adapter: str, layers: Any, apply: Any, perturb: Any, embed: Any
) -> None:
    backbone = layers(attention=Attention())
    plain = embed(backbone)
    perturb(backbone, apply(backbone, adapter))
    changed = embed(backbone)
    assert (changed - plain).abs().max() > 0.01
    merge_adapters(backbone)
    torch.testing.assert_close(embed(backbone), changed, rtol=1e-4, atol=1e-4)


def test_a_layer_takes_one_adapter(layers: Any, apply: Any) -> None:
    backbone = layers(layer=nn.Linear(12, 20))
    with pytest.raises(
        OptionError,
        match="adapter 'ia3' cannot be put into layer 'layer': it has adapter 'lora' already; choose",
    ):
        apply(backbone, "lora", "ia3")


def test_an_adapter_is_applied_once(layers: Any, apply: Any) -> None:
    with pytest.raises(OptionError, match="adapter 'lora' is given twice"):
        apply(layers(layer=nn.Linear(12, 20)), "lora", "lora(rank=2)")
