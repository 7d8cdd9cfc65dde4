"""Outputs equal those of the package peft with the same factors, before and after merging."""

from __future__ import annotations

import copy
from functools import cache
from typing import Any

import pytest
import torch
from torch import nn

from visiongraft.adaptation.backbones import merge_adapters
from visiongraft.lookup.backbones import load_backbone

pytestmark = pytest.mark.slow

VIT = ["qkv", "proj", "fc1", "fc2"]
CNN = ["layer?.0.conv1", "layer?.0.conv2"]
THEIR_CNN = r".*layer\d\.0\.conv[12]"


@cache
def peft() -> Any:
    """Import peft where it is needed: it takes seconds, and each worker process collects all tests."""
    return pytest.importorskip("peft", reason="peft is the oracle; install the extra 'dev'")


def lora(targets: Any, **options: Any) -> Any:
    return peft().LoraConfig(r=3, lora_alpha=5, target_modules=targets, **options)


CASES = {
    "lora on a ViT": (
        "timm/test_vit",
        f"lora(rank=3, alpha=5, targets={VIT})",
        lambda: lora(VIT),
    ),
    "rslora on a ViT": (
        "timm/test_vit",
        f"lora(rank=3, alpha=5, rslora=True, targets={VIT})",
        lambda: lora(VIT, use_rslora=True),
    ),
    "dora on a ViT": (
        "timm/test_vit",
        f"dora(rank=3, alpha=5, targets={VIT})",
        lambda: lora(VIT, use_dora=True),
    ),
    "ia3 on a ViT": (
        "timm/test_vit",
        "ia3(targets=['qkv'], inputs=['fc2'])",
        lambda: peft().IA3Config(target_modules=["qkv", "fc2"], feedforward_modules=["fc2"]),
    ),
    "lora on a CNN": (
        "timm/test_resnet",
        f"lora(rank=3, alpha=5, targets={CNN})",
        lambda: lora(THEIR_CNN),
    ),
    "dora on a CNN": (
        "timm/test_resnet",
        f"dora(rank=3, alpha=5, targets={CNN})",
        lambda: lora(THEIR_CNN, use_dora=True),
    ),
    "ia3 on a CNN": (
        "timm/test_resnet",
        f"ia3(targets={CNN[:1]}, inputs={CNN[1:]})",
        lambda: peft().IA3Config(
            target_modules=THEIR_CNN, feedforward_modules=THEIR_CNN.replace("[12]", "2")
        ),
    ),
}


def theirs(module: nn.Module) -> dict[str, torch.Tensor]:
    """Return the parameters of one layer of peft by our names; empty if it has no adapter."""
    found = {}
    for mine, attribute in (
        ("lora.a", "lora_A"),
        ("lora.b", "lora_B"),
        ("m", "lora_magnitude_vector"),
    ):
        held = getattr(module, attribute, {})
        if "default" in held:
            found[mine.partition(".")[2] or mine] = held["default"].weight
    if hasattr(module, "ia3_l"):
        found["factor"] = module.ia3_l["default"]
    return found


@pytest.mark.parametrize("case", CASES)
def test_outputs_equal_those_of_peft(case: str, apply: Any, perturb: Any, embed: Any) -> None:
    name, adapter, config = CASES[case]
    torch.manual_seed(0)
    backbone = load_backbone(name, None, size=32)
    with torch.no_grad():
        for parameter in backbone.parameters():
            if (
                parameter.ndim == 1
            ):  # some norms scale by 0 at first, which hides what is before them
                parameter.add_(0.3)
    plain = embed(backbone, 32)
    oracle = peft().get_peft_model(copy.deepcopy(backbone), config())
    perturb(backbone, apply(backbone, adapter))
    short, copied = adapter.partition("(")[0], 0
    with torch.no_grad():
        for path, module in oracle.base_model.model.named_modules():
            for part, tensor in theirs(module).items():
                mine = backbone.get_parameter(f"{path}.{short}.{part}")
                tensor.copy_(mine.reshape(tensor.shape))
                copied += 1
    assert copied == sum(f".{short}." in n for n, _ in backbone.named_parameters())
    ours, expected = embed(backbone, 32), embed(oracle, 32)
    assert (ours - plain).abs().max() > 0.01
    torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-4)
    merge_adapters(backbone)
    torch.testing.assert_close(embed(backbone, 32), expected, rtol=1e-4, atol=1e-4)
